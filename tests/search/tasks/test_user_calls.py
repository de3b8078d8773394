"""What the user's code raises comes out as one error that shows the user's own lines."""

import importlib.util
import json
import sys

import pytest

from paredown.search.tasks.user_calls import UserCodeError, called, own_lines

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
