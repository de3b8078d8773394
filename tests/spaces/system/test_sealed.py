"""A sealed file comes back as it was, and no flipped bit of it goes unseen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paredown.spaces.system.sealed import DamagedFileError, read_sealed, seal, unseal, write_sealed

DATA = {
    "name": "größe",
    "rates": [1.5, -2e-7, 12345678901],
    "layers": {"conv1": {"bits": 4, "is_kept": True}, "fc": None},
    "last": "text",
}
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
names = st.text().filter(lambda name: name != "digest")


@given(st.dictionaries(names, values, max_size=5))
def test_what_was_sealed_comes_back(data: dict[str, object]) -> None:
    assert unseal(json.loads(json.dumps(seal(data))), needs_digest=True) == data


def test_tuples_and_keys_of_numbers_are_sealed_as_json_keeps_them() -> None:
    sealed = seal({"pair": (1, 2), "by_size": {10: "a", 9: "b"}})
    assert unseal(json.loads(json.dumps(sealed))) == {
        "pair": [1, 2],
        "by_size": {"10": "a", "9": "b"},
    }


def test_sealing_again_replaces_the_digest() -> None:
    first = seal({"a": 1})
    assert seal(first | {"a": 2}) == seal({"a": 2})
    assert seal({"a": 2})["digest"] != first["digest"]


@pytest.mark.parametrize("indent", [None, 1])
def test_every_flipped_bit_is_noticed_or_changes_nothing(
    tmp_path: Path, indent: int | None
) -> None:
    path = tmp_path / "sealed.json"
    write_sealed(path, DATA, indent=indent)
    whole = path.read_bytes()
    noticed = 0
    for position in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                assert read_sealed(path) == DATA
            except DamagedFileError:
                noticed += 1
    # What is left are spaces between values, and zeros behind a point.
    assert noticed > 0.95 * 8 * len(whole.replace(b" ", b"").replace(b"\n", b""))


def test_a_file_of_an_earlier_version_is_read_unless_a_digest_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps(DATA))
    assert read_sealed(path) == DATA
    with pytest.raises(DamagedFileError, match="has no digest"):
        read_sealed(path, needs_digest=True)


@pytest.mark.parametrize("text", ["", "[]", "3", '{"a": ', '{"a": NaN}', "[" * 10_000])
def test_what_is_no_mapping_is_damaged(text: str, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(DamagedFileError):
        read_sealed(path)


def test_no_file_is_not_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_sealed(tmp_path / "none.json")
