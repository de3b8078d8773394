"""A process that evaluates one candidate after another, and whose end is one candidate's failure.

The evaluator is written once for all processes of a search and mapped into their memory from that
file, so that tensors are shared and only a candidate and its score are sent, as lines of JSON. The
process is an interpreter of its own, not a copy of its parent: neither locks nor threads are
inherited, and the user's script is not run again.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO

from paredown.search.proposing.jobs import GRACE_S, Job, Outcome, too_long
from paredown.search.study.evaluation import Failure, FailureKind
from paredown.spaces.system.json_values import Json
from paredown.spaces.system.parent_watch import end, end_own_group

if TYPE_CHECKING:
    # Torch is not loaded before the process's streams and path are set.
    from paredown.search.evaluating.scoring import Evaluator

_EVALUATOR, _WORDS = "evaluator.pt", "words-{}.txt"
_MOST_WORDS = 600
_LAST_REPLY_S = 1.0
_READY, _HELPED = {"ready": True}, {"helped": True}
_HELP = "help"


def write_evaluator(evaluator: Evaluator, folder: Path) -> None:
    """Write what the processes of `folder` evaluate with. A scratch file: none but they read it."""
    import cloudpickle
    import torch

    # By value where a metric has no module that can be imported, as Ray does.
    torch.save(evaluator, folder / _EVALUATOR, pickle_module=cloudpickle)


class EvaluationProcess:
    """One such process, started at once; its replies come through a queue shared by all.

    Args:
        folder: A scratch folder, with the evaluator in it.
        replies: Gets (this process, its reply), and (this process, None) when it ends.
    """

    def __init__(
        self,
        folder: Path,
        threads: int,
        replies: Replies,
    ) -> None:
        self.job: Job | None = None
        self.is_ready = False
        self.is_helping = False
        self._since_s = 0.0
        beginning = _Beginning(str(folder), sys.path, threads)
        command = [sys.executable, "-m", "paredown.search.running.engines.evaluation_process"]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            start_new_session=True,
        )
        self._words = folder / _WORDS.format(self._process.pid)
        self._send(asdict(beginning))
        threading.Thread(target=self._listen, args=(replies,), daemon=True).start()

    def begin(self) -> None:
        """Take its first reply: it has read the evaluator, and what it was sent counts from now."""
        self.is_ready = True
        self._since_s = time.monotonic()

    def start(self, job: Job) -> None:
        """Have `job` carried out; its reply comes through the queue."""
        self.job = job
        self._since_s = time.monotonic()
        self._send(job.to_json())

    def help(self, job: Job) -> None:
        """Have layers of a job solved that another process carries out; a reply comes at the end."""
        self.is_helping = True
        self._send({_HELP: job.to_json()})

    def helped(self) -> None:
        """Take the reply to `help`."""
        self.is_helping = False

    @property
    def is_free(self) -> bool:
        """Whether it has nothing to do."""
        return self.job is None and not self.is_helping

    def finish(self) -> Job:
        """The job it has done, or ended in; it is free for another."""
        assert self.job is not None, "a process replies to jobs alone"
        job, self.job = self.job, None
        return job

    def ended(self) -> Outcome:
        """The outcome of the job in the midst of which the process ended."""
        took_s = time.monotonic() - self._since_s
        limit = None if self.job is None else self.job.longest_s
        if limit is not None and took_s > limit + GRACE_S:
            kind, why = FailureKind.TIMED_OUT, too_long(limit)
        else:
            kind = FailureKind.ENDED_PROCESS
            why = f"the evaluation ended its process ({self.ending()})"
        failure = Failure.of_text(kind, why + self.last_words())
        return Outcome(score=None, failure=failure, duration_s=took_s)

    def ending(self) -> str:
        """How the process ended, once it has."""
        code = self._process.wait()
        if code >= 0:
            return f"exit code {code}"
        name = signal.Signals(-code).name
        return f"{name}, as when memory runs out" if name == "SIGKILL" else name

    def last_words(self) -> str:
        """What it wrote to its standard streams in its last job, on a line of its own, or ""."""
        if not self._words.is_file():
            return ""
        said = self._words.read_text(encoding="utf-8", errors="replace").strip()
        if len(said) > 2 * _MOST_WORDS:
            # Python says first where it crashed, a metric last what it did.
            said = f"{said[:_MOST_WORDS]}\n...\n{said[-_MOST_WORDS:]}"
        return f"\n{said}" if said else ""

    def close(self) -> None:
        """End it, whatever it does."""
        end(self._process)

    def _send(self, plain: dict[str, Json]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(plain).encode() + b"\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass  # it has ended, which its listener reports

    def _listen(self, replies: Replies) -> None:
        reader = threading.Thread(target=self._read, args=(replies,), daemon=True)
        reader.start()
        self._process.wait()
        # Its end alone is no end of the pipe where a metric has forked. Its last reply is read.
        reader.join(_LAST_REPLY_S)
        replies.put((self, None))

    def _read(self, replies: Replies) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                replies.put((self, json.loads(line)))


Replies = queue.Queue[tuple[EvaluationProcess, dict[str, Json] | None]]


@dataclass(frozen=True)
class _Beginning:
    """What a process is sent first."""

    folder: str
    path: list[str]
    threads: int


def _main() -> None:
    # A metric may print: its words go to a file, and the pipes are for this module alone.
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "w")
    beginning = _Beginning(**json.loads(requests.readline()))
    folder = Path(beginning.folder)
    words = os.open(
        folder / _WORDS.format(os.getpid()), os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600
    )
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, target in ((nothing, 0), (words, 1), (words, 2)):
        os.dup2(number, target)
    # Ctrl-C reaches the whole group of a terminal; what is running is finished all the same.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    jobs: queue.Queue[_Asked] = queue.Queue()
    threading.Thread(target=_receive, args=(requests, jobs), daemon=True).start()
    _evaluate_all(beginning, jobs, replies, words)


@dataclass(frozen=True)
class _Asked:
    """A job to carry out, or to help another process with."""

    job: Job
    is_help: bool


def _receive(requests: BinaryIO, jobs: queue.Queue[_Asked]) -> None:
    """Puts what is asked into `jobs`; the end of asking, by death too, is the end of the process."""
    for line in requests:
        plain = json.loads(line)
        is_help = _HELP in plain
        jobs.put(_Asked(Job.from_json(plain[_HELP] if is_help else plain), is_help))
    end_own_group()


def _evaluate_all(
    beginning: _Beginning, jobs: queue.Queue[_Asked], replies: TextIO, words: int
) -> None:
    sys.path[:] = beginning.path
    import faulthandler

    import torch

    from paredown.search.running.engines.trial import carry_out, help_out

    faulthandler.enable(file=words, all_threads=False)
    # Mapped, so that all processes share the pages; written by our parent, in a folder of its own.
    evaluator = torch.load(Path(beginning.folder) / _EVALUATOR, mmap=True, weights_only=False)
    evaluator.prepare_process(beginning.threads)
    print(json.dumps(_READY), file=replies, flush=True)
    while True:
        asked = jobs.get()
        os.ftruncate(words, 0)
        if asked.is_help:
            help_out(evaluator, asked.job)
            reply: Mapping[str, Json] = _HELPED
        else:
            reply = carry_out(evaluator, asked.job).to_json()
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    _main()
