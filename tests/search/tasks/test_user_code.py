"""Functions of the user: found by name, called with their arguments, and all of their own code."""

import importlib.util
import json
import sys
from types import ModuleType

import pytest

from paredown.search.tasks.user_code import (
    UserCodeError,
    call_factory,
    called,
    code_digest,
    load_function,
    own_lines,
)


@pytest.fixture
def digest_of(tmp_path, monkeypatch):
    """Writes these files, imports `losses:mine` anew as a new process would; its digest."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def imported(**files):
        for name in ("losses", "parts", "unread"):
            sys.modules.pop(name, None)
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text)
        load_function("task.loss", "losses:mine", tmp_path)
        return code_digest("losses:mine", tmp_path)

    yield imported
    for name in ("losses", "parts", "unread"):
        sys.modules.pop(name, None)


LOSSES = "from parts import weight\n\ndef mine(outputs, targets):\n    return weight * outputs\n"


def test_a_module_that_the_function_reads_counts_and_one_it_does_not_read_does_not(digest_of):
    first = digest_of(losses=LOSSES, parts="weight = 1\n", unread="x = 1\n")
    assert first == digest_of(losses=LOSSES, parts="weight = 1\n", unread="x = 2\n")
    assert first != digest_of(losses=LOSSES, parts="weight = 2\n")
    assert first != digest_of(losses=LOSSES + "# more\n", parts="weight = 1\n")


def test_a_package_elsewhere_counts_whole(tmp_path, monkeypatch):
    package = tmp_path / "elsewhere" / "losses"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from losses.inner import mine\n")
    (package / "inner.py").write_text("def mine(outputs, targets):\n    return outputs\n")
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    own = tmp_path / "own"
    own.mkdir()
    load_function("task.loss", "losses:mine", own)
    before = code_digest("losses:mine", own)
    (package / "inner.py").write_text("def mine(outputs, targets):\n    return 2 * outputs\n")
    assert code_digest("losses:mine", own) != before
    for name in ("losses", "losses.inner"):
        sys.modules.pop(name, None)


def test_an_environment_inside_the_folder_does_not_count(digest_of, tmp_path, monkeypatch):
    first = digest_of(losses=LOSSES, parts="weight = 1\n")
    for name, file in (
        ("installed", tmp_path / ".venv" / "lib" / "site-packages" / "installed.py"),
        ("__main__", tmp_path / "start.py"),
        ("paredown.extra", tmp_path / "search" / "extra.py"),
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
        module = ModuleType(name)
        module.__file__ = str(file)
        monkeypatch.setitem(sys.modules, name, module)
    assert code_digest("losses:mine", tmp_path) == first


def test_a_function_without_a_file_has_no_digest(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "unwritten", ModuleType("unwritten"))
    assert code_digest("unwritten:mine", tmp_path) is None


@pytest.mark.parametrize(
    ("key", "arguments", "says"),
    [
        ("task.data", {"rows": 3, "sede": 0}, r"task\.data_kwargs.*'sede'.*\(rows, seed=0\)"),
        ("task.model", {}, r"task\.kwargs.*got none: missing a required argument: 'rows'"),
    ],
)
def test_arguments_that_a_factory_does_not_take_are_told(
    tmp_path, digest_of, key, arguments, says
):
    digest_of(losses="def mine(rows, seed=0):\n    return rows + seed\n")
    assert call_factory(key, "losses:mine", tmp_path, {"rows": 3, "seed": 4}) == 7
    with pytest.raises(UserCodeError, match=says):
        call_factory(key, "losses:mine", tmp_path, arguments)


def test_a_mistake_inside_a_factory_is_told_with_its_place(tmp_path, digest_of):
    digest_of(losses="def mine(rows):\n    return rows + 'a'\n")
    with pytest.raises(UserCodeError, match=r"TypeError: unsupported(.|\n)*losses\.py:2, in mine"):
        call_factory("task.data", "losses:mine", tmp_path, {"rows": 3})


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("none_such:f", "no module named 'none_such'"),
        ("mine:g", "nothing of that name"),
        ("mine:number", "a int"),
        ("mine.deeper:f", "no module named"),
    ],
)
def test_code_that_is_not_there_is_named(tmp_path, clean_imports, path, says):
    (tmp_path / "mine.py").write_text("number = 3\ndef f(): return 1\n")
    assert load_function("task.data", "mine:f", tmp_path)() == 1
    with pytest.raises(UserCodeError, match=says):
        load_function("task.data", path, tmp_path)


def test_a_dependency_of_the_users_code_that_is_missing_is_named(tmp_path, clean_imports):
    (tmp_path / "mine.py").write_text("import none_such_either\n")
    with pytest.raises(UserCodeError, match="'none_such_either'; install it"):
        load_function("task.data", "mine:f", tmp_path)


def test_a_module_of_the_same_name_from_elsewhere_is_not_taken_for_the_users(
    tmp_path, clean_imports
):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text(f"def f(): return {name!r}\n")
    assert load_function("task.data", "mine:f", tmp_path / "one")() == "one"
    with pytest.raises(UserCodeError, match="rename one"):
        load_function("task.data", "mine:f", tmp_path / "two")


CODE = """\
import json

def deep(n):
    return deep(n - 1) if n else json.loads("{")

def leave():
    raise SystemExit(3)
"""


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(CODE)
    spec = importlib.util.spec_from_file_location("mine", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def caught(function, *arguments):
    with pytest.raises(UserCodeError) as error, called("task.loss: mine:deep"):
        function(*arguments)
    return error.value


def test_only_the_users_own_lines_are_shown_the_innermost_last(mine):
    error = caught(mine.deep, 0)
    first, *lines = str(error).split("\n  ")
    assert first.startswith("task.loss: mine:deep raised JSONDecodeError: ")
    assert first.endswith("; correct it:")
    # This file calls it, and is somebody's own as well; the standard library is not.
    ours, theirs = lines
    assert ours.startswith(f"{__file__}:")
    assert theirs == f"{mine.__file__}:4, in deep: {CODE.splitlines()[3].strip()}"
    assert isinstance(error.__cause__, json.JSONDecodeError)


def test_a_long_traceback_is_cut_to_its_innermost_lines(mine):
    lines = str(caught(mine.deep, 50)).split("\n  ")[1:]
    assert lines == [lines[0]] * 5
    assert "in deep" in lines[0]


def test_a_call_of_exit_is_no_silent_end(mine):
    assert "raised SystemExit: 3" in str(caught(mine.leave))


def test_an_interrupt_goes_through_and_a_refusal_is_not_wrapped_twice():
    with pytest.raises(KeyboardInterrupt), called("a"):
        raise KeyboardInterrupt
    inner = UserCodeError("once")
    with pytest.raises(UserCodeError) as error, called("a"):
        raise inner
    assert error.value is inner


def test_the_place_of_a_mistake_in_syntax_is_shown(tmp_path):
    path = tmp_path / "broken.py"
    with pytest.raises(SyntaxError) as error:
        compile("def f(:\n", str(path), "exec")
    assert own_lines(error.value)[-1] == f"{path}:1: def f(:"


def test_installed_packages_are_nobodys_own(tmp_path):
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "other.py").write_text("def f():\n    raise KeyError(1)\n")
    space = {}
    exec(compile((folder / "other.py").read_text(), str(folder / "other.py"), "exec"), space)
    lines = str(caught(space["f"]))
    assert "site-packages" not in lines
    assert sys.prefix not in lines
