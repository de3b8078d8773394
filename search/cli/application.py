"""The app behind the command `paredown`: how commands join it, and where they print."""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.highlighter import NullHighlighter
from rich.logging import RichHandler
from rich.markup import escape

from paredown.search.cli.endings import (
    INTERRUPTED,
    TERMINATED,
    mistake,
    mistakes_in_a_sentence,
)
from paredown.search.report.terminal import Terminal

Action = Callable[..., None]
"""A command as it is written: a function whose parameters are its arguments and options."""


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


def command(name: str, *examples: str) -> Callable[[Action], Action]:
    """Registers a command, with the options that all have; its mistakes end it in one sentence."""

    def _register(action: Action) -> Action:
        @functools.wraps(action)
        def _guarded(*, quiet: bool, verbose: bool, **arguments: object) -> None:
            if quiet and verbose:
                raise mistake("a command is quiet or verbose, got --quiet and --verbose; drop one")
            with mistakes_in_a_sentence(), _sigterm_as_interrupt(), _loudness(verbose - quiet):
                action(**arguments)

        _guarded.__signature__ = _with_common_options(action)  # type: ignore[attr-defined]
        app.command(name, epilog=_epilog(*examples))(_guarded)
        return action

    return _register


def _with_common_options(action: Action) -> inspect.Signature:
    own = inspect.signature(action, eval_str=True)
    common = [
        inspect.Parameter(
            option, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation
        )
        for option, annotation in _LOUDNESS_OPTIONS.items()
    ]
    return own.replace(parameters=[*own.parameters.values(), *common])


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

    def _interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        handler = signal.getsignal(signal.SIGINT)
        if callable(handler):
            handler(signal.SIGINT, frame)
        else:  # what a script starts with & ignores Ctrl-C, and is ended by this signal all the same
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except (KeyboardInterrupt, typer.Exit) as ending:
        if received and getattr(ending, "exit_code", INTERRUPTED) == INTERRUPTED:
            raise typer.Exit(TERMINATED) from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
