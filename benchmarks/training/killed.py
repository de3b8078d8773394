"""A search that trains is killed again and again, and must end in the front of one that was left alone.

    python benchmarks/training/killed.py [--kills N] [--steps N] [--seed N] [--out FOLDER]

Both searches are of the digits, with training on two rungs in one process of its own. One runs to its end
undisturbed. The other is ended by SIGKILL, with all of its processes, at a random moment of each part of
its training, and resumed. A line is printed for each kill: where the training under way stood, and how
many were over. Then it is resumed to its end. Both fronts are compared: keys, metrics, and digests of the
trained tensors. Exit code 1 where they differ.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file

from paredown.search.study import Evaluation, JournalError, read_run

CONFIG = """\
name: digits
task: {{name: digits}}
space:
  rules: [{{layers: "*", weight_bits: [1, 2, 3], method: [rtn]}}, {{groups: "*", width: [1.0, 0.5]}}]
goals: [{{metric: accuracy}}, {{metric: onnx_bytes}}]
hardware: {{latency: roofline}}
search: {{engine: local, workers: 1, evaluations: 10, rung_images: 100, batch: 4}}
recovery:
  recipe: {{batch: 32}}
  rungs: [{{steps: {steps}, keep: 3}}, {{steps: {steps}, keep: 2}}]
  checkpoint_s: {every_s}
"""
_EVERY_S = 0.3


class EndedError(Exception):
    """A search ended where it was to be killed."""


@dataclass(frozen=True)
class Search:
    """A search in a folder of its own, run by the command, each time in a session of its own."""

    folder: Path
    steps: int

    @property
    def run_folder(self) -> Path:
        """What the command writes."""
        return self.folder / "digits"

    def start(self) -> subprocess.Popen[bytes]:
        """The command, begun or resumed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "config.yaml"
        config.write_text(CONFIG.format(steps=self.steps, every_s=_EVERY_S), encoding="utf-8")
        command = [sys.executable, "-c", "from paredown.search.cli import main; main()"]
        command += ["search", str(config), "--resume", "--set", f"output.folder={self.folder}"]
        with (self.folder / "said.txt").open("ab") as said:
            return subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)

    def finish(self) -> tuple[Evaluation, ...]:
        """Runs it to its end; the members of its front."""
        code = self.start().wait()
        if code:
            raise EndedError(f"a search must end well, got exit code {code}: {self._words()}")
        return read_run(self.run_folder).front.members

    def kill(self, target: float, wait_s: float) -> str:
        """Runs it to `target` steps, at least to another save, and `wait_s` on; where it stood then."""
        begun = self._done()
        process = self.start()
        while (done := self._done()) < target or done == begun:
            if process.poll() is not None:
                raise EndedError(
                    f"a search must train when it is killed, got its end: {self._words()}"
                )
            time.sleep(0.2)
        time.sleep(wait_s)
        kill_all(process.pid)
        process.wait()
        saved = [f"step {step} of {self.steps}" for step in self._saved()]
        return f"under way: {', '.join(saved) or 'nothing'}; trainings over: {self.trainings()}"

    def _done(self) -> int:
        """Steps of all trainings."""
        return self.trainings() * self.steps + max(self._saved(), default=0)

    def trainings(self) -> int:
        """How many are over."""
        try:
            return sum(e.trained is not None for e in read_run(self.run_folder).evaluations)
        except JournalError:  # it has no study yet
            return 0

    def _saved(self) -> list[int]:
        """Steps of the trainings under way, as they are saved."""
        steps = []
        for file in (self.run_folder / "trained").glob("*-under-way.safetensors"):
            with suppress(FileNotFoundError):  # that training is over
                steps.append(int(load_file(file)["counters"][0]))
        return steps

    def _words(self) -> str:
        return (self.folder / "said.txt").read_text(encoding="utf-8")[-600:]


def kill_all(pid: int) -> None:
    """Ends a process, its group, and all that descend from it and have groups of their own."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = entry.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        parents.setdefault(int(after_name[1]), []).append(int(entry.parent.name))
    found = [pid]
    for each in found:
        found += parents.get(each, [])
    os.killpg(pid, signal.SIGKILL)
    for each in found:
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


def differences(whole: Sequence[Evaluation], killed: Sequence[Evaluation]) -> list[str]:
    """In what two fronts differ, a line for each model; empty where they are the same."""
    one, other = _by_name(whole), _by_name(killed)
    return [
        f"{name}: {one.get(name, 'not on the front')} left alone, "
        f"{other.get(name, 'not on the front')} killed"
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name)
    ]


def _by_name(front: Sequence[Evaluation]) -> Mapping[str, str]:
    """By key and steps of training: metrics and digest, every digit of them."""
    return {
        f"{e.key} after {e.rung.recipe.steps} steps": json.dumps(
            {"trained": e.trained, **e.metrics}, sort_keys=True
        )
        for e in front
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Searches, kills, compares and prints; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--steps", type=int, default=200, help="of each training on each rung")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, default=Path("runs") / "killed")
    given = parser.parse_args(arguments)
    shutil.rmtree(given.out, ignore_errors=True)
    moments = random.Random(given.seed)
    alone, search = (Search(given.out / name, given.steps) for name in ("alone", "killed"))
    try:
        whole = alone.finish()
        total = alone.trainings() * given.steps
        for number in range(1, given.kills + 1):
            # The last part is never reached, so that no search ends before it is killed.
            target = (number - moments.random()) / (given.kills + 1) * total
            stood = search.kill(target, moments.uniform(0.0, _EVERY_S))
            print(f"kill {number:2}: {stood}", flush=True)
        killed = search.finish()
    except EndedError as error:
        print(error)
        return 1
    found = differences(whole, killed)
    trained = sum(e.trained is not None for e in whole)
    same = f"the same {len(whole)} models, {trained} of them trained: keys, metrics and digests"
    print("\n".join(found) or f"both fronts hold {same}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
