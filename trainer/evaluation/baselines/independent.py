"""Where the truth is known: how far one comes who takes the emojis of a reaction as independent."""

from .baseline import Candidate, Given, chunked, values_of


def independent(given: Given) -> Candidate | None:
    """The true distribution of single emojis, and nothing else."""
    scene = given.scene
    if scene.truth is None or not scene.reactions or not scene.has_pairs:
        return None
    return Candidate(
        "Independent truth",
        "The true distribution of single emojis, as if those of a reaction were independent: about as "
        "far as a classifier can come.",
        None,
        values_of(chunked(scene.truth[scene.first_tuple][:, None]), scene),
    )
