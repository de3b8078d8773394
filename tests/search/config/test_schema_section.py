"""What no section takes: unknown keys, and values that YAML reads but nobody means."""

import math
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import ValidationError

from paredown.search.config.schema_section import Section, resolved


class Sample(Section):
    """A section with a key of each kind."""

    count: int = 1
    share: float = 0.5
    flag: bool = False
    either: bool | int = 0
    text: str = "a"
    many: tuple[float, ...] = ()
    choice: Literal[8, 32] = 8
    anything: Any = None


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"count": True}, "must be a number, got true"),
        ({"share": False}, "must be a number, got false"),
        ({"choice": True}, "must be a number, got true"),
        ({"many": [1.0, True]}, "must be a number, got true"),
        ({"share": math.inf}, "must be a finite number, got inf"),
        ({"many": (math.nan,)}, "must be a finite number, got nan"),
        ({"share": 2e15}, r"size at most 1e\+15, got 2e\+15"),
        ({"count": -(2**60)}, "got one of 61 bits"),
        ({"text": " \t"}, "must not be empty"),
        ({"text": "a\0b"}, "without null characters"),
        ({"cuont": 1}, "Extra inputs are not permitted"),
    ],
)
def test_what_nobody_means_is_refused_with_its_rule(values, says):
    with pytest.raises(ValidationError, match=says):
        Sample(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"flag": True},
        {"either": True},
        {"share": 1e15},
        {"count": 0},
        {"text": "ab c"},
        # The user's own arguments are passed on as they are.
        {"anything": math.inf},
        {"anything": ""},
        {"anything": [True, 1e300]},
    ],
)
def test_what_can_be_meant_is_kept_as_it_is(values):
    section = Sample(**values)
    ((key, value),) = values.items()
    assert getattr(section, key) == value
    assert type(getattr(section, key)) is type(value)


def test_a_section_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Sample().count = 2


def test_a_path_starts_at_its_folder_unless_it_is_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert resolved(Path("a/../b"), tmp_path) == tmp_path / "b"
    assert resolved(tmp_path / "c", Path("/elsewhere")) == tmp_path / "c"
    assert resolved(Path("~/d"), Path("/elsewhere")) == tmp_path / "home" / "d"


def test_the_home_of_nobody_is_a_mistake_of_the_user():
    with pytest.raises(ValueError, match="this machine can follow"):
        resolved(Path("~no-such-person/a"))
