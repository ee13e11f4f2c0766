"""What is in a dataset: splits, vocabulary, and what became of the posts.

manifest ─► summarise ─► a mapping for JSON ─► page: lines of text
"""

from collections import Counter
from typing import Any

import numpy as np

from ..emojis.text import display
from ..posts.outcomes import BROKEN_FILES, FORGOTTEN, USED
from ..printable import printable
from ..shards.layout import SPLITS
from ..shards.manifest import Manifest

BAR = 30  # characters of the longest bar
SHOWN = 15  # emojis
TOPS = (1, 10, 100)  # emojis whose share of the tuples is told
LACKS = {  # what is not possible where a split has nothing of the vocabulary
    "train": "nothing can be learned",
    "val": "a training has nothing to choose its snapshot by",
    "test": "nobody can tell how good a model is",
}


def summarise(manifest: Manifest) -> dict[str, Any]:
    """The figures of a dataset. Sizes are in bytes; the vocabulary counts the train split."""
    counts = np.array(list(manifest.vocabulary.values()), np.float64)
    share = counts / max(counts.sum(), 1)  # the most frequent first
    posts = {what: manifest.posts[what] for what in ("read", USED, FORGOTTEN) if what in manifest.posts}
    rejects = {reason: count for reason, count in manifest.posts.items() if count and reason not in posts}
    broken = {reason: manifest.left_out[reason] for reason in BROKEN_FILES if reason in manifest.left_out}
    return {
        "dataset": manifest.sha256(),
        "encoding": manifest.encoding,
        "image_size": manifest.image_size,
        "split_by": manifest.split_by,
        "splits": _summarise_splits(manifest),
        "vocabulary": {
            "emojis": len(counts),
            "effective": float(np.exp(-(share * np.log(share)).sum())),  # as many equally frequent ones
            "share_of_top": {str(top): float(share[:top].sum()) for top in TOPS},
            "counts": manifest.vocabulary,
        },
        "rare": manifest.rare,
        "posts": posts,
        "rejects": dict(sorted(rejects.items(), key=lambda item: (-item[1], item[0]))),
        "left_out": {what: count for what, count in manifest.left_out.items() if what not in broken},
        "broken_files": broken,
        "history": list(manifest.history),
    }


def _summarise_splits(manifest: Manifest) -> dict[str, dict[str, float | None]]:
    in_tar = Counter[str]()
    for shard in manifest.shards:
        in_tar[shard.name] += shard.images
    splits = {}
    for split in SPLITS:
        shards = manifest.of_split(split)
        images, tuples = sum(shard.images for shard in shards), sum(shard.tuples for shard in shards)
        outside = [shard.outside for shard in shards]
        size = sum(shard.bytes * shard.images / in_tar[shard.name] for shard in shards)  # its part of the tar
        splits[split] = {
            "shards": len(shards),
            "images": images,
            "tuples": tuples,
            "outside": None if None in outside else sum(filter(None, outside)),
            "bytes": round(size),
            "tuples_per_image": tuples / max(images, 1),
            "bytes_per_image": size / max(images, 1),
        }
    return splits


def page(manifest: Manifest) -> str:
    """A page about a dataset."""
    figures = summarise(manifest)
    lines = [
        f"{'split':<8}{'shards':>8}{'images':>12}{'tuples':>12}{'outside':>10}{'MiB':>10}{'tuples/image':>14}"
        f"{'bytes/image':>13}"
    ]
    for split, of in figures["splits"].items():
        outside = "?" if of["outside"] is None else f"{of['outside']:,}"
        lines.append(
            f"{split:<8}{of['shards']:>8}{of['images']:>12,}{of['tuples']:>12,}{outside:>10}"
            f"{of['bytes'] / 2**20:>10,.1f}{of['tuples_per_image']:>14.2f}{of['bytes_per_image']:>13,.0f}"
        )
    lines += [
        "tuples: those with an emoji of the vocabulary; outside: those with a rarer one, which no model says",
        f"split {manifest.split_text}",
    ]
    others = "other shares, or --split-by post" if manifest.split_by == "account" else "other shares"
    for split, of in figures["splits"].items():
        if not of["tuples"]:
            what = "has no tuple of the vocabulary" if of["shards"] else "is empty"
            lines.append(f"The {split} split {what}: {LACKS[split]}. Build from more posts, with {others}.")
    vocabulary = figures["vocabulary"]
    top = ", ".join(f"top {top} {share:.0%}" for top, share in vocabulary["share_of_top"].items())
    lines += [
        "",
        f"vocabulary: {vocabulary['emojis']} emojis, as varied as {vocabulary['effective']:.1f} equally "
        f"frequent ones; {len(figures['rare'])} rarer than {manifest.options.get('min_count', 1)} left out",
        f"of the tuples in train: {top}",
        *_histogram({display(emoji): count for emoji, count in vocabulary["counts"].items()}, SHOWN),
        "",
        "posts: " + _counts(figures["posts"]),
        *_histogram(figures["rejects"]),
    ]
    if figures["left_out"]:
        lines += ["left out: " + _counts(figures["left_out"])]
    if figures["broken_files"]:
        lost = _counts(figures["broken_files"])
        lines += [f"skipped of broken files: {lost}; how many posts were there is not known"]
    for event in figures["history"]:
        what = {name: event[name] for name in ("images", "tuples", "posts") if name in event}
        lines += [f"forgotten since: {len(event.get('forgot', ()))} accounts, with {_counts(what)}"]
    lines += [f"dataset {figures['dataset'][:12]}, {figures['encoding']}, {figures['image_size']} pixels"]
    return "\n".join(lines)


def _histogram(counts: dict[str, int], most: int | None = None) -> list[str]:
    """A line with a bar for each of the first `most` counts; shares are of all."""
    counts = {printable(what): count for what, count in counts.items()}
    total, longest = sum(counts.values()), max(counts.values(), default=0)
    wide = max(map(len, counts), default=0) if most is None else 0  # emojis have widths of their own
    return [
        f"  {what:<{wide}} {count:>9,} {count / total:>6.1%} {'█' * max(1, round(BAR * count / longest))}"
        for what, count in list(counts.items())[:most]
    ]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {printable(what)}" for what, count in counts.items())
