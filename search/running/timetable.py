"""How long a search will take, said before it starts: by an earlier run like it, or one timed pass."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch

from paredown.compressors.storage.shelf import Record, Shelf, digest
from paredown.search.config.schema import Config
from paredown.search.evaluating.surveying import Surveyed
from paredown.search.study.display import show
from paredown.search.tasks.cache import cache_folder
from paredown.search.tasks.collecting import RESTORED_ROWS
from paredown.spaces.system.errors import ParedownError

STATISTICS, SEARCH, RESCORING, VERIFICATION = "statistics", "search", "rescoring", "verification"

_PASSES_OF_STATISTICS = 20
"""Collecting costs so many forward passes: forward, backward, Gram matrices (ResNet-20: 21)."""
_CALIBRATION_S, _SLOWED_PASSES = 15.0, 4000
"""Timing sample networks: what it takes whatever their size, and passes over single rows."""
_CLUSTER_S = 8.0
"""Starting Ray and its workers."""
_SOLVING_S = 1e-5
"""For each weight, compressing the layers that an evaluation asks for first (digits and ResNet-20 from
an empty cache; a warm one is several times faster)."""
_SCORING = 1.5
"""A compressed model's pass against the uncompressed one's."""
_TRAINING_PASSES = 6.0
"""A step of training against a pass over its rows: forward and backward with rounding, and the answers of
the uncompressed network (ResNet-20)."""
_MODEL_S, _VERIFYING_PASSES = 2.0, 2.5
"""Exporting, opening and timing one model; then its test split through the runtime and our simulation."""
_MODELS = 1.4
"""Models on a front of three goals, for the root of the number of evaluations."""
_CHECKPOINT_COPIES = 6
"""Of a training under way: the weights now, at best, their average, two moments of each, and codes."""
_KEPT_BYTES = 2**20


class BudgetError(ParedownError):
    """Training would take longer than it may."""


@dataclass(frozen=True)
class Pace:
    """What a finished search took: seconds before it, for an evaluation, a rescored one and a model.

    `models` is the number on the front for the root of the number of evaluations.
    """

    statistics_s: float
    evaluation_s: float
    rescoring_s: float
    model_s: float
    models: float


@dataclass(frozen=True, kw_only=True)
class Timetable:
    """Expected seconds by phase, in order, and how many models the front is expected to have.

    `kept_bytes` is the most that trainings keep on the disk at any one time.
    """

    expected_s: Mapping[str, float]
    models: int
    is_rough: bool
    kept_bytes: float = 0.0

    @property
    def text(self) -> str:
        """ "about 14 min: 2 statistics, 8 search, 4 verification", and what it was made from."""
        total_s = sum(self.expected_s.values())
        size_s, unit = next((s, u) for s, u in _UNITS if total_s >= 2 * s or s == 1.0)
        parts = [f"{_rounded(s / size_s)} {name}" for name, s in self.expected_s.items() if s > 0]
        basis = "rough, from one timed pass" if self.is_rough else "as an earlier run took"
        room = f"; up to {show('kept_bytes', self.kept_bytes)} on disk for trained models"
        said = f"about {_rounded(total_s / size_s)} {unit}: {', '.join(parts)} ({basis})"
        return said + (room if self.kept_bytes else "")


_UNITS = ((3600.0, "h"), (60.0, "min"), (1.0, "s"))


def _rounded(number: float) -> str:
    """Two digits at most: an estimate has no more.

    >>> _rounded(0.04), _rounded(0.36), _rounded(3.7), _rounded(127)
    ('0', '0.4', '4', '130')
    """
    if number < 0.95:
        return f"{number:.1f}".removesuffix(".0")
    return f"{round(number, -1 if number >= 100 else 0):.0f}"


def timetable(surveyed: Surveyed, done: int) -> Timetable:
    """What the search of `surveyed` will take, of which `done` evaluations are there already."""
    config = surveyed.config
    section = config.search
    pace = earlier_pace(config)
    is_rough = pace is None
    if pace is None:
        pace = _pace_of_a_pass(surveyed, seconds_per_row(surveyed))
    models = max(1, round(pace.models * math.sqrt(section.evaluations)))
    rescored = _rescored(surveyed)
    left = max(0, section.evaluations - done)
    expected_s = {
        STATISTICS: pace.statistics_s,
        SEARCH: left * pace.evaluation_s,
        RESCORING: rescored * pace.rescoring_s,
        VERIFICATION: models * pace.model_s,
    }
    return Timetable(
        expected_s=expected_s, models=models, is_rough=is_rough, kept_bytes=_kept_bytes(surveyed)
    )


def _kept_bytes(surveyed: Surveyed) -> float:
    """Of trained models, of what further training goes on from, and of trainings under way, at most.

    Counted for models as large as the uncompressed one. The models of all rungs are kept, the states of
    two at a time.
    """
    recovery = surveyed.config.recovery
    if recovery is None:
        return 0.0
    kept = [rung.keep for rung in recovery.rungs]
    states = max(map(sum, zip(kept, [*kept[1:], 0], strict=True)))
    copies = sum(kept) + states + surveyed.config.search.workers * _CHECKPOINT_COPIES
    sizes = (sum(x.nbytes for x in c.tensors.values()) for c in surveyed.captured.values())
    return float(copies * max(sizes))


def doubtful_room(table: Timetable, folder: Path) -> str | None:
    """What to say where the disk of a folder has less room than trainings may need."""
    folder = folder.resolve()
    free = shutil.disk_usage(next(f for f in (folder, *folder.parents) if f.exists())).free
    if free >= table.kept_bytes:
        return None
    return (
        f"what training keeps may need {show('kept_bytes', table.kept_bytes)} in {folder}, whose disk "
        f"has {show('kept_bytes', free)} free; make room, lower `keep` of recovery.rungs, or name "
        "another output.folder"
    )


def check_budget(config: Config, table: Timetable) -> None:
    """Refuses training that is expected to take longer than `recovery.budget_s`.

    Raises:
        BudgetError: As said.
    """
    limit_s = None if config.recovery is None else config.recovery.budget_s
    if limit_s is not None and table.expected_s[RESCORING] > limit_s:
        raise BudgetError(
            f"recovery.budget_s: training must be expected to take at most {limit_s:,.0f} s, got "
            f"{table.expected_s[RESCORING]:,.0f} s; lower `steps` or `keep` of "
            "recovery.rungs, or raise it"
        )


def _rescored(surveyed: Surveyed) -> float:
    """Evaluations on rungs after the first."""
    section, recovery = surveyed.config.search, surveyed.config.recovery
    if recovery is not None:
        return float(sum(rung.keep for rung in recovery.rungs))
    is_rescored = section.rung_images < len(surveyed.task.splits.search)
    return section.promote_fraction * section.evaluations if is_rescored else 0.0


def _training_s(config: Config, row_s: float) -> float:
    """Of one candidate on one rung, the mean over all of them."""
    recovery = config.recovery
    if recovery is None:
        return 0.0
    steps = sum(rung.keep * rung.steps for rung in recovery.rungs)
    return (
        steps
        / sum(rung.keep for rung in recovery.rungs)
        * recovery.recipe.batch
        * row_s
        * _TRAINING_PASSES
    )


def seconds_per_row(surveyed: Surveyed, rows: int = 32) -> float:
    """What a row of the search split takes in a pass of the first network, after one to warm up."""
    split = surveyed.task.splits.search
    rows = min(rows, len(split))
    inputs, _ = split.rows(0, rows)
    module = next(iter(surveyed.task.modules.values()))

    def _run() -> None:
        if isinstance(inputs, Mapping):
            module(**inputs)
        else:
            module(*inputs)

    with torch.no_grad():
        _run()
        started = time.perf_counter()
        _run()
    return (time.perf_counter() - started) / rows


def _pace_of_a_pass(surveyed: Surveyed, row_s: float) -> Pace:
    """A pace by the sizes of splits and networks, where no search like it was seen to its end."""
    section, splits = surveyed.config.search, surveyed.task.splits
    statistics = min(RESTORED_ROWS, len(splits.calibration)) * _PASSES_OF_STATISTICS * row_s
    statistics_s = statistics * len(surveyed.captured)
    if surveyed.config.hardware.latency in ("calibrated", "measured"):
        statistics_s += _CALIBRATION_S + _SLOWED_PASSES * row_s
    if section.engine == "ray":
        statistics_s += _CLUSTER_S
    layers = surveyed.space.architectures[0].model_map.layers
    solving_s = _SOLVING_S * sum(layer.weight_count for layer in layers)
    first_rows = min(section.rung_images, len(splits.search))
    return Pace(
        statistics_s=statistics_s,
        evaluation_s=(solving_s + first_rows * row_s * _SCORING) / section.workers,
        rescoring_s=(len(splits.search) * row_s * _SCORING + _training_s(surveyed.config, row_s))
        / section.workers,
        # The test split is opened by nothing but verification; it is about as long.
        model_s=_MODEL_S + len(splits.search) * row_s * _VERIFYING_PASSES,
        models=_MODELS,
    )


def keep_pace(config: Config, pace: Pace) -> None:
    """Keeps what a finished search took, for the next like it."""
    _shelf().put(_key(config), Record(tensors={}, facts=asdict(pace)))


def earlier_pace(config: Config) -> Pace | None:
    """What the last search of this task, space and hardware took, None where there was none."""
    record = _shelf().get(_key(config))
    names = [field.name for field in fields(Pace)]
    if record is None or set(record.facts) != set(names):
        return None
    return Pace(**record.facts)


def _shelf() -> Shelf:
    return Shelf(cache_folder() / "paces", _KEPT_BYTES)


def _key(config: Config) -> str:
    """All that the pace depends on; not the number of evaluations, by which it is multiplied."""
    plain = config.model_dump(
        mode="json",
        include={"task", "space", "hardware", "recovery"},
        exclude={"recovery": {"prior"}},
    )
    section = config.search
    plain["search"] = [section.engine, section.workers, section.threads_per_worker]
    plain["search"] += [section.sampler, section.rung_images]
    return digest(json.dumps(plain, sort_keys=True))
