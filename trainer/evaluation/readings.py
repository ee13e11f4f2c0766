"""How many readings a snapshot has, by the posts of the val split; and those of some held-out images.

val split ─► choose ─► how many ─┬─► evaluation.json ─► the registered model
                                 └─► shown ─► the readings of some images ─► the report
"""

from collections import defaultdict

import torch

from ..inputs import Inputs
from ..model.readings import LATENTS, latents_of, supported
from ..model.snapshot import Snapshot
from ..validation import read_val

CHOOSING = 300  # images with a reaction of several emojis


def choose(snapshot: Snapshot, inputs: Inputs) -> int | None:
    """How many readings a picture has at most, as the posts of the val split support.

    None where there is no telling: of a free output, whose latents are single emojis, and where the val split
    is forgotten.
    """
    held_out = read_val(inputs) if snapshot.is_tied else None
    if held_out is None:
        return None
    row = {emoji: number for number, emoji in enumerate(snapshot.facts.vocabulary)}
    said: dict[int, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))  # image → reaction → emojis
    for image, reaction, emoji in zip(held_out.image, held_out.reaction, held_out.emojis, strict=True):
        if emoji in row:
            said[image][reaction].add(row[emoji])
    several = {
        image: found
        for image, reactions in said.items()
        if (found := [sorted(emojis) for emojis in reactions.values() if len(emojis) > 1])
    }
    images = [*several][:CHOOSING]
    if not images:
        return 1
    latents = latents_of(snapshot, held_out.images[torch.tensor(images)], number=LATENTS, seed=0)
    return supported((each, several[image]) for each, image in zip(latents, images, strict=True))
