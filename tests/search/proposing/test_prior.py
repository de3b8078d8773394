"""What earlier runs teach is checked, copied into the run's folder, and read from there alone."""

import json
import shutil

import pytest

from paredown.search.config.reading import load_config
from paredown.search.proposing.outlook import Outlook, Pair
from paredown.search.proposing.prior import PriorError, first_outlook, keep_earlier_runs
from paredown.search.study.evaluation import UNCOMPRESSED, Evaluation, Goal
from paredown.search.study.journal import Journal, hold
from paredown.search.study.run_record import JOURNAL
from paredown.search.study.rung import Recipe, Rung
from paredown.spaces.candidates.candidate import Candidate, LayerChoice
from paredown.spaces.system.sealed import read_sealed, write_sealed

GOALS = (
    Goal(metric="accuracy", direction="maximize"),
    Goal(metric="onnx_bytes", direction="minimize"),
)
TRAINED = Rung(number=1, recipe=Recipe(trainer="t 1", steps=10))
SCORES = (("a", 0.8, Rung()), ("b", 0.7, Rung()), ("a", 0.85, TRAINED), ("b", 0.8, TRAINED))


@pytest.fixture
def write_run(tmp_path):
    """(name, scores, quality) -> the folder of a run whose uncompressed model scores 0.9."""

    def write(name, scores=SCORES, quality="accuracy"):
        goals = (Goal(metric=quality, direction="maximize"), GOALS[1])
        folder = tmp_path / name
        journal = Journal.open(folder / JOURNAL, goals, resume=False, lock=hold(folder / JOURNAL))
        for number, (label, value, rung) in enumerate([(UNCOMPRESSED, 0.9, Rung()), *scores]):
            bits = {"a": 2, "b": 1}.get(label, 32)
            candidate = Candidate.of(layers={"conv": LayerChoice(weight_bits=bits)})
            evaluation = Evaluation(
                number=number,
                key=candidate.key,
                candidate=candidate,
                label=label if label == UNCOMPRESSED else "",
                rung=rung,
                metrics={quality: value, "onnx_bytes": 100.0},
                trained=label if rung == TRAINED else None,
            )
            journal.append(evaluation, {}, {})
        journal.close()
        return folder

    return write


@pytest.fixture
def config_of(tmp_path, monkeypatch):
    """(folders) -> a config that names them, relative to the current folder."""
    monkeypatch.chdir(tmp_path)

    def read(*folders):
        path = tmp_path / "configs" / "config.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            "task: {name: digits}\ngoals: [{metric: accuracy}, {metric: onnx_bytes}]\n"
            f"recovery: {{prior: [{', '.join(folders)}]}}\n"
        )
        return load_config(path)

    return read


def kept(config, file, is_resumed=False):
    keep_earlier_runs(config, file, is_resumed=is_resumed)
    return first_outlook(file, GOALS, is_trained=True)


def test_without_earlier_runs_there_is_no_file(config_of, tmp_path):
    file = tmp_path / "prior.json"
    assert kept(config_of(), file) == Outlook.of_training(GOALS)
    assert kept(config_of(), file, is_resumed=True) == Outlook.of_training(GOALS)
    assert not file.exists()
    assert first_outlook(file, GOALS, is_trained=False) == Outlook()


def test_pairs_of_all_runs_are_kept_and_learned_from(config_of, write_run, tmp_path):
    write_run("one")
    write_run("two", [("a", 0.6, Rung()), ("a", 0.6, TRAINED)])
    file = tmp_path / "prior.json"
    outlook = kept(config_of("one", "two"), file)
    runs = read_sealed(file)["runs"]
    assert [run["name"] for run in runs] == ["one", "two"]
    pairs = [(p["before"], p["after"]) for run in runs for p in run["pairs"]["accuracy"]]
    assert pairs == [pytest.approx(each) for each in ((0.1, 0.05), (0.2, 0.1), (0.3, 0.3))]
    same = {"accuracy": [Pair("a", 0.1, 0.05), Pair("b", 0.2, 0.1), Pair("c", 0.3, 0.3)]}
    expected = Outlook.of_training(GOALS).learning(same)
    assert outlook.left == pytest.approx(dict(expected.left))
    assert outlook.spread == pytest.approx(dict(expected.spread))


def test_a_resumed_search_needs_no_other_run(config_of, write_run, tmp_path):
    folder = write_run("one")
    file = tmp_path / "prior.json"
    outlook = kept(config_of("one"), file)
    shutil.rmtree(folder)
    assert kept(config_of("one"), file, is_resumed=True) == outlook


@pytest.mark.parametrize(("began", "named"), [(["one"], []), ([], ["one"])])
def test_a_resumed_search_keeps_what_it_began_with(config_of, write_run, tmp_path, began, named):
    write_run("one")
    file = tmp_path / "prior.json"
    kept(config_of(*began), file)
    with pytest.raises(PriorError, match=r"recovery\.prior: .* began with, got .* restore them"):
        keep_earlier_runs(config_of(*named), file, is_resumed=True)


@pytest.mark.parametrize(
    ("scores", "quality", "says"),
    [
        (None, "", r"recovery\.prior\[1\]: a run folder holds study\.journal, got .*two without"),
        (SCORES[:2], "accuracy", r"recovery\.prior\[1\]: .* must have trained candidates .*two"),
        (SCORES, "f1", r"recovery\.prior\[1\]: .* scored accuracy, .*two with f1, onnx_bytes"),
    ],
)
def test_what_teaches_nothing_is_refused_by_its_place(
    config_of, write_run, tmp_path, scores, quality, says
):
    write_run("one")
    if scores is not None:
        write_run("two", scores, quality)
    file = tmp_path / "prior.json"
    with pytest.raises(PriorError, match=says):
        keep_earlier_runs(config_of("one", "two"), file, is_resumed=False)
    assert not file.exists()


@pytest.mark.parametrize(
    "runs",
    [
        3,
        [{"name": "one"}],
        [{"name": "one", "pairs": {"accuracy": [[0.1, 0.2]]}}],
        [{"name": "one", "pairs": {"accuracy": [{"key": "a", "before": 0.1}]}}],
        [{"name": "one", "pairs": {"accuracy": [{"key": "a", "before": 0.1, "after": "much"}]}}],
        [{"name": "one", "pairs": {"accuracy": [{"key": "a", "before": -0.1, "after": 0.1}]}}],
        [
            {
                "name": "one",
                "pairs": {"accuracy": [{"key": "a", "before": 1, "after": 1, "more": 1}]},
            }
        ],
    ],
)
def test_a_file_with_something_else_is_refused(runs, tmp_path):
    file = tmp_path / "prior.json"
    write_sealed(file, {"runs": runs})
    with pytest.raises(PriorError, match="restore it, or start a new run"):
        first_outlook(file, GOALS, is_trained=True)


def test_a_damaged_file_is_refused(config_of, write_run, tmp_path):
    write_run("one")
    file = tmp_path / "prior.json"
    kept(config_of("one"), file)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"runs": []}))
    with pytest.raises(PriorError, match="does not match its digest"):
        first_outlook(file, GOALS, is_trained=True)
