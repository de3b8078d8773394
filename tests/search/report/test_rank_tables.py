"""Ranks by error as `inspect` shows them."""

from __future__ import annotations

import io
import json

from rich.console import Console, Group

from paredown.compressors.low_rank.rank_by_error import Found
from paredown.search.report.rank_tables import plain_ranks, rank_tables
from paredown.search.space.found_ranks import Question
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.space import Space

NAME = "layer3.1.conv2"


def test_ranks_and_shares_of_weights_stand_by_layer_form_and_error(mapped) -> None:
    architecture = Architecture(name="a", model_map=mapped("resnet_a"), knobs=())
    out, inputs, *kernel = architecture.model_map.layer_by_name[NAME].weight_shape
    assert (out, inputs, kernel) == (32, 32, [3, 3])

    def question(form: str, error: float, owner: str = "a") -> Question:
        return Question(architecture=owner, layer=NAME, form=form, step=1, error=error)  # type: ignore[arg-type]

    ranks = {
        question("channel", 0.02): None,
        question("channel", 0.1): Found(ranks=(16,), lost=0.09),
        question("tucker", 0.1): Found(ranks=(16, 32), lost=0.08),
    }
    other = {question("channel", 0.1, "b"): Found(ranks=(1,), lost=0.0)}
    console = Console(file=io.StringIO(), width=120, color_system=None)
    console.print(Group(*rank_tables(architecture, ranks | other)))
    lines = [line.split() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert lines[0] == ["rank", "by", "error", "form", "error", "0.02", "error", "0.1"]
    # 16 * (32 * 9 + 32) and 16 * 32 + 16 * 32 * 9 + 32 * 32 of 9,216.
    assert lines[1] == [NAME, "channel", "-", "16", "(56%)"]
    assert lines[2] == [NAME, "tucker", "16", "×", "32", "(67%)"]
    assert rank_tables(architecture, other) == []

    plain = plain_ranks(Space(architectures=(architecture,)), ranks)
    assert json.loads(json.dumps(plain)) == plain
    assert [(row["error"], row["ranks"], row["weights"]) for row in plain] == [
        (0.02, None, None), (0.1, [16], 5_120), (0.1, [16, 32], 6_144),
    ]  # fmt: skip
