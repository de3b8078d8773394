"""What every picture of a front shares: colours, panels, order and the range worth seeing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from paredown.search.proposing.outlook import Outlook
from paredown.search.study.display import Outline, Unit, title_of, unit_of
from paredown.search.study.evaluation import Evaluation, Goal, comparable, is_cost
from paredown.search.study.front_measured import MeasuredFront
from paredown.search.study.pareto import Front

FRONT = "#1f4e9c"
FRONT_LINE = "#8fb0de"
DOMINATED = "#aab4c0"
REFERENCE = "#d1570f"
FAILED = "#b3261e"
INK = "#1d2733"
QUIET = "#5f6b7a"
GRID = "#e8ecf1"
FONT = "Inter, Segoe UI, Helvetica Neue, Arial, DejaVu Sans, sans-serif"

# Few bits are warm and dark, many are pale: what is compressed hard stands out. White is left for
# cells of layers that a model has not.
BITS_COLOURS = {
    1: "#4a1033",
    2: "#7a1f3d",
    3: "#b5423c",
    4: "#de7a3a",
    5: "#efb354",
    6: "#f3dc8c",
    8: "#a9cfe3",
    32: "#d5dbe2",
}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """The evaluations of one search, as every picture takes them.

    `hypervolumes` has one value for each evaluation, in order, and may be empty; `measured` is what
    verifying the front found; `outlook` is what was expected of training before the first one.
    """

    evaluations: tuple[Evaluation, ...]
    front: Front
    outline: Outline
    hypervolumes: tuple[float, ...] = ()
    name: str = ""
    measured: MeasuredFront = field(default_factory=MeasuredFront)
    outlook: Outlook = field(default_factory=Outlook)

    @property
    def title(self) -> str:
        """Page title: paredown and, if it has one, the search's name."""
        return f"paredown: {self.name}" if self.name else "paredown"

    @property
    def goals(self) -> tuple[Goal, ...]:
        """Goals of the front, in order."""
        return self.front.goals

    @property
    def shown(self) -> tuple[Evaluation, ...]:
        """What can be drawn: successful evaluations of the front's rung."""
        return tuple(e for e in comparable(self.evaluations, self.front.rung) if not e.is_failed)

    @property
    def dominated(self) -> tuple[Evaluation, ...]:
        """Successful search evaluations of the front's rung that are not on the front."""
        numbers = {member.number for member in self.front.members}
        return tuple(e for e in self.shown if e.number not in numbers and e.kind == "search")

    @property
    def references(self) -> tuple[Evaluation, ...]:
        """Successful references of the front's rung."""
        return tuple(e for e in self.shown if e.kind == "reference")

    @property
    def failures(self) -> int:
        """Number of failed evaluations, on all rungs."""
        return sum(e.is_failed for e in self.evaluations)

    @property
    def headline(self) -> str:
        """ "26 models on the front of 80 evaluations, 4 failed"."""
        text = (
            f"{len(self.front.members)} models on the front of {len(self.evaluations)} evaluations"
        )
        return f"{text}, {self.failures} failed" if self.failures else text

    @property
    def ordered(self) -> tuple[Evaluation, ...]:
        """The front from the best to the worst in the first goal."""
        goal = self.goals[0]
        return tuple(sorted(self.front.members, key=lambda m: goal.loss(m.metrics[goal.metric])))


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One goal as an axis: unit, range in that unit, and whether it is logarithmic."""

    goal: Goal
    unit: Unit
    low: float
    high: float
    is_log: bool

    @property
    def title(self) -> str:
        """Title of the goal in the axis's unit, with an arrow towards better values."""
        arrow = "→ more is better" if self.goal.direction == "maximize" else "← less is better"
        return f"{title_of(self.goal.metric, self.unit)}  {arrow}"

    @property
    def ticks(self) -> list[float]:
        """Marks of a logarithmic axis: 1, 2 and 5 of each decade within the range."""
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        marks = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
        return [mark for mark in marks if self.low <= mark <= self.high]

    def values(self, evaluations: Sequence[Evaluation]) -> list[float]:
        """The goal's value of each evaluation, in the axis's unit."""
        return [e.metrics[self.goal.metric] * self.unit.factor for e in evaluations]

    def shares(self, evaluations: Sequence[Evaluation]) -> list[float]:
        """Places along the axis: 0 at its low end, 1 at its high one."""
        values, low, high = self.values(evaluations), self.low, self.high
        if self.is_log:
            values = [math.log(max(v, low * 1e-6)) for v in values]
            low, high = math.log(low), math.log(high)
        return [(value - low) / (high - low) for value in values]


