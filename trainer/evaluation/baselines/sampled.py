"""How a model with latents is asked: a run's own, and the autoencoder."""

from collections.abc import Iterator

import torch

from ...model.snapshot import Snapshot
from ..metrics.reactions import Answers
from .baseline import CHUNK_BYTES

NUM_LATENTS = 2000  # for each image: with 500, a total variation of .038 is told as .0405
FOR_REACTIONS = 500  # the same, where what each latent says is kept


def by_latent(snapshot: Snapshot, images: torch.Tensor) -> Iterator[Answers]:
    """What it says under each latent, a few images at a time."""
    size = CHUNK_BYTES // (8 * FOR_REACTIONS * len(snapshot.facts.vocabulary))
    for chunk in images.split(max(1, size)):
        yield Answers.equal(snapshot.by_latent(chunk, num_samples=FOR_REACTIONS, seed=0))
