"""What chooses a snapshot is what it says it is."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from emojigan.datasets.stream.held_out import HeldOut
from emojigan.trainer import validation
from emojigan.trainer.validation import EVEN_SHARE, val_reaction_loss

VOCABULARY = tuple("😍😂🔥🐶")


def test_the_loss_of_reactions_is_that_of_going_through_them(monkeypatch: pytest.MonkeyPatch):
    """Three images, of which the second has no known emoji, in chunks of two; a rare emoji is passed over."""
    rng = np.random.default_rng(0)
    q = rng.dirichlet(np.ones(4), size=(3, 5)).astype(np.float32)  # [images, latents, V]
    reactions = [(0, "😍🔥"), (0, "😂"), (1, "🦄"), (2, "🐶🦄😂😍")]
    weights = np.array([0.5, 1.0, 2.0, 1.5])
    tuples = [(image, emoji, row) for row, (image, said) in enumerate(reactions) for emoji in said]
    held_out = HeldOut(
        images=torch.arange(3, dtype=torch.uint8)[:, None, None, None].expand(3, 3, 2, 2),
        posts=("a", "b", "c"),
        image=np.array([image for image, _, _ in tuples]),
        emojis=tuple(emoji for _, emoji, _ in tuples),
        reaction=np.array([row for _, _, row in tuples]),
    )
    monkeypatch.setattr(validation, "CHUNK", 2)
    inputs: Any = SimpleNamespace(vocabulary=VOCABULARY, weights=weights)
    found = val_reaction_loss(lambda images: q[images[:, 0, 0, 0].numpy()], held_out, inputs)

    smoothed = (1 - EVEN_SHARE) * q.astype(np.float64) + EVEN_SHARE / 4
    total = count = 0.0
    for image, said in reactions:
        rows = [VOCABULARY.index(emoji) for emoji in said if emoji in VOCABULARY]
        if not rows:
            continue
        weight = weights[rows].mean()
        likelihood = np.mean([math.prod(latent[row] for row in rows) for latent in smoothed[image]])
        total -= weight * math.log(likelihood)
        count += weight * len(rows)
    assert found == pytest.approx(total / count, rel=1e-6)
