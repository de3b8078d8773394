"""Verifies bundles in fresh processes, so that nothing left in memory makes a broken file look whole.

What goes wrong with one bundle is reported of that bundle alone: an exception, a process that dies and
one that hangs each become a mismatch `error`, and the bundles after it are still verified.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import torch

from paredown.search.bundles.task import TaskSource
from paredown.search.bundles.verification import Verifier
from paredown.search.config.reading import dump_config, load_config
from paredown.search.study.bundle_check import BundleCheck
from paredown.spaces.system.errors import ParedownError
from paredown.spaces.system.parent_watch import end, guarded
from paredown.spaces.system.scratch import scratch_folder

_LONGEST_S = 3600.0
_POLL_S = 0.1
_REQUEST, _RESULTS, _SAID, _CONFIG = "request.json", "results.jsonl", "said.txt", "config.yaml"


def verify_each(
    folders: Sequence[Path], source: TaskSource, longest_s: float = _LONGEST_S
) -> Iterator[BundleCheck]:
    """Verifies the bundles in one fresh process, in order, each given as soon as it is done.

    Where the process dies, its bundle is reported as broken and a new one goes on behind it.

    Args:
        longest_s: Seconds after which a bundle counts as hanging.
    """
    waiting = list(folders)
    while waiting:
        with scratch_folder() as place:
            _write_request(place, waiting, source)
            ending = yield from _results(place, waiting, longest_s)
        if waiting:
            yield broken(waiting.pop(0), ending)


def broken(folder: Path, why: str) -> BundleCheck:
    """A bundle of which nothing can be said but that checking it went wrong."""
    return BundleCheck(
        folder=folder, key=folder.name, predicted={}, measured={}, mismatches=(f"error: {why}",)
    )


def _write_request(place: Path, folders: Sequence[Path], source: TaskSource) -> None:
    request = {"folders": [str(f) for f in folders], "trusts_cards": source.trusts_cards}
    (place / _REQUEST).write_text(json.dumps(request), encoding="utf-8")
    (place / _RESULTS).touch()
    if source.config is not None:
        (place / _CONFIG).write_text(dump_config(source.config), encoding="utf-8")


def _results(
    place: Path, waiting: list[Path], longest_s: float
) -> Generator[BundleCheck, None, str]:
    """One process over what is `waiting`; each bundle leaves the list with its result.

    Returns how the process ended, for the bundle that it ended on.
    """
    command = [sys.executable, "-m", "paredown.search.bundles.verifying", str(place)]
    with (
        (place / _SAID).open("w") as said,
        (place / _RESULTS).open(encoding="utf-8") as lines,
    ):
        process = guarded(command, output=said)
        try:
            begun, since_s = "", time.monotonic()
            while waiting:
                # Asked before reading: nothing is written after the end.
                is_over = process.poll() is not None
                *whole, begun = (begun + lines.read()).split("\n")
                for line in whole:
                    since_s = time.monotonic()
                    waiting.pop(0)
                    yield BundleCheck.from_json(line)
                if is_over:
                    break
                if time.monotonic() - since_s > longest_s:
                    return f"verifying took more than {longest_s:.0f} s and was ended"
                time.sleep(_POLL_S)
        finally:
            end(process)
    words = (place / _SAID).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = f"; it said last: {' | '.join(words[-3:])[-600:]}" if words else ""
    return f"the verifying process ended with exit code {process.returncode} on it{last}"


def _verify(verifier: Verifier, folder: Path) -> BundleCheck:
    try:
        return verifier.verify(folder)
    except Exception as error:  # the boundary of one bundle: the others are still to be verified
        if isinstance(error, ParedownError):
            return broken(folder, str(error)[:600])  # a sentence of ours says it all
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}:{frame.lineno}"
        return broken(folder, f"{type(error).__name__} at {place}: {str(error)[:600]}")


def _main(place: Path) -> None:
    torch.set_num_threads(1)
    request = json.loads((place / _REQUEST).read_text(encoding="utf-8"))
    config = place / _CONFIG
    source = TaskSource(
        config=load_config(config) if config.exists() else None,
        trusts_cards=request["trusts_cards"],
    )
    verifier = Verifier(source)
    with (place / _RESULTS).open("a", encoding="utf-8") as results:
        for folder in request["folders"]:
            found = _verify(verifier, Path(folder)).to_json()
            print(json.dumps(found), file=results, flush=True)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
