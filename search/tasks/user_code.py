"""The user's code: imported from the folder of the config as `package.module:attribute`, and run.

A mistake in it ends a command as any other mistake does: with what was called, what it raised, and those
lines of the traceback that are the user's own.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from types import ModuleType

from paredown.compressors.storage.shelf import digest
from paredown.spaces.system.errors import ParedownError
from paredown.spaces.system.json_values import Json

_PACKAGES = ("search", "spaces", "compressors", "hardware_models")
_OURS = tuple(Path(str(files(f"paredown.{package}"))).resolve() for package in _PACKAGES)
_STANDARD = Path(sysconfig.get_path("stdlib")).resolve()
INSTALLED = frozenset({"site-packages", "dist-packages"})
"""Folders of packages that are installed and not the user's own."""
_MOST_LINES = 5

UserFunction = Callable[..., object]
"""A function of the user's own: what it takes and returns is checked where it is called."""
_NOT_THEIRS = ("paredown", "__main__")
"""What may lie in the user's folder and is not what their functions are made of."""


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


def load_function(key: str, import_path: str, folder: Path) -> UserFunction:
    """The callable at `import_path`, such as "my_project.model:make".

    Args:
        key: What in the config names it, such as "task.model".
        folder: Put first on the import path for good, because the user's code may import late.

    Raises:
        UserCodeError: No such module or attribute, the module raises, another one of that name was
            imported before, or the attribute cannot be called.
    """
    module_name, _, attribute = import_path.partition(":")
    module = _import(module_name, f"{key}: {import_path!r}", folder)
    found = getattr(module, attribute, None)
    if not callable(found):
        got = "nothing of that name" if found is None else f"a {type(found).__name__}"
        raise UserCodeError(
            f"{key}: {import_path!r} must name something that can be called, got {got} in "
            f"{module.__file__}; define `def {attribute}(...)` there"
        )
    return found


def call_factory(
    key: str, import_path: str, folder: Path, arguments: Mapping[str, Json]
) -> object:
    """What the factory at `import_path` returns for these arguments.

    Args:
        key: Beginning of the config's keys for it: "task.model" with "task.kwargs", or "task.data"
            with "task.data_kwargs".

    Raises:
        UserCodeError: As `load_function`, or the factory does not take these arguments, or raises.
    """
    factory = load_function(key, import_path, folder)
    try:
        inspect.signature(factory).bind(**arguments)
    except TypeError as error:
        given = "task.data_kwargs" if key == "task.data" else "task.kwargs"
        raise UserCodeError(
            f"{given}: must be arguments of {import_path}, got {', '.join(arguments) or 'none'}: "
            f"{error}; it takes {inspect.signature(factory)}"
        ) from None
    except ValueError:
        pass  # a built-in whose signature is not known
    with called(f"{key}: {import_path}"):
        return factory(**arguments)


def code_digest(import_path: str, folder: Path) -> str | None:
    """Stands for the code of an imported function: its own package, and all imported from `folder`.

    What a function imports late, when it is called, does not count, nor do installed packages, even
    where the environment lies in `folder`. None where it lies in no file.
    """
    package = import_path.partition(":")[0].partition(".")[0]
    place = folder.resolve()
    files: dict[str, Path] = {}
    for name, module in sorted(sys.modules.items()):
        file = Path(getattr(module, "__file__", None) or "").resolve()
        top = name.partition(".")[0]
        is_installed = top in _NOT_THEIRS or not INSTALLED.isdisjoint(file.parts)
        is_own = top == package or (file.is_relative_to(place) and not is_installed)
        if is_own and file.suffix == ".py" and file.is_file():
            files[name] = file
    if import_path.partition(":")[0] not in files:
        return None
    return digest(import_path, *(part for name, file in files.items() for part in (name, file)))


def _import(module_name: str, named: str, folder: Path) -> ModuleType:
    place = str(folder)
    if place not in sys.path:
        sys.path.insert(0, place)
        importlib.invalidate_caches()
    try:
        with called(f"{named}: importing {module_name}"):
            module = importlib.import_module(module_name)
    except UserCodeError as raised:
        error = raised.__cause__
        if not isinstance(error, ModuleNotFoundError):
            raise
        missing = error.name or module_name
        is_own = module_name == missing or module_name.startswith(f"{missing}.")
        remedy = (
            f"put it into {folder} or set task.code_folder (of a custom task)"
            if is_own
            else "install it"
        )
        raise UserCodeError(
            f"{named} must be importable, got no module named {missing!r}; {remedy}"
        ) from error
    _check_origin(module, module_name, folder)
    return module


def _check_origin(module: ModuleType, module_name: str, folder: Path) -> None:
    parts = module_name.split(".")
    expected = folder.joinpath(*parts)
    is_here = expected.with_suffix(".py").is_file() or (expected / "__init__.py").is_file()
    origin = Path(module.__file__ or "").resolve()
    if is_here and not origin.is_relative_to(folder.resolve()):
        raise UserCodeError(
            f"module {module_name!r} must come from {folder}, got {origin}, which was imported "
            "first; rename one of the two packages"
        )
