"""`emojigan vectors`: make the file of emoji vectors that training reads, and look at what is in one."""

from pathlib import Path

import click

from ...datasets.errors import InputError
from ...datasets.posts.read import FORMATS
from ...datasets.printable import printable
from ...datasets.store.folder import Folder
from ..parameters import FOLDER

_FILE = click.Path(dir_okay=False, path_type=Path)
_TAKES = {  # method: options it needs, options it can have
    "names": ((), ()),
    "emoji2vec": (("from",), ()),
    "sum": (("words",), ("descriptions",)),
    "train": (("words",), ("descriptions", "epochs", "seed")),
    "skipgram": (("posts",), ("format", "min-count", "epochs", "seed")),
}


@click.group()
def vectors() -> None:
    """Emoji vectors: make a file of them, and look at what is in one."""


@vectors.command()
@click.option(
    "--out",
    type=_FILE,
    required=True,
    help="The file to write (word2vec binary); one that is there is replaced.",
)
@click.option(
    "--method",
    type=click.Choice(list(_TAKES)),
    help="How to make them, see above. Without it: emoji2vec if there is --from, else names.",
)
@click.option("--from", type=_FILE, help="emoji2vec: a word2vec file of trained emojis, binary or text.")
@click.option("--words", type=_FILE, help="sum, train: a word2vec file of words, such as GoogleNews'.")
@click.option(
    "--descriptions",
    type=_FILE,
    help='sum, train: lines "description TAB emoji". Without it: English names and keywords.',
)
@click.option(
    "--posts",
    type=click.Path(path_type=Path),
    multiple=True,
    help="skipgram: posts, as `shards build` reads them. Can be given several times.",
)
@click.option(
    "--format", type=click.Choice(["auto", *FORMATS]), help="skipgram: what the posts are. [default: auto]"
)
@click.option(
    "--min-count", type=click.IntRange(1), help="skipgram: how often a word or emoji must occur. [default: 5]"
)
@click.option(
    "--epochs",
    type=click.IntRange(1),
    help="train, skipgram: passes over the texts. [default: 40; skipgram 5]",
)
@click.option("--seed", type=click.IntRange(0), help="train, skipgram: seed of what is random. [default: 0]")
def build(out: Path, method: str | None, **given) -> None:
    """Write one vector per emoji, by one of five methods.

    \b
    names      from emoji names in 14 languages and English keywords; made in seconds, without a download
    emoji2vec  the published file, cleaned, its untrained vectors and newer emojis estimated from their words
    sum        the sum of the word vectors of an emoji's description
    train      emoji2vec's own training, from descriptions and word vectors
    skipgram   from how the captions of your posts use emojis

    \b
    Examples:
      emojigan vectors build --out vectors.bin
      emojigan vectors build --from emoji2vec.bin --out vectors.bin
      emojigan vectors build --method sum --words GoogleNews-vectors-negative300.bin.gz --out vectors.bin
      emojigan vectors build --method train --words words.bin --descriptions emojis.tsv --out vectors.bin
      emojigan vectors build --method skipgram --posts posts.jsonl --out vectors.bin
    """
    from ...datasets.emojis.vectors.word2vec import load_vectors, save_vectors

    options = {name.replace("_", "-"): value for name, value in given.items() if value not in (None, ())}
    method = method or ("emoji2vec" if "from" in options else "names")
    needed, possible = _TAKES[method]
    for name in needed:
        if name not in options:
            raise InputError(f"--method {method} needs --{name}.")
    for name in options:
        if name not in (*needed, *possible):
            users = " or ".join(each for each, takes in _TAKES.items() if name in takes[0] + takes[1])
            raise InputError(f"--{name} is for --method {users}, not {method}.")
    table, origin = _make(method, options)
    save_vectors(table, out, origin)
    written = load_vectors(out)
    for fact, value in origin.facts.items():
        click.echo(printable(f"{fact}: {value}"))
    count, dimension = written.matrix.shape
    filled = f", {len(origin.filled)} of them filled" if origin.filled else ""
    click.echo(
        f"{printable(out)}: {count} emojis{filled}, {dimension} dimensions, sha256 {written.sha256[:12]}"
    )


@vectors.command()
@click.argument("file", type=_FILE)
@click.option(
    "--shards",
    type=FOLDER,
    help="A dataset, to see how much of its vocabulary the vectors cover.",
)
@click.option("--out", type=_FILE, required=True, help="The page to write; one that is there is replaced.")
def report(file: Path, shards: Folder | None, out: Path) -> None:
    """Write a page about the vectors in FILE: neighbours, hubs, duplicates, analogies, sums, coverage.

    \b
    Examples:
      emojigan vectors report vectors.bin --out vectors.html
      emojigan vectors report vectors.bin --shards shards --out vectors.html
    """
    from ...datasets.emojis.vectors.report import examine, format_table, write_page
    from ...datasets.emojis.vectors.word2vec import load_vectors
    from ...datasets.shards.manifest import read_manifest

    vocabulary = read_manifest(shards).vocabulary if shards else None
    found = examine(load_vectors(file), file.name, vocabulary)
    write_page(found, out)
    click.echo(format_table(found))
    click.echo(f"{printable(out)} shows them")


def _make(method: str, options: dict):
    from ...datasets.emojis.text import CANONICAL_VERSION
    from ...datasets.emojis.vectors.descriptions import sum_words, train
    from ...datasets.emojis.vectors.emoji2vec import complete
    from ...datasets.emojis.vectors.names import build_vectors
    from ...datasets.emojis.vectors.skipgram import train_on_captions
    from ...datasets.emojis.vectors.word2vec import Origin

    descriptions = options.get("descriptions")
    seed = options.get("seed", 0)
    if method == "names":
        return build_vectors(), Origin("names", {}, {"emoji names": CANONICAL_VERSION})
    if method == "emoji2vec":
        return complete(options["from"])
    if method == "sum":
        return sum_words(options["words"], descriptions)
    if method == "train":
        return train(options["words"], descriptions, epochs=options.get("epochs", 40), seed=seed)
    return train_on_captions(
        options["posts"],
        options.get("format", "auto"),
        min_count=options.get("min-count", 5),
        epochs=options.get("epochs", 5),
        seed=seed,
    )
