"""`emojigan predict`."""

from pathlib import Path

import click

from ...datasets.printable import printable, printable_json

BAR = 40  # characters of a probability of 1


@click.command(context_settings={"show_default": True})
@click.argument("model")
@click.argument("photos", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--top-k", type=click.IntRange(min=1), default=10, help="How many emojis to show, the likeliest first."
)
@click.option(
    "--samples",
    type=click.IntRange(min=1, max=10_000),
    default=50,
    help="Latents drawn for each photo; more make the answer surer.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    help="Seed of the latents; the same seed, the same answer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each photo, for programs.")
def predict(model: str, photos: tuple[Path, ...], top_k: int, samples: int, seed: int, as_json: bool) -> None:
    """Ask MODEL what people would react with to PHOTOS.

    \b
    emojigan predict models:/emojigan@champion photo.jpg
    emojigan predict models:/emojigan/3 *.jpg --json
    """
    from ...datasets.emojis.text import canonical, name
    from ...trainer.serving.predict import predict as ask

    answers, mark = ask(model, list(photos), num_samples=samples, top_k=top_k, seed=seed)
    if mark:
        click.echo(printable(f"Warning: {model} {mark.warning}."), err=True)
    for photo, answer in zip(photos, answers, strict=True):
        if as_json:
            click.echo(printable_json({"photo": str(photo), "emojis": answer}))
            continue
        click.echo(printable(photo))
        for row in answer:
            bar = "█" * round(BAR * row["p"]) or "▏"
            words = name(canonical(row["emoji"]) or row["emoji"])
            click.echo(printable(f"  {row['emoji']} {row['p']:>6.1%} {bar} {words}"))
