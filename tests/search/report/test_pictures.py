"""PNG files: they hold a picture, of an empty front too."""

import math
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread

from paredown.search.report import style
from paredown.search.report.pictures import decision_png, front_png, progress_png
from paredown.search.study.pareto import front_of


@pytest.mark.parametrize("draw", [front_png, decision_png, progress_png])
def test_png_files_hold_a_picture(picture, tmp_path, draw):
    draw(picture, tmp_path / "a.png")
    pixels = imread(tmp_path / "a.png")
    assert min(pixels.shape[:2]) > 400
    assert pixels[..., :3].std() > 0.02


def test_a_front_of_three_goals_is_three_panels_wide(picture, tmp_path):
    front_png(picture, tmp_path / "three.png")
    two = replace(picture, front=front_of(picture.evaluations, picture.goals[:2]))
    front_png(two, tmp_path / "one.png")
    three, one = (imread(tmp_path / f"{name}.png").shape for name in ("three", "one"))
    assert three[0] == one[0]
    # 5.2 inches a panel, and 7.5 for a panel alone, whose title needs the room.
    assert three[1] / one[1] == pytest.approx(3 * 5.2 / 7.5, rel=0.01)


def test_bits_are_drawn_in_their_colours(picture, tmp_path):
    """Most of the chart is cells, so each width on the front leaves its colour and no other does."""
    decision_png(picture, tmp_path / "a.png")
    pixels = np.rint(imread(tmp_path / "a.png")[..., :3] * 255).astype(np.uint8)
    seen = set(map(bytes, np.unique(pixels.reshape(-1, 3), axis=0)))
    cells = [code for row in style.bits_codes(picture) for code in row if not math.isnan(code)]
    colours = list(style.BITS_COLOURS.values())
    for code in set(cells):
        assert bytes.fromhex(colours[int(code)][1:]) in seen


def test_a_dollar_sign_in_a_name_is_no_mathematics(picture, tmp_path):
    named = replace(picture, name=r"$\frac{$")
    front_png(named, tmp_path / "a.png")
    progress_png(named, tmp_path / "b.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