def axis_of(picture: Picture, goal: Goal) -> Axis:
    """The axis of `goal` over what is worth seeing: the front and the references.

    A quality far below the best (a third of it) is cut off, as a network that guesses would
    squeeze all others into a corner. Costs over more than a decade are logarithmic.
    """
    inside = [*picture.front.members, *picture.references]
    values = [e.metrics[goal.metric] for e in inside or picture.shown]
    low, high = min(values, default=0.0), max(values, default=1.0)
    unit = unit_of(goal.metric, high)
    is_log = is_cost(goal.metric) and low > 0 and high > 10 * low
    if not is_cost(goal.metric) and goal.direction == "maximize":
        low = max(low, high - abs(high) / 3)
    low, high = low * unit.factor, high * unit.factor
    if is_log:
        margin = (high / low) ** 0.06
        return Axis(goal=goal, unit=unit, low=low / margin, high=high * margin, is_log=True)
    pad = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    # Names of references stand above the highest.
    return Axis(goal=goal, unit=unit, low=low - pad, high=high + 1.6 * pad, is_log=False)


def panels(goals: Sequence[Goal]) -> list[tuple[Goal, Goal]]:
    """Every pair of goals as (across, up): a cost lies across, a quality stands up."""
    return [
        (second, first) if is_cost(second.metric) or not is_cost(first.metric) else (first, second)
        for first, second in itertools.combinations(goals, 2)
    ]


def staircase(
    members: Sequence[Evaluation], across: Axis, up: Axis
) -> tuple[list[float], list[float]]:
    """Corners of the line that bounds what `members` dominate in one panel, from left to right."""
    pairs = sorted(
        zip(across.values(members), up.values(members), strict=True),
        key=lambda p: (across.goal.loss(p[0]), up.goal.loss(p[1])),
    )
    steps: list[tuple[float, float]] = []
    for x, y in pairs:
        if not steps or up.goal.loss(y) < up.goal.loss(steps[-1][1]):
            steps.append((x, y))
    xs, ys = [], []
    for index, (x, y) in enumerate(steps):
        if index:
            xs.append(x)
            ys.append(steps[index - 1][1])
        xs.append(x)
        ys.append(y)
    return xs, ys


Corner = tuple[Literal["left", "right"], Literal["top", "bottom"]]
_CORNERS: tuple[Corner, ...] = (
    ("left", "top"),
    ("right", "bottom"),
    ("left", "bottom"),
    ("right", "top"),
)
_Box = tuple[float, float, float]
"""Start, end and height of a text, as shares of a panel."""
_LETTER, _LINE = 0.022, 0.05
"""Width and height of text as shares of a panel, roughly."""


def name_corners(
    references: Sequence[Evaluation], across: Axis, up: Axis, members: Sequence[Evaluation] = ()
) -> list[Corner]:
    """Beside which corner of its point each reference is named, so that no two names overlap.

    Names lie towards the middle where they can, inside the panel, and beside neither another's point nor
    one of `members`; what finds no such corner takes the one that is least wrong.
    """
    points = list(zip(across.shares(references), up.shares(references), strict=True))
    drawn = list(zip(across.shares(members), up.shares(members), strict=True))
    taken: list[_Box] = []
    found = []
    for reference, (x, y) in zip(references, points, strict=True):
        # A name above or below another's point would be read as that one's.
        others = [(a, a, b) for a, b in (*points, *drawn) if (a, b) != (x, y)]
        order = _CORNERS if x > 0.5 else (_CORNERS[1], _CORNERS[3], _CORNERS[0], _CORNERS[2])
        boxes = {corner: _box(reference.label, x, y, corner) for corner in order}
        corner = min(order, key=lambda each: _wrongs(boxes[each], taken, others))
        taken.append(boxes[corner])
        found.append(corner)
    return found


def _box(label: str, x: float, y: float, corner: Corner) -> _Box:
    side, rise = corner
    start = x - _LETTER * len(label) if side == "left" else x
    height = y + _LINE * (0.7 if rise == "top" else -0.7)
    return start, start + _LETTER * len(label), height


def _wrongs(box: _Box, names: Sequence[_Box], points: Sequence[_Box]) -> tuple[int, bool, int]:
    """Names that it covers, whether it leaves the panel, and points that it would seem to name."""
    on_names, by_points = (sum(_overlap(box, each) for each in all_) for all_ in (names, points))
    return on_names, box[0] < 0 or box[1] > 1, by_points


def _overlap(one: _Box, other: _Box) -> bool:
    """Whether two texts share room."""
    return one[0] < other[1] and other[0] < one[1] and abs(one[2] - other[2]) < _LINE


def layers_by_size(picture: Picture) -> list[str]:
    """Layers of the networks on the front, the largest first; all where the front is empty."""
    outline = picture.outline
    chosen = {member.candidate.architecture for member in picture.ordered}
    owns = [outline.architectures.get(each, outline) for each in chosen] or [outline]
    there = {name for own in owns for name in own.layer_weights}
    names = [name for name in outline.layer_weights if name in there]
    return sorted(names, key=lambda name: -outline.layer_weights[name])


def bits_codes(picture: Picture) -> list[list[float]]:
    """Places on the scale of `BITS_COLOURS` by layer (largest first) and model; NaN where it is gone."""
    widths = list(BITS_COLOURS)
    left = [picture.outline.of_candidate(m.candidate).layer_weights for m in picture.ordered]
    return [
        [
            widths.index(member.candidate.layer(name).weight_bits) if name in there else math.nan
            for member, there in zip(picture.ordered, left, strict=True)
        ]
        for name in layers_by_size(picture)
    ]
