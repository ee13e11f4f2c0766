"""Derive keywords.tsv: CLDR's English annotations + emojilib -> one line per emoji.

To derive it again, unpack each package into a folder of its own:

    npm pack cldr-annotations-full@48.2.0 emojilib@4.0.3
    python scripts/derive_keywords.py cldr/package emojilib/package datasets/emojis/vectors/keywords
"""

import json
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from emojigan.datasets.emojis.text import canonical

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("cldr", type=FOLDER)
@click.argument("emojilib", type=FOLDER)
@click.argument("out", type=FOLDER)
def main(cldr: Path, emojilib: Path, out: Path) -> None:
    """Write OUT/keywords.tsv and the two licences from the unpacked packages CLDR and EMOJILIB."""
    keywords: dict[str, set[str]] = defaultdict(set)
    for emoji, words in (*cldr_keywords(cldr), *emojilib_keywords(emojilib)):
        key = canonical(emoji, keep_variants=True)
        if key:
            keywords[key].update(plain(words))
    lines = [f"{emoji}\t{'|'.join(sorted(keywords[emoji]))}\n" for emoji in sorted(keywords)]
    (out / "keywords.tsv").write_text("".join(lines), encoding="utf-8", newline="\n")
    shutil.copyfile(cldr / "LICENSE", out / "LICENSE-CLDR")
    shutil.copyfile(emojilib / "LICENSE", out / "LICENSE-emojilib")
    click.echo(f"{len(lines)} emojis")


def cldr_keywords(package: Path) -> Iterator[tuple[str, list[str]]]:
    """(emoji, keywords and name) of the English annotations."""
    document = json.loads((package / "annotations/en/annotations.json").read_text("utf-8"))
    for emoji, entry in document["annotations"]["annotations"].items():
        yield emoji, [*entry.get("default", ()), *entry.get("tts", ())]


def emojilib_keywords(package: Path) -> Iterator[tuple[str, list[str]]]:
    """(emoji, keywords and name) of emojilib's English table."""
    yield from json.loads((package / "dist/emoji-en-US.json").read_text("utf-8")).items()


def plain(words: Iterable[str]) -> Iterator[str]:
    """Lower case, spaces for underscores; without emoticons such as ":D" or "<3"."""
    for word in words:
        word = word.lower().replace("_", " ").strip()
        if word[:1].isalnum():
            yield word


if __name__ == "__main__":
    main()
