"""Runs the user's functions, so that what they raise is reported as theirs.

A mistake in the user's code ends a command as any other mistake does: with what was called, what it
raised, and those lines of the traceback that are the user's own.
"""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from paredown.spaces.system.errors import ParedownError

_PACKAGES = ("search", "spaces", "compressors", "hardware_models")
_OURS = tuple(Path(str(files(f"paredown.{package}"))).resolve() for package in _PACKAGES)
_STANDARD = Path(sysconfig.get_path("stdlib")).resolve()
INSTALLED = frozenset({"site-packages", "dist-packages"})
"""Folders of packages that are installed and not the user's own."""
_MOST_LINES = 5

UserFunction = Callable[..., object]
"""A function of the user's own: what it takes and returns is checked where it is called."""


class UserCodeError(ParedownError):
    """The user's code cannot be imported, raises, or does not return what it should."""


@contextmanager
def called(what: str, remedy: str = "correct it") -> Iterator[None]:
    """Whatever the code inside raises comes out as a `UserCodeError` that begins with `what`.

    `SystemExit` counts as well: a call of `sys.exit` in the user's code would end the command without a
    word. Only calls of the user's functions belong inside, for a fault of ours would look like theirs.
    """
    try:
        yield
    except UserCodeError:
        raise
    except (Exception, SystemExit) as error:
        raise UserCodeError(_report(what, error, remedy)) from error


def _report(what: str, error: BaseException, remedy: str) -> str:
    said = " ".join(str(error).split())
    raised = type(error).__name__ + (f": {said[:600]}" if said else "")
    lines = own_lines(error)
    text = f"{what} raised {raised}; {remedy}"
    return "\n  ".join([f"{text}:", *lines]) if lines else text


def own_lines(error: BaseException) -> list[str]:
    """The last lines of the user's own code in a traceback, the innermost last."""
    found = [
        f"{frame.filename}:{frame.lineno}, in {frame.name}: {frame.line or ''}".rstrip(": ")
        for frame in traceback.extract_tb(error.__traceback__)
        if _is_users(frame.filename)
    ]
    if isinstance(error, SyntaxError) and error.filename:
        found.append(f"{error.filename}:{error.lineno}: {(error.text or '').strip()}")
    return found[-_MOST_LINES:]


def _is_users(filename: str) -> bool:
    path = Path(filename)
    if not path.is_absolute() or not INSTALLED.isdisjoint(path.parts):
        return False
    path = path.resolve()
    return not any(path.is_relative_to(folder) for folder in (*_OURS, _STANDARD))
