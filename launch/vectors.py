"""`emojigan vectors`: make the file of emoji vectors that training reads."""

from pathlib import Path

import click


@click.group()
def vectors() -> None:
    """Emoji vectors: build the default table or clean one of your own."""


@vectors.command()
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The file to write (word2vec binary). An old one is replaced.",
)
@click.option(
    "--from",
    "source",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A word2vec file, binary or text, to take instead of the default table.",
)
def build(out: Path, source: Path | None) -> None:
    """Write one vector per emoji.

    Without --from, the default table: 300 dimensions, made in seconds from emoji names in 14 languages and
    English keywords, without a download. With --from, your file's emojis under their canonical form.

    \b
    Examples:
      emojigan vectors build --out vectors.bin
      emojigan vectors build --from emoji2vec.bin --out vectors.bin
    """
    from ..datasets.vectors import build_vectors, keyed, load_vectors, save_vectors

    if source:
        given = load_vectors(source)
        table = keyed(given.emojis, given.matrix)
    else:
        table = build_vectors()
    save_vectors(table, out)
    written = load_vectors(out)
    count, dimension = written.matrix.shape
    click.echo(f"{out}: {count} emojis, {dimension} dimensions, sha256 {written.sha256[:12]}")
