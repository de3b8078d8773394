"""Rungs: on how many rows a candidate is scored, and what is done to it before.

Scores of two rungs are not compared: rows differ, or what was done to the model. The exception are
models that were trained: however long, each is what its user gets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from paredown.spaces.system.json_values import Json


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is done to a candidate between assembling and scoring it.

    Layers whose inputs drift are always solved again in closed form. With a `trainer` (its name and
    version) the model is then trained for `steps` batches of `batch_rows` rows, drawn with `seed`.

    >>> Recipe().text, Recipe(trainer="rescale 1", steps=160).text
    ('settled', 'trained by rescale 1 for 160 steps')
    """

    trainer: str = ""
    steps: int = 0
    batch_rows: int = 0
    seed: int = 0

    @property
    def is_trained(self) -> bool:
        """Whether candidates are trained, or stand beside such as are: references are, for 0 steps."""
        return bool(self.trainer)

    @property
    def text(self) -> str:
        """The recipe in words."""
        if not self.steps:
            return "settled"
        return f"trained by {self.trainer} for {self.steps} steps"


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One fidelity of scoring: its place among the rungs from 0, its rows, and its recipe.

    `rows` are the first ones of the search split; None is all of it.
    """

    number: int = 0
    rows: int | None = None
    recipe: Recipe = field(default_factory=Recipe)

    @property
    def untrained(self) -> Rung:
        """The same for what stands beside trained models and is not trained itself."""
        return replace(self, recipe=replace(self.recipe, steps=0))

    def compares_with(self, other: Rung) -> bool:
        """Whether scores of both rungs may be compared: they are equal, or of models that were trained
        alike but for the steps, on the same rows.
        """
        mine, theirs = (replace(r.recipe, steps=0) for r in (self, other))
        return self == other or (mine.is_trained and mine == theirs and self.rows == other.rows)

    @property
    def text(self) -> str:
        """The rung in words.

        >>> Rung(rows=1500).text, Rung(number=1).text
        ('rung 0: the first 1,500 rows, settled', 'rung 1: the whole search split, settled')
        """
        rows = "the whole search split" if self.rows is None else f"the first {self.rows:,} rows"
        return f"rung {self.number}: {rows}, {self.recipe.text}"

    def to_json(self) -> dict[str, Json]:
        """A JSON-ready dict from which `from_json` gives an equal record."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> Rung:
        """The rung that `to_json` wrote.

        Raises:
            TypeError: A field is unknown, or is not what it should be.
        """
        recipe = data["recipe"]
        if not isinstance(recipe, Mapping):
            raise TypeError(f"a recipe must be a mapping, got {recipe!r}")
        return cls(**{**data, "recipe": Recipe(**recipe)})  # type: ignore[arg-type]
