"""What is in a dataset, as text: splits, vocabulary, and what became of the posts."""

import numpy as np

from .emoji_text import display
from .manifest import SPLITS, Manifest

BAR = 30  # characters of the longest bar
SHOWN = 15  # emojis


def describe(manifest: Manifest) -> str:
    """A page about a dataset."""
    counts = np.array(list(manifest.vocabulary.values()), np.float64)
    share = counts / counts.sum()
    effective = np.exp(-(share * np.log(share)).sum())
    lines = [f"{'split':<8}{'shards':>8}{'images':>12}{'tuples':>12}{'MiB':>10}"]
    for split in SPLITS:
        shards = manifest.of_split(split)
        images, tuples, size = (
            sum(getattr(s, name) for s in shards) for name in ("images", "tuples", "bytes")
        )
        lines.append(f"{split:<8}{len(shards):>8}{images:>12,}{tuples:>12,}{size / 2**20:>10,.1f}")
    for split in SPLITS:
        if not manifest.of_split(split):
            lines.append(f"The {split} split is empty: training needs train and val, evaluation needs test.")
    lines += [
        "",
        f"vocabulary: {len(counts)} emojis, as varied as {effective:.1f} equally frequent ones; "
        f"{len(manifest.rare)} rarer than {manifest.options['min_count']} left out",
    ]
    for (emoji, count), part in zip(list(manifest.vocabulary.items())[:SHOWN], share, strict=False):
        bar = "█" * max(1, round(BAR * part / share[0]))
        lines.append(f"  {display(emoji)} {count:>9,} {part:>6.1%} {bar}")
    lines += ["", "posts: " + _counts(manifest.posts)]
    if manifest.left_out:
        lines += ["left out: " + _counts(manifest.left_out)]
    lines += [f"dataset {manifest.sha256()[:12]}, {manifest.encoding}, {manifest.image_size} pixels"]
    return "\n".join(lines)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in counts.items())
