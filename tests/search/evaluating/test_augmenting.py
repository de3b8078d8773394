"""Augmentations change what they should, alike for a seed, and leave shapes and other inputs alone."""

from pathlib import Path

import pytest
import torch

from paredown.search.evaluating.augmenting import (
    AUGMENTATIONS,
    augmentation,
    check_augmentation,
    flips_and_crops,
    masks,
    tokens,
)
from paredown.search.tasks.user_code import UserCodeError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_seed_gives_the_same_again_and_another_another(name):
    inputs = {
        "flips_and_crops": torch.rand(6, 3, 16, 16),
        "masks": torch.rand(6, 40, 20),
        "tokens": torch.randint(1, 90, (6, 30)),
    }[name]
    one, again, other = (AUGMENTATIONS[name]((inputs,), generator(s))[0] for s in (0, 0, 1))
    assert one.shape == inputs.shape
    assert one.dtype == inputs.dtype
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_every_image_is_a_shift_of_itself_or_of_its_mirror_image():
    images = torch.rand(20, 2, 8, 8) + 1  # no pixel is zero but those that came in
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    (found,) = flips_and_crops((images,), generator())
    mirrored = 0
    for image, whole in zip(found, padded, strict=True):
        shifts = [whole[:, i : i + 8, j : j + 8] for i in range(3) for j in range(3)]
        plain = any(torch.equal(image, shift) for shift in shifts)
        flipped = any(torch.equal(image, shift.flip(2)) for shift in shifts)
        assert plain or flipped
        mirrored += not plain
    assert 3 < mirrored < 17


def test_images_of_one_row_change_alike_and_other_inputs_stay():
    images, numbers = torch.rand(5, 1, 8, 8), torch.arange(5.0)
    first, second, third = flips_and_crops((images, images.clone(), numbers), generator())
    assert torch.equal(first, second)
    assert third is numbers


def test_masks_zero_a_run_of_steps_and_a_run_of_bands():
    spectrograms = torch.ones(50, 32, 16)
    (found,) = masks((spectrograms,), generator())
    for each in found:
        steps, bands = (each == 0).all(dim=1), (each == 0).all(dim=0)
        assert int(steps.sum()) <= 4
        assert int(bands.sum()) <= 2
        for run in (steps.nonzero().flatten(), bands.nonzero().flatten()):
            assert run.numel() == 0 or int(run[-1] - run[0]) == run.numel() - 1
        assert torch.equal(each == 0, steps[:, None] | bands[None, :])
    assert bool((found == 0).any())


def test_tokens_keep_the_first_and_the_padding():
    ids = torch.randint(5, 900, (64, 20), generator=generator(3))
    ids[:, 0], ids[:, 15:] = 1, 0
    found, mask = tokens((ids, ids > 0), generator())
    changed = found != ids
    assert not bool(changed[:, 0].any())
    assert not bool(changed[:, 15:].any())
    assert 0.03 < float(changed[:, 1:15].float().mean()) < 0.12
    assert torch.equal(mask, ids > 0)


def test_a_users_own_function_is_found_by_its_path(tmp_path: Path):
    (tmp_path / "own_augment.py").write_text(
        "def twice(inputs, generator):\n    return tuple(2 * x for x in inputs)\n"
    )
    own = augmentation("own_augment:twice", tmp_path)
    assert own is not None
    assert float(own((torch.ones(1),), generator())[0]) == 2.0
    assert augmentation(None, tmp_path) is None
    with pytest.raises(UserCodeError, match=r"recovery\.recipe\.augment"):
        augmentation("own_augment:thrice", tmp_path)


IMAGES, WORDS = torch.rand(8, 3, 16, 16), torch.randint(0, 9, (8, 12))


@pytest.mark.parametrize(
    ("name", "inputs", "says"),
    [
        (
            "flips_and_crops",
            (WORDS,),
            "given images, of 4 dimensions, got inputs .8, 12. torch.int64",
        ),
        ("masks", (IMAGES,), "given spectrograms"),
        ("tokens", (IMAGES, WORDS), "given token numbers"),
    ],
)
def test_built_in_ones_are_refused_for_other_inputs(name, inputs, says):
    with pytest.raises(UserCodeError, match=says):
        check_augmentation(AUGMENTATIONS[name], name, inputs)


def test_built_in_ones_are_taken_for_their_own():
    check_augmentation(flips_and_crops, "flips_and_crops", (WORDS, IMAGES))
    check_augmentation(tokens, "tokens", (WORDS, WORDS > 0))


@pytest.mark.parametrize(
    ("own", "says"),
    [
        (lambda inputs, generator: 1 / 0, "raised ZeroDivisionError"),
        (lambda inputs, generator: tuple(x[1:] for x in inputs), "keep shapes and types"),
        (lambda inputs, generator: tuple(x.double() for x in inputs), "keep shapes and types"),
    ],
)
def test_a_function_that_does_not_fit_is_refused_before_training(own, says):
    with pytest.raises(UserCodeError, match=f"recovery.recipe.augment: 'own:it'.*{says}"):
        check_augmentation(own, "own:it", (IMAGES,))
