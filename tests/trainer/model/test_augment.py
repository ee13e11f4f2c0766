"""What augmentation does to a picture is small, and the same on any rank."""

import pytest
import torch

from emojigan.trainer.model.augment import SHIFT, augment, normalise

SIZE, LAST = 64, 1 - 2**-24  # the largest float32 under 1
NEUTRAL = (0.0, 0.5, 0.5, 0.5, 0.5)  # flip, both shifts, brightness, contrast


def pictures(batch: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)


def uniform(batch: int) -> torch.Tensor:
    return torch.rand(batch, 5, generator=torch.Generator().manual_seed(1))


def augmented(flip: float = 0, down: float = 0.5, right: float = 0.5, light: float = 0.5, sharp: float = 0.5):
    return augment(pictures(1), torch.tensor([[flip, down, right, light, sharp]]))


def same(images: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """Which of the images are equal but for rounding, bool [batch]."""
    return torch.isclose(images, expected, atol=1e-6).flatten(1).all(dim=1)


def test_normalised_pixels_go_from_minus_1_to_1():
    levels = torch.tensor([0, 255], dtype=torch.uint8)
    assert normalise(levels).tolist() == [-1, 1]


def test_neutral_numbers_change_nothing():
    images = pictures(4)
    assert same(augment(images, torch.tensor([NEUTRAL] * 4)), normalise(images)).all()


def test_half_of_the_pictures_are_flipped():
    numbers = torch.tensor([NEUTRAL] * 2000)
    numbers[:, 0] = uniform(2000)[:, 0]
    image = pictures(1)
    out = augment(image.expand(2000, -1, -1, -1), numbers)
    flipped = same(out, normalise(image).flip(3))
    assert (same(out, normalise(image)) ^ flipped).all()
    assert 900 < flipped.sum() < 1100


@pytest.mark.parametrize("flip", [0.0, 0.9])
@pytest.mark.parametrize(
    ("number", "pixels"), [(0.0, -SHIFT), (0.1, -5), (0.45, -1), (0.55, 1), (0.9, 5), (LAST, SHIFT)]
)
def test_a_shift_repeats_the_edge(flip: float, number: float, pixels: int):
    plain = normalise(pictures(1))
    source = (torch.arange(SIZE) + pixels).clamp(0, SIZE - 1)
    assert same(augmented(down=number), plain[:, :, source]).all()
    expected = plain[:, :, :, source]
    assert same(augmented(flip=flip, right=number), expected.flip(3) if flip else expected).all()


def test_every_shift_comes_as_often():
    """13 shifts, of -6 to 6 pixels."""
    ramp = torch.arange(SIZE, dtype=torch.uint8).expand(1, 3, SIZE, SIZE)
    numbers = torch.tensor([NEUTRAL] * 13_000)
    numbers[:, 2] = uniform(13_000)[:, 2]
    middle = [augment(ramp.expand(1000, -1, -1, -1), chunk)[:, 0, 0, 32] for chunk in numbers.split(1000)]
    shifts = ((torch.cat(middle) + 1) * 127.5 - 32).round().long()
    counts = shifts.add(SHIFT).bincount()
    assert len(counts) == 2 * SHIFT + 1
    assert counts.min() > 850 and counts.max() < 1150


@pytest.mark.parametrize(("number", "change"), [(0.0, -0.2), (LAST, 0.2)])
def test_brightness_is_added(number: float, change: float):
    assert torch.allclose(augmented(light=number), augmented() + change, atol=1e-6)


@pytest.mark.parametrize(("number", "factor"), [(0.0, 0.8), (LAST, 1.2)])
def test_contrast_is_a_factor(number: float, factor: float):
    assert torch.allclose(augmented(sharp=number), augmented() * factor, atol=1e-6)


def test_values_stay_near_minus_1_to_1():
    out = augment(pictures(64), uniform(64))
    assert -1.4 <= out.min() < -1 and 1 < out.max() <= 1.4


def test_a_picture_becomes_the_same_in_any_part_of_the_batch():
    images, numbers = pictures(12), uniform(12)
    whole = augment(images, numbers)
    parts = [augment(*part) for part in zip(images.split(4), numbers.split(4), strict=True)]
    assert torch.equal(torch.cat(parts), whole)


def test_pictures_stay_channels_last():
    images = pictures(2).contiguous(memory_format=torch.channels_last)
    for out in (augment(images, uniform(2)), normalise(images)):
        assert out.is_contiguous(memory_format=torch.channels_last)
