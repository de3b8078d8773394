"""A whole search on the digits: its folder, its front, what it refuses, a candidate that fails."""

import json

import pytest
from plotly.offline import get_plotlyjs

from paredown.search.config.reading import load_config
from paredown.search.evaluating.scoring import Evaluator
from paredown.search.running import whole_search as running
from paredown.search.running.searching import UNIFORM_4_BIT
from paredown.search.running.whole_search import run
from paredown.search.study.evaluation import UNCOMPRESSED, UNIFORM_8_BIT, FailureKind
from paredown.search.study.journal import JournalError, read_journal
from paredown.search.study.run_record import read_run
from paredown.search.tracking.mlflow_store import connect, default_uri

TOTAL = 9


def test_a_run_leaves_its_folder_with_every_record(finished):
    result, recorder = finished
    names = {path.name for path in result.folder.iterdir()}
    assert names >= {"config.yaml", "study.journal", "front.json", "report.html", "mlflow.db"}
    assert names >= {"front.html", "progress.html", "decisions.html", "parallel.html", "bundles"}
    assert len(result.evaluations) == recorder.total == TOTAL
    assert recorder.counts == list(range(1, TOTAL + 1))
    assert recorder.results == [result]
    assert not result.interrupted
    assert [e.label for e in result.evaluations][:3] == [
        UNCOMPRESSED,
        UNIFORM_8_BIT,
        UNIFORM_4_BIT,
    ]
    assert [e.number for e in result.evaluations] == list(range(TOTAL))
    assert len({e.key for e in result.evaluations}) == TOTAL


def test_pages_share_a_library_and_mlflows_page_has_its_own(finished):
    folder = finished[0].folder
    library = get_plotlyjs()
    assert (folder / "plotly.min.js").read_text() == library
    pages = sorted(folder.glob("*.html"))
    assert len(pages) == 5
    for page in pages:
        assert 'src="plotly.min.js"' in page.read_text()
        assert page.stat().st_size < 10**6
    for name in ("report.html", "front.html"):
        (tracked,) = (folder / "mlartifacts").rglob(name)
        assert tracked.read_text().count(library) == 1


def test_a_search_says_how_long_it_takes_and_counts_what_it_verifies(finished):
    result, recorder = finished
    (table,) = recorder.tables
    assert table.expected_s["search"] > 0
    total = len(result.front.members)
    assert recorder.verifications == [(done, total) for done in range(total + 1)]


def test_the_front_is_the_non_dominated_part_and_the_journal_tells_the_same(finished):
    result, _ = finished
    values = [[e.metrics["accuracy"], e.metrics["onnx_bytes"]] for e in result.evaluations]
    better = [any(b[0] >= a[0] and b[1] <= a[1] and b != a for b in values) for a in values]
    optimal = {tuple(v) for v, beaten in zip(values, better, strict=True) if not beaten}
    members = result.front.members
    assert {(m.metrics["accuracy"], m.metrics["onnx_bytes"]) for m in members} == optimal
    record = read_run(result.folder)
    assert record.evaluations == result.evaluations
    assert {m.key for m in record.front.members} == {m.key for m in members}
    written = json.loads((result.folder / "front.json").read_text())
    assert [m["key"] for m in written] == [m.key for m in members]


def test_every_point_of_the_front_is_exported_and_verified(finished):
    result, _ = finished
    assert {check.key for check in result.bundles} == {m.key for m in result.front.members}
    by_key = {m.key: m for m in result.front.members}
    for check in result.bundles:
        assert check.mismatches == ()
        size = (result.folder / check.folder / "model.onnx").stat().st_size
        assert size == by_key[check.key].metrics["onnx_bytes"] == check.measured["onnx_bytes"]


def test_where_the_time_went_stands_at_the_search_in_mlflow(finished):
    result, _ = finished
    client = connect(default_uri(result.folder))
    experiments = [each.experiment_id for each in client.search_experiments()]
    runs = client.search_runs(experiments)
    (parent,) = (run for run in runs if "paredown.key" not in run.data.tags)
    scored = result.evaluations[1:]
    found = parent.data.metrics
    assert found["seconds/scoring"] == pytest.approx(sum(e.spent.scoring_s for e in scored))
    assert found["seconds/verification"] > 0
    assert "seconds/training" not in found


