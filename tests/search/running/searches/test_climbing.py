"""Searches that train: killed in the midst of training, and begun with what an earlier run teaches."""

import json
import shutil

import pytest

from paredown.compressors.training.kept import TrainedModels
from paredown.search.cli.commands import main
from paredown.search.study.run_record import PRIOR, read_run

TRAINING = (
    "search.evaluations=14",
    "search.rung_images=60",
    "tracking.max_children=0",
    "space.rules=[{layers: '*', weight_bits: [1], method: [rtn]}, "
    "{groups: '*', width: [1.0, 0.5, 0.25, 0.125]}]",
    "recovery={recipe: {batch: 32, lr: 0.01}, rungs: [{steps: 4, keep: 5}, {steps: 3, keep: 3}]}",
)


@pytest.fixture(scope="module")
def cut_journal():
    """(journal, count) leaves `count` evaluations in it."""

    def cut(journal, count):
        lines = journal.read_bytes().splitlines(keepends=True)
        records = [i for i, line in enumerate(lines) if b'"evaluation"' in line]
        journal.write_bytes(b"".join(lines[: records[count]]))

    return cut


def told(result):
    """What a search evaluated, in order, and its front: all but the time it took."""
    sequence = [(e.key, e.rung, e.trained, e.curve, dict(e.metrics)) for e in result.evaluations]
    return sequence, [(e.key, e.rung) for e in result.front.members]


@pytest.mark.usefixtures("unwritten")
def test_a_search_killed_while_it_trains_goes_on_as_if_it_had_not_been(
    search, tmp_path, cut_journal, monkeypatch
):
    with monkeypatch.context() as untidied:
        # A search that is killed has not removed what its trainings go on from.
        untidied.setattr(TrainedModels, "remove_states", lambda *_: None)
        whole = search(tmp_path / "whole", *TRAINING)
    trained = [[e for e in whole.evaluations if e.trained and e.rung.number == n] for n in (1, 2)]
    assert [len(each) for each in trained] == [5, 3]
    assert whole.front.rung.number == 2
    first = next(i for i, e in enumerate(whole.evaluations) if e.rung.number == 1)
    total = len(whole.evaluations)
    # Before anything climbs, while the first rung trains, and while the second one does.
    for count in (first, total - 5, total - 1):
        place = tmp_path / f"cut{count}"
        shutil.copytree(tmp_path / "whole", place)
        cut_journal(place / "toy" / "study.journal", count)
        assert told(search(place, *TRAINING, resume=True)) == told(whole)
        shutil.rmtree(place)


@pytest.mark.usefixtures("unwritten")
def test_what_an_earlier_run_teaches_is_kept_and_the_run_needed_no_more(search, tmp_path):
    earlier = search(tmp_path / "earlier", *TRAINING)
    prior = f"recovery.prior=[{earlier.folder}]"
    begun = search(tmp_path / "new", *TRAINING, prior, "search.seed=1")
    kept = json.loads((begun.folder / PRIOR).read_text())["runs"]
    assert [run["name"] for run in kept] == ["toy"]
    keys = {e.key for e in earlier.evaluations if e.trained}
    assert {pair["key"] for pair in kept[0]["pairs"]["accuracy"]} <= keys
    shutil.rmtree(earlier.folder)
    again = search(tmp_path / "new", *TRAINING, prior, "search.seed=1", resume=True)
    assert told(again) == told(begun)
    assert read_run(again.folder).end == "FINISHED"


def test_an_earlier_run_that_is_missing_ends_the_command_before_anything_is_loaded(
    config_file, tmp_path, capsys, monkeypatch
):
    place = f"output.folder={tmp_path}"
    monkeypatch.setattr(
        "sys.argv",
        [
            "paredown",
            "search",
            str(config_file),
            "--set",
            place,
            "--set",
            "recovery.prior=[nowhere]",
        ],
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert "recovery.prior[0]: a run folder holds study.journal" in (said.out + said.err)
    assert not (tmp_path / "toy" / "study.journal").exists()
