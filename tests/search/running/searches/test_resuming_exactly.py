"""A search killed at any moment and resumed asks and finds what the uninterrupted one does."""

import shutil

import pytest

SAMPLERS = ["pareto", "nsga2", "nsga3", "tpe", "gp", "random", "drawing:make"]
OWN = """\
import optuna


def make(distributions, directions, seed):
    assert list(directions) == ["accuracy", "onnx_bytes"]
    assert all(each.low == 0 for each in distributions.values())
    return optuna.samplers.NSGAIISampler(population_size=5, seed=seed)
"""
EVALUATIONS = 23
"""The uncompressed model, two references, five batches of four: beyond eight pareto learns."""
SETTINGS = (
    f"search.evaluations={EVALUATIONS}",
    "search.rung_images=60",
    "search.promote_fraction=0.1",
    "tracking.max_children=0",
)


@pytest.fixture(scope="module")
def cut_journal():
    """(journal, count, torn) leaves `count` evaluations in it, and of the next one half a line."""

    def cut(journal, count, torn):
        lines = journal.read_bytes().splitlines(keepends=True)
        records = [i for i, line in enumerate(lines) if b'"evaluation"' in line]
        kept = lines[: records[count]]
        if torn:
            kept.append(lines[records[count]][: len(lines[records[count]]) // 2])
        journal.write_bytes(b"".join(kept))

    return cut


def told(result):
    """What a search evaluated, in order, and its front: all but the time it took."""
    sequence = [(e.key, e.rung, e.kind, e.label, dict(e.metrics)) for e in result.evaluations]
    return sequence, [(e.key, e.rung) for e in result.front.members]


@pytest.mark.usefixtures("unwritten")
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_killed_at_any_record_goes_on_as_if_it_had_not_been(
    search, tmp_path, sampler, cut_journal, monkeypatch
):
    (tmp_path / "drawing.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    settings = (*SETTINGS, f"search.sampler={sampler}")
    whole = search(tmp_path / "whole", *settings)
    assert sum(e.rung.number == 0 for e in whole.evaluations) == EVALUATIONS
    assert whole.front.rung.number == 1
    # Before anything is told, in a batch, at its end, with the last record torn, while rescoring.
    for count in (1, 5, 8, 13, len(whole.evaluations) - 1):
        place = tmp_path / f"cut{count}"
        shutil.copytree(tmp_path / "whole", place)
        journal = place / "toy" / "study.journal"
        cut_journal(journal, count, torn=count % 2 == 1)
        again = search(place, *settings, resume=True)
        assert told(again) == told(whole), f"killed after {count} evaluations"
        shutil.rmtree(place)


@pytest.mark.usefixtures("unwritten")
def test_a_run_of_other_settings_is_resumed_with_all_that_is_known(search, tmp_path, cut_journal):
    begun = search(tmp_path, *SETTINGS, "search.sampler=nsga2")
    cut_journal(begun.folder / "study.journal", 13, torn=False)
    resumed = search(tmp_path, *SETTINGS, "search.sampler=tpe", resume=True)
    assert resumed.evaluations[:13] == begun.evaluations[:13]
    keys = [e.key for e in resumed.evaluations if e.rung.number == 0]
    assert len(set(keys)) == len(keys) == EVALUATIONS