def test_what_was_measured_is_on_the_cards_in_the_front_and_in_mlflow(finished):
    result, _ = finished
    written = {m["key"]: m for m in json.loads((result.folder / "front.json").read_text())}
    client = connect(default_uri(result.folder))
    experiments = [each.experiment_id for each in client.search_experiments()]
    for check in result.bundles:
        card = json.loads((result.folder / check.folder / "card.json").read_text())
        measured = written[check.key]["measured"]
        assert card["measured"]["metrics"] == measured["metrics"] == dict(check.measured)
        assert measured["metrics"]["test_accuracy"] > 0.5
        assert measured["verdict"] == "verified"
        assert measured["on_front"] in (True, False)
        readme = (result.folder / check.folder / "README.md").read_text()
        assert "| measured.verdict | verified |" in readme
        (run,) = client.search_runs(experiments, f"tags.`paredown.key` = '{check.key}'")
        kept = run.data.metrics["measured/test_accuracy"]
        assert kept == pytest.approx(check.measured["test_accuracy"])
        assert run.data.tags["measured.verdict"] == "verified"
    assert any(member["measured"]["on_front"] for member in written.values())


def test_a_second_search_in_the_folder_is_refused_before_anything_is_loaded(
    finished, search, monkeypatch
):
    result, _ = finished
    before = (result.folder / "config.yaml").read_text()

    def loaded(*_):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(running, "survey", loaded)
    with pytest.raises(JournalError, match="--resume"):
        search(result.folder.parent, "search.evaluations=99")
    assert (result.folder / "config.yaml").read_text() == before


@pytest.mark.usefixtures("unwritten")
def test_a_candidate_that_raises_is_a_recorded_failure_and_the_search_goes_on(
    finished, search, tmp_path, monkeypatch
):
    result, _ = finished
    victim = result.evaluations[4].key
    evaluate = Evaluator.evaluate

    def failing(self, candidate, rung, begins=""):
        if candidate.key == victim:
            raise ZeroDivisionError("made to fail")
        return evaluate(self, candidate, rung)

    monkeypatch.setattr(Evaluator, "evaluate", failing)
    broken = search(tmp_path)
    failed = [e for e in broken.evaluations if e.is_failed]
    assert [e.key for e in failed] == [victim]
    assert failed[0].failure.kind is FailureKind.RAISED
    assert failed[0].failure.sentence == "ZeroDivisionError: made to fail"
    assert "in failing" in failed[0].failure.where
    assert dict(failed[0].metrics) == {}
    assert len(broken.evaluations) == TOTAL
    assert victim not in {m.key for m in broken.front.members}
    stored = [entry.evaluation for entry in read_journal(broken.folder / "study.journal").entries]
    assert stored == list(broken.evaluations)


@pytest.mark.usefixtures("unwritten")
def test_a_hard_bound_keeps_dear_candidates_from_being_evaluated(search, tmp_path):
    bounded = search(
        tmp_path,
        "goals=[{metric: accuracy}, {metric: onnx_bytes, at_most: 0.3, relative: true}]",
        "search.sampler=pareto",
    )
    whole = bounded.evaluations[0].metrics["onnx_bytes"]
    searched = [e for e in bounded.evaluations if e.kind == "search"]
    assert searched
    assert all(e.metrics["onnx_bytes"] <= 0.3 * whole for e in searched)
    assert all(m.metrics["onnx_bytes"] <= 0.3 * whole for m in bounded.front.members)


def test_a_config_and_its_path_are_the_same_to_run(config_file, tmp_path, monkeypatch):
    class Reached(Exception):
        pass

    asked = []

    def reached(*arguments):
        asked.append(arguments)
        raise Reached

    monkeypatch.setattr(running, "survey", reached)
    overrides = [f"output.folder={tmp_path}"]
    with pytest.raises(Reached):
        run(load_config(config_file, overrides))
    with pytest.raises(Reached):
        run(config_file, overrides=overrides)
    assert asked[0] == asked[1]


def test_a_search_that_fails_before_its_study_opens_leaves_the_folder_free(
    config_file, tmp_path, monkeypatch
):
    def broken(*_):
        raise ValueError("no data")

    monkeypatch.setattr(running, "survey", broken)
    with pytest.raises(ValueError, match="no data"):
        run(config_file, overrides=[f"output.folder={tmp_path}"])
    assert [path.name for path in (tmp_path / "toy").iterdir()] == ["study.journal.lock"]
