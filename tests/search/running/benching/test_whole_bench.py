"""A bench from its config to its result, on the digits with real scores."""

from __future__ import annotations

from pathlib import Path

import pytest

from paredown.search.config.reading import load_config
from paredown.search.running.benching.whole_bench import OUTCOMES, BenchPlan, bench
from paredown.search.study.pareto import dominated_volume, volume_axes

CONFIG = """\
name: toy
task: {name: digits}
space:
  rules:
    - {layers: "*", weight_bits: [2, 4, 8], method: [rtn]}
    - {blocks: "*", drop: true}
goals: [{metric: accuracy}, {metric: onnx_bytes}]
hardware: {latency: roofline}
search: {engine: local, workers: 1, evaluations: 8, rung_images: 100}
recovery: {rungs: [{steps: 2, keep: 1}]}
"""


class Recorder:
    def __init__(self, interrupt_after=None):
        self.notices, self.runs, self.new, self.plan = [], [], 0, None
        self._interrupt_after = interrupt_after

    def stage(self, text):
        pass

    def notice(self, text):
        self.notices.append(text)

    def planned(self, runs, evaluations, goals):
        self.plan = (runs, evaluations)

    def evaluated(self, evaluation, *, is_new):
        self.new += is_new

    def finished(self, run):
        self.runs.append(run)
        if len(self.runs) == self._interrupt_after:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "toy.yaml"
    path.write_text(CONFIG)
    return load_config(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def first(config, folder):
    watch = Recorder()
    plan = BenchPlan(
        folder=folder, pool=folder / "pool.jsonl", arms=("random*", "uniforms"), seeds=2
    )
    return bench(config, plan, watch), watch


def test_all_runs_are_there_with_their_budget_and_one_notice_of_recovery(first):
    result, watch = first
    assert watch.plan == (6, 48)
    assert [(run.seed, run.arm) for run in result.runs] == [
        (seed, arm) for seed in (0, 1) for arm in ("uniforms", "random", "random+uniforms")
    ]
    assert all(len(run.history) == 8 for run in result.runs if run.arm != "uniforms")
    assert [note for note in watch.notices if "recovery" in note] == [watch.notices[0]]
    assert result.rows == 100
    assert result.is_whole


def test_the_volumes_are_strict(first):
    result, _ = first
    base, eight = result.runs[0].history[:2]
    assert eight.label == "uniform 8-bit"
    worst = [[base.metrics["accuracy"] - 0.1, eight.metrics["onnx_bytes"]]]
    assert volume_axes(worst, result.goals)[0] == pytest.approx(result.reference)
    for run in result.runs:
        values = [[e.metrics[g.metric] for g in result.goals] for e in run.history]
        expected = dominated_volume(
            volume_axes(values, result.goals), volume_axes(worst, result.goals)[0]
        )
        assert run.volume == pytest.approx(expected)
        assert run.volume <= result.best_volume


def test_a_second_bench_evaluates_nothing_and_its_pool_stays(first, config, folder):
    result, watch = first
    assert watch.new == result.known - 1
    pool = (folder / "pool.jsonl").read_bytes()
    assert result.joined == len(pool.splitlines()) == result.best_members
    plan = BenchPlan(
        folder=folder, pool=folder / "pool.jsonl", arms=("random*", "uniforms"), seeds=2
    )
    again = Recorder()
    same = bench(config, plan, again)
    assert again.new == 0
    assert [run.volumes for run in same.runs] == [run.volumes for run in result.runs]
    assert same.joined == 0
    assert (folder / "pool.jsonl").read_bytes() == pool


def test_ctrl_c_leaves_the_runs_that_are_over(first, config, folder):
    result, _ = first
    plan = BenchPlan(folder=folder, arms=("random*", "uniforms"), seeds=2)
    partial = bench(config, plan, Recorder(interrupt_after=3))
    assert not partial.is_whole
    assert [run.volumes for run in partial.runs] == [run.volumes for run in result.runs[:2]]


def test_a_pool_of_the_best_front_lowers_shares_and_other_lines_do_not_count(
    first, config, folder, tmp_path
):
    result, _ = first
    plan = BenchPlan(folder=tmp_path, pool=folder / "pool.jsonl", arms=("uniforms",), seeds=1)
    alone = bench(config, plan, Recorder())
    assert alone.best_volume == pytest.approx(result.best_volume)
    assert alone.runs[0].volume < alone.best_volume
    other = config.model_copy(
        update={"search": config.search.model_copy(update={"rung_images": 50})}
    )
    watch = Recorder()
    bench(other, plan, watch)
    assert any("do not count" in note for note in watch.notices)
    assert (tmp_path / OUTCOMES).is_file()
