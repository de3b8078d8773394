"""Ranks by error reach the space of a search, the same for whoever draws it, and are found once."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch

from paredown.compressors.low_rank.factorizing import compose, factorize
from paredown.compressors.matrix.algebra import centred_gram, row_errors, to_matrix
from paredown.search.config.reading import Config, load_config
from paredown.search.evaluating.surveying import Surveyed, survey
from paredown.search.space import found_ranks
from paredown.search.space.found_ranks import Question, RankFileError, read_ranks
from paredown.search.tasks.collecting import Collected
from paredown.spaces.candidates.candidate import Candidate, LayerChoice
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.candidates.factors import factor_chain, full_ranks
from paredown.spaces.knobs.low_rank import RankKnob

CONFIG = """
task: {name: digits, calibration_images: 64}
space:
  rules:
    - {layers: "*", weight_bits: [4, 32], method: [rtn]}
    - {layers: "block*", rank_fraction: [1.0, 0.3], rank_error: [0.05, 0.2],
       decomposition: [channel, spatial, tucker]}
    - {groups: "*", width: [1.0, 0.5]}
hardware: {latency: roofline, device: x86-avx512-vnni-ort}
goals: [{metric: accuracy}, {metric: onnx_bytes}]
search: {engine: local}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    path = tmp_path_factory.mktemp("config") / "ranks.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return load_config(path)


@pytest.fixture(scope="module")
def surveyed(config: Config) -> Surveyed:
    torch.set_num_threads(1)
    return survey(config)


def rank_domains(surveyed: Surveyed) -> dict[str, tuple[object, ...]]:
    (architecture,) = surveyed.space.architectures
    return {k.name: k.domain for k in architecture.knobs if isinstance(k, RankKnob)}


def test_every_rank_found_is_a_value_that_gives_it_and_keeps_its_error(surveyed: Surveyed) -> None:
    (architecture,) = surveyed.space.architectures
    statistics = surveyed.collected.of("").statistics
    asked = surveyed.ranks.asked
    assert {q.layer for q in asked} == {n for n in statistics if n.startswith("block")}
    two = 0
    for question, found in asked.items():
        assert found is not None
        layer = architecture.model_map.layer_by_name[question.layer]
        chains = {
            value: factor_chain(layer, layer.weight_shape, value)
            for value in architecture.ranks[layer.name]
        }
        giving = [
            value
            for value, chain in chains.items()
            if [link.shape[0] for link in chain[:-1]] == list(found.ranks)
            and value.form == question.form
        ]
        (value,) = giving
        two += value.written_share is not None
        own = statistics[layer.name]
        matrix = to_matrix(surveyed.captured[""].tensors[layer.weight], layer)
        assert layer.bias is not None
        gram = centred_gram(own.gram, own.input_mean)
        change = compose(factorize(matrix, gram, chains[value])) - matrix
        lost = float(row_errors(change, gram).sum() / row_errors(matrix, gram).sum())
        assert lost == pytest.approx(found.lost, rel=1e-6)
        assert lost <= question.error
        # What is priced and exported has these very ranks.
        choice = LayerChoice(rank=value)
        blueprint = draft(architecture.model_map, Candidate.of(layers={layer.name: choice}))
        parts = [each for each in blueprint.operators if each.layer == layer.name]
        shapes = [blueprint.storage[each.weight].shape for each in parts]
        assert [shape[0] for shape in shapes[:-1]] == list(found.ranks)
    assert two >= 4


def test_settings_decode_and_encode_to_themselves_and_narrow_layers_take_the_same_shares(
    surveyed: Surveyed,
) -> None:
    space = surveyed.space
    (architecture,) = space.architectures
    draw = random.Random(0)
    sizes = space.dimensions()
    keys = {}
    narrowed = 0
    for _ in range(150):
        candidate = space.decode({name: draw.randrange(size) for name, size in sizes.items()})
        assert space.decode(space.encode(candidate)) == candidate
        assert Candidate.from_json(json.loads(json.dumps(candidate.to_json()))) == candidate
        keys[candidate.key] = candidate
        blueprint = draft(architecture.model_map, candidate)
        for name, choice in candidate.layers:
            parts = [each for each in blueprint.operators if each.layer == name]
            if choice.rank.share == 1 or choice.rank.form != "tucker":
                continue
            read, kernel, last = (blueprint.storage[each.weight].shape for each in parts)
            fulls = full_ranks("tucker", (last[0], read[1], *kernel[2:]))
            shares = (choice.rank.share, choice.rank.written_share or choice.rank.share)
            wanted = [max(1, round(s * f)) for s, f in zip(shares, fulls, strict=True)]
            assert [read[0], kernel[0]] == wanted
            layer = architecture.model_map.layer_by_name[name]
            narrowed += (last[0], read[1]) != layer.weight_shape[:2]
    assert len(keys) > 100
    assert narrowed > 10


def test_a_second_survey_finds_nothing_anew_and_draws_the_same(
    config: Config, surveyed: Surveyed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("found again")

    monkeypatch.setattr(found_ranks, "thinnest_ranks", never)
    assert survey(config).space == surveyed.space


def test_what_a_run_began_with_is_taken_as_it_is_without_statistics(
    config: Config, surveyed: Surveyed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = surveyed.ranks.to_json()
    tampered = next(e for e in entries if e["form"] == "channel" and e["error"] == 0.2)
    tampered["ranks"][0] += 1
    file = tmp_path / "ranks.json"
    file.write_text(json.dumps(entries))

    def never(*_: object) -> None:
        raise AssertionError("statistics are not needed")

    with monkeypatch.context() as patched:
        patched.setattr(Collected, "of", never)
        again = survey(config, file)
    assert again.ranks.to_json() == entries
    changed = {k for k, v in rank_domains(again).items() if v != rank_domains(surveyed)[k]}
    assert changed == {f"{tampered['layer']}:rank_fraction"}

    # An error that is new is found beside those that are known.
    (rule,) = [r for r in config.space.rules if getattr(r, "rank_error", None)]
    wider = rule.model_copy(update={"rank_error": (0.05, 0.1, 0.2)})
    rules = tuple(wider if r is rule else r for r in config.space.rules)
    space = config.space.model_copy(update={"rules": rules})
    more = survey(config.model_copy(update={"space": space}), file)
    known = {json.dumps(entry) for entry in more.ranks.to_json()}
    assert known > {json.dumps(entry) for entry in entries}
    assert {q.error for q in more.ranks.asked} == {0.05, 0.1, 0.2}


@pytest.mark.parametrize("text", ["[", "{}x", "3", '[{"layer": "a"}]', '["a"]'])
def test_a_damaged_file_of_ranks_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "ranks.json"
    file.write_text(text)
    with pytest.raises(RankFileError, match="start a new run"):
        read_ranks(file)


def test_there_need_be_no_file(tmp_path: Path) -> None:
    assert read_ranks(None) == read_ranks(tmp_path / "ranks.json") == {}
    question = Question(architecture="", layer="a", form="tucker", step=1, error=0.1)
    file = tmp_path / "one.json"
    file.write_text(json.dumps([vars(question) | {"ranks": None, "lost": None}]))
    assert read_ranks(file) == {question: None}
