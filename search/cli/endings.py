"""How commands end: the exit codes, and what is printed where one does not do what was asked.

Exit codes: 0 done; 1 a bundle does not hold, or nothing was found; 2 a mistake in what was asked;
130 interrupted by Ctrl-C and 143 by SIGTERM, both with front and report written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from paredown.search.report.terminal import Terminal
from paredown.search.study.disk import is_disk_full, is_unusable
from paredown.spaces.system.errors import ParedownError
from paredown.spaces.system.json_values import Json

FAILED, MISTAKE, INTERRUPTED, TERMINATED = 1, 2, 130, 143


def mistake(message: str) -> typer.Exit:
    """The end to raise where something wrong was asked, with the message printed."""
    print_error(message)
    return typer.Exit(MISTAKE)


def failure(message: str) -> typer.Exit:
    """The end to raise where what was asked for did not come out, with the message printed."""
    print_error(message)
    return typer.Exit(FAILED)


def print_error(message: str) -> None:
    """Prints a sentence on the error stream, in red."""
    Terminal(stderr=True).print(message, style="red", soft_wrap=True)


def print_json(plain: Json) -> None:
    """Prints values for a program, and nothing else."""
    typer.echo(json.dumps(plain, indent=2))


@contextmanager
def mistakes_in_a_sentence() -> Iterator[None]:
    """Turns an error that a user can mend, raised inside, into a sentence and exit code 2.

    Any other error is a fault of the program and keeps its traceback.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except ParedownError as error:
        raise mistake(str(error)) from error
    except OSError as error:
        if is_unusable(error):
            raise mistake(
                f"files and folders must be there to read and write, got {error.filename}: "
                f"{error.strerror}; mend that or name another place, as with output.folder, --out or, "
                "for the cache, PAREDOWN_CACHE"
            ) from error
        if is_disk_full(error):
            raise mistake(
                f"there must be room to write {error.filename or 'the files of the run'}, got "
                f"{error.strerror}; make room, then a search goes on with --resume"
            ) from error
        raise
