"""The app behind the command `paredown`: how commands join it, and how their ends are told.

Exit codes: 0 done; 1 a bundle does not hold, or nothing was found; 2 a mistake in what was asked;
130 interrupted by Ctrl-C and 143 by SIGTERM, both with front and report written.
"""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
import json
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.highlighter import NullHighlighter
from rich.logging import RichHandler
from rich.markup import escape

from paredown.search.report.terminal import Terminal
from paredown.search.study.disk import is_disk_full, is_unusable

FAILED, MISTAKE, INTERRUPTED, TERMINATED = 1, 2, 130, 143


def _epilog(*examples: str) -> str:
    """Examples under a command's help, one a line."""
    return "\n".join(["[bold]Examples[/bold]", *(f"[cyan]{escape(e)}[/cyan]" for e in examples)])


app = typer.Typer(
    name="paredown",
    help="Search how far a network can be compressed, and export what holds up.",
    epilog=_epilog(
        "paredown search examples/digits.yaml",
        "paredown ui runs/digits",
        'paredown export runs/digits --pick "onnx_bytes <= 0.2x, max accuracy"',
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    # `main` prints what is not a mistake of the user, so that it passes the terminal's fence.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

AsJson = Annotated[bool, typer.Option("--json", help="Plain values for a program.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, as runs/digits.")]


_LOUDNESS: ContextVar[int] = ContextVar("loudness", default=0)
"""Below 0 quiet, above 0 verbose; `command` sets it for the command that runs."""
_LOUDNESS_OPTIONS = {
    "quiet": Annotated[
        bool, typer.Option("--quiet", "-q", help="Print results and errors, no progress.")
    ],
    "verbose": Annotated[
        bool, typer.Option("--verbose", "-v", help="Print every evaluation and details.")
    ],
}


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"paredown {importlib.metadata.version('paredown')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Options of `paredown` itself."""


def command(name: str, *examples: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers a command whose mistakes are told in a sentence, without a traceback."""

    def register(action: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(action)
        def guarded(**arguments: Any) -> None:
            quiet, verbose = arguments.pop("quiet"), arguments.pop("verbose")
            if quiet and verbose:
                raise mistake("a command is quiet or verbose, got --quiet and --verbose; drop one")
            try:
                with _sigterm_as_interrupt(), _loudness(verbose - quiet):
                    action(**arguments)
            except KeyboardInterrupt:
                raise typer.Exit(INTERRUPTED) from None
            except ValueError as error:
                # Every error of ours that a user can mend is a ValueError with a class of its own.
                if not type(error).__module__.startswith("paredown."):
                    raise
                raise mistake(str(error)) from error
            except OSError as error:
                if is_unusable(error):
                    raise mistake(
                        f"files and folders must be there to read and write, got "
                        f"{error.filename}: {error.strerror}; mend that or name another place, as "
                        "with output.folder, --out or, for the cache, PAREDOWN_CACHE"
                    ) from error
                if not is_disk_full(error):
                    raise
                raise mistake(
                    f"there must be room to write {error.filename or 'the files of the run'}, got "
                    f"{error.strerror}; make room, then a search goes on with --resume"
                ) from error

        own = inspect.signature(action, eval_str=True)
        common = [
            inspect.Parameter(
                option, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation
            )
            for option, annotation in _LOUDNESS_OPTIONS.items()
        ]
        signature = own.replace(parameters=[*own.parameters.values(), *common])
        guarded.__signature__ = signature  # type: ignore[attr-defined]
        app.command(name, epilog=_epilog(*examples))(guarded)
        return guarded

    return register


@contextmanager
def _loudness(level: int) -> Iterator[None]:
    """What a command prints beside its results, and which log records are shown with it."""
    handler = RichHandler(
        console=Terminal(stderr=True),
        show_time=False,
        show_path=False,
        highlighter=NullHighlighter(),
        keywords=[],
    )
    handler.setLevel({-1: logging.ERROR, 0: logging.WARNING}.get(level, logging.INFO))
    ours, everyone = logging.getLogger("paredown"), logging.getLogger()
    before = ours.level
    token = _LOUDNESS.set(level)
    everyone.addHandler(handler)
    ours.setLevel(logging.INFO if level > 0 else logging.WARNING)
    try:
        yield
    finally:
        everyone.removeHandler(handler)
        ours.setLevel(before)
        _LOUDNESS.reset(token)


def is_verbose() -> bool:
    """Whether every detail was asked for."""
    return _LOUDNESS.get() > 0


def results(*, hidden: bool = False) -> Terminal:
    """Where what was asked for is printed, unless `hidden` as a program reads JSON instead."""
    return Terminal(quiet=hidden)


def progress(*, hidden: bool = False) -> Terminal:
    """Where everything else is printed: progress, notes, what to do next; nowhere with --quiet."""
    return Terminal(quiet=hidden or _LOUDNESS.get() < 0)


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM ends what runs meanwhile as Ctrl-C does, but for the exit code.

    Schedulers and containers send it, and kill what has not ended some seconds later.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        handler = signal.getsignal(signal.SIGINT)
        if callable(handler):
            handler(signal.SIGINT, frame)
        else:  # what a script starts with & ignores Ctrl-C, and is ended by this signal all the same
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except (KeyboardInterrupt, typer.Exit) as ending:
        if received and getattr(ending, "exit_code", INTERRUPTED) == INTERRUPTED:
            raise typer.Exit(TERMINATED) from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def mistake(message: str) -> typer.Exit:
    """The end to raise where something wrong was asked, which this tells."""
    tell(message)
    return typer.Exit(MISTAKE)


def tell(message: str) -> None:
    """Prints a sentence on the error stream, in red."""
    Terminal(stderr=True).print(message, style="red", soft_wrap=True)


def tell_json(plain: Any) -> None:
    """Prints values for a program, and nothing else."""
    typer.echo(json.dumps(plain, indent=2))
