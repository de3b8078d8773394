"""Candidates that a search is given: in order, once, of its space, kept for its resumption."""

import json

import pytest

from paredown.search.proposing.given import Given, InitialError, initial_candidates, keep_initial
from paredown.spaces.candidates.candidate import Candidate, LayerChoice
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.space import Space
from paredown.spaces.knobs.weight_bits import WeightBitsKnob

FOREIGN = Candidate.of(layers={"elsewhere": LayerChoice(weight_bits=2)})


@pytest.fixture
def space(mapped):
    knobs = tuple(
        WeightBitsKnob(name=f"{name}:b", targets=(name,), domain=(32, 4, 2))
        for name in ("layers.1", "layers.4")
    )
    return Space(architectures=(Architecture(name="", model_map=mapped("mlp"), knobs=knobs),))


def of_bits(bits):
    return Candidate.of(layers={"layers.1": LayerChoice(weight_bits=bits)})


def test_each_is_suggested_once_in_order_but_for_what_is_known():
    first, second, third = of_bits(8), of_bits(4), of_bits(2)
    given = Given([first, second, third])
    assert given.suggest({second.key}) == first
    assert given.suggest({second.key}) == third
    assert given.suggest(set()) is None


@pytest.mark.parametrize("wrapped", [False, True], ids=["candidates", "front.json"])
def test_what_is_in_the_space_is_kept_and_read_again(space, tmp_path, wrapped):
    source, kept = tmp_path / "front.json", tmp_path / "initial.json"
    entries = [dict(c.to_json()) for c in (of_bits(4), FOREIGN, of_bits(2))]
    source.write_text(
        json.dumps([{"candidate": e, "key": "k"} if wrapped else e for e in entries])
    )
    keep_initial(source, space, kept, is_resumed=False)
    assert initial_candidates(kept) == [of_bits(4), of_bits(2)]


def test_a_resumed_search_does_not_read_the_file_again(space, tmp_path):
    kept = tmp_path / "initial.json"
    keep_initial(tmp_path / "gone.json", space, kept, is_resumed=True)
    assert initial_candidates(kept) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "a file that can be read is needed"),
        ("{", "candidates are needed"),
        ('{"a": 1}', "candidates are needed"),
        ("[1]", "candidates are needed"),
        ('[{"layers": {"layers.1": {"weight_bit": 2}}}]', "candidates are needed"),
        (json.dumps([FOREIGN.to_json()]), "got 1 of which none is"),
        ("[]", "got 0 of which none is"),
    ],
)
def test_a_file_of_something_else_is_refused_in_one_sentence(space, tmp_path, text, said):
    source = tmp_path / "front.json"
    if text is not None:
        source.write_text(text)
    with pytest.raises(InitialError, match=r"^search\.initial: ") as refused:
        keep_initial(source, space, tmp_path / "initial.json", is_resumed=False)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "initial.json").exists()


def test_what_was_kept_and_is_damaged_is_noticed(space, tmp_path):
    source, kept = tmp_path / "front.json", tmp_path / "initial.json"
    source.write_text(json.dumps([of_bits(4).to_json()]))
    keep_initial(source, space, kept, is_resumed=False)
    kept.write_text(kept.read_text().replace('"weight_bits": 4', '"weight_bits": 2'))
    with pytest.raises(InitialError, match="restore it"):
        initial_candidates(kept)
