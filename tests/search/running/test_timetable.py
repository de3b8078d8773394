"""How long a search is expected to take."""

from dataclasses import replace
from typing import NamedTuple

import pytest

from paredown.search.config.reading import load_config
from paredown.search.evaluating.surveying import survey
from paredown.search.running.timetable import (
    RESCORING,
    SEARCH,
    STATISTICS,
    VERIFICATION,
    BudgetError,
    Pace,
    Timetable,
    check_budget,
    doubtful_room,
    earlier_pace,
    keep_pace,
    seconds_per_row,
    timetable,
)

CONFIG = """\
name: toy
task: {name: digits}
space: {rules: [{layers: "*", weight_bits: [4, 8, 32], method: [rtn]}]}
goals: [{metric: accuracy}, {metric: onnx_bytes}]
hardware: {latency: roofline}
search: {engine: local, evaluations: 64, rung_images: 100, promote_fraction: 0.25}
"""
PACE = Pace(statistics_s=9.0, evaluation_s=0.5, rescoring_s=2.0, model_s=3.0, models=1.5)


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("PAREDOWN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "toy.yaml").write_text(CONFIG)
    return load_config(tmp_path / "toy.yaml")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        ((120, 480, 240), "about 14 min: 2 statistics, 8 search, 4 verification"),
        ((20, 15, 40), "about 75 s: 20 statistics, 15 search, 40 verification"),
        ((9, 480, 240), "about 12 min: 0.1 statistics, 8 search, 4 verification"),
        ((3600, 10800, 3600), "about 5 h: 1 statistics, 3 search, 1 verification"),
    ],
)
def test_a_timetable_is_one_line_in_one_unit(seconds, text):
    names = (STATISTICS, SEARCH, VERIFICATION)
    table = Timetable(expected_s=dict(zip(names, seconds, strict=True)), models=9, is_rough=True)
    assert table.text == f"{text} (rough, from one timed pass)"
    assert replace(table, is_rough=False).text == f"{text} (as an earlier run took)"


def test_an_earlier_run_is_multiplied_by_what_is_asked_for(config):
    keep_pace(config, PACE)
    table = timetable(survey(config), done=0)
    assert not table.is_rough
    assert table.models == 12
    assert table.expected_s == {
        STATISTICS: 9.0, SEARCH: 32.0, RESCORING: 16 * 2.0, VERIFICATION: 36.0
    }  # fmt: skip
    assert timetable(survey(config), done=60).expected_s[SEARCH] == 2.0


def test_a_pace_is_one_of_the_same_task_space_and_hardware_whatever_the_count(config):
    keep_pace(config, PACE)
    longer = config.search.model_copy(update={"evaluations": 500})
    assert earlier_pace(config.model_copy(update={"search": longer})) == PACE
    more = config.search.model_copy(update={"workers": 7})
    assert earlier_pace(config.model_copy(update={"search": more})) is None
    quick = config.hardware.model_copy(update={"threads": 3})
    assert earlier_pace(config.model_copy(update={"hardware": quick})) is None


def test_a_damaged_pace_is_none(config, tmp_path):
    keep_pace(config, PACE)
    (file,) = (tmp_path / "cache" / "paces").iterdir()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert earlier_pace(config) is None


def test_without_an_earlier_run_the_estimate_grows_with_evaluations_and_rows(config):
    surveyed = survey(config)
    assert seconds_per_row(surveyed) > 0
    table = timetable(surveyed, done=0)
    assert table.is_rough
    assert min(table.expected_s.values()) > 0
    assert table.models == round(1.4 * 8)
    doubled = config.model_copy(
        update={"search": config.search.model_copy(update={"evaluations": 256})}
    )
    more = timetable(survey(doubled), done=0)
    assert more.models == 2 * table.models
    assert more.expected_s[SEARCH] > 2 * table.expected_s[SEARCH]


def with_recovery(tmp_path, budget_s):
    (tmp_path / "toy.yaml").write_text(
        f"{CONFIG}recovery:\n  budget_s: {budget_s}\n"
        "  rungs: [{steps: 5, keep: 4}, {steps: 9, keep: 2}]\n"
    )
    return load_config(tmp_path / "toy.yaml")


@pytest.mark.parametrize(("budget_s", "fits"), [(12.0, True), (11.9, False), ("null", True)])
def test_training_that_is_expected_over_its_budget_is_refused(config, tmp_path, budget_s, fits):
    own = with_recovery(tmp_path, budget_s)
    keep_pace(own, PACE)
    table = timetable(survey(own), done=0)
    # Four and two candidates, two seconds each.
    assert table.expected_s[RESCORING] == 12.0
    if fits:
        check_budget(own, table)
    else:
        with pytest.raises(
            BudgetError, match=r"recovery\.budget_s: .* at most 12 s, got 12 s; lower"
        ):
            check_budget(own, table)


def test_the_room_for_trained_models_is_in_the_estimate(config, tmp_path, monkeypatch):
    assert timetable(survey(config), done=0).kept_bytes == 0.0
    own = with_recovery(tmp_path, "null")
    surveyed = survey(own)
    table = timetable(surveyed, done=0)
    whole = sum(x.nbytes for x in surveyed.captured[""].tensors.values())
    # Six models and six states, and the six parts of one training under way for each worker.
    assert table.kept_bytes == (6 + 6 + 6 * own.search.workers) * whole
    assert "; up to " in table.text
    assert "MB on disk for trained models" in table.text
    folder = tmp_path / "not" / "yet"
    assert doubtful_room(table, folder) is None
    monkeypatch.setattr("shutil.disk_usage", lambda place: Room(table.kept_bytes - 1))
    assert "may need" in doubtful_room(table, folder)
    monkeypatch.setattr("shutil.disk_usage", lambda place: Room(table.kept_bytes))
    assert doubtful_room(table, folder) is None


class Room(NamedTuple):
    """What a disk has."""

    free: float
