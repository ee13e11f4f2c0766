"""Why a dataset has no vocabulary, so that nothing can be learned from it.

manifest without vocabulary ─► why_empty ─► the cause, and what helps
"""

from ..posts.outcomes import (
    DENIED_ACCOUNT,
    DENIED_EMOJI,
    DENIED_WORD,
    USED,
    WITHOUT_EMOJI,
    WITHOUT_IMAGE,
)
from .manifest import Manifest

_HELP = {  # by what became of most posts; else they are bad
    WITHOUT_EMOJI: "Name what holds the emojis: --text for comments and reactions, --column for a table.",
    WITHOUT_IMAGE: "Add posts with images.",
    **dict.fromkeys((DENIED_ACCOUNT, DENIED_EMOJI, DENIED_WORD), "Shorten the --deny list."),
}
_MEND = "Mend the sources, or name others."


def why_empty(manifest: Manifest) -> str:
    """Why no emoji comes often enough in the train split, and what helps."""
    read, used = manifest.posts["read"], manifest.posts[USED]
    if not read:
        return (
            "There are no posts that may be used: private ones of an archive are passed over. Name other "
            "sources."
        )
    lost = {reason: n for reason, n in manifest.posts.items() if n and reason not in ("read", USED)}
    told = ", ".join(f"{count:,} {reason}" for reason, count in lost.items())
    if not used:
        return (
            f"None of {read:,} posts can be used: {told}. {_HELP.get(max(lost, key=lost.__getitem__), _MEND)}"
        )
    train = sum(manifest.rare.values())
    held_out = sum(shard.outside or 0 for shard in manifest.shards) - train
    if held_out > train:
        remedy = "Split them by post (--split-by post)" if manifest.split_by == "account" else "Add posts"
        return (
            f"{held_out:,} of {train + held_out:,} tuples are in val and test, and too few in train to learn "
            f"from. {remedy}, or lower --val-share and --test-share."
        )
    most, wanted = max(manifest.rare.values()), manifest.options["min_count"]
    beside = f", and {told}" if told else ""
    return (
        f"No emoji comes {wanted} times in train: the most frequent comes {most} times. "
        f"Of {read:,} posts {used:,} are used{beside}. Add posts, or lower --min-count to {most} at most."
    )
