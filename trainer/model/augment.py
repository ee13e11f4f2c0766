"""Pixels to what the networks see, on the device: normalised, and changed a little while training.

Without changes everything over-fits 80,000 tuples, a classifier too (flips, shifts, brightness).
"""

import torch

SHIFT = 6  # pixels to either side, of a picture of 64


def normalise(images: torch.Tensor) -> torch.Tensor:
    """uint8 [batch, 3, size, size] to float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


def augment(images: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Flip, shift by up to 6 pixels (edges repeated), change brightness and contrast; then normalise.

    Args:
        images: uint8 [batch, 3, size, size].
        uniform: [batch, 5] in [0, 1): flip, both shifts, brightness, contrast.

    Returns:
        float32 [batch, 3, size, size], about [-1, 1].
    """
    batch, _, size, _ = images.shape
    pixel = torch.arange(size, device=images.device)
    shift = ((2 * SHIFT + 1) * uniform[:, 1:3]).long() - SHIFT  # [batch, 2]
    rows = (pixel + shift[:, :1]).clamp(0, size - 1)  # [batch, size]
    columns = (pixel + shift[:, 1:]).clamp(0, size - 1)
    columns = torch.where(uniform[:, :1] < 0.5, columns, columns.flip(1))
    first = torch.arange(0, batch * size, size, device=images.device)[:, None]  # row of each image
    source = ((first + rows) * size)[:, :, None] + columns[:, None, :]  # [batch, size, size]
    pixels = images.permute(0, 2, 3, 1).reshape(-1, 3).index_select(0, source.flatten())
    brightness, contrast = (0.4 * uniform[:, 3:5] - 0.2).T[:, :, None, None, None]
    # As normalised, times 1 + contrast, plus brightness; in one pass.
    pixels = pixels.view(batch, size, size, 3).float()
    changed = torch.addcmul(brightness - 1 - contrast, pixels, (1 + contrast) / 127.5)
    return changed.permute(0, 3, 1, 2)
