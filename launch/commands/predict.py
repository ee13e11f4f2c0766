"""`emojigan predict`."""

from pathlib import Path

import click

from ...datasets.printable import printable, printable_json
from ..parameters import emojis_of

BAR = 40  # characters of a probability of 1
LEADING = 5  # emojis of a reading, in its line
NAMED = 4  # emojis that are not told apart


@click.command(context_settings={"show_default": True})
@click.argument("model")
@click.argument("photos", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--top-k", type=click.IntRange(min=1), default=10, help="How many emojis to show, the likeliest first."
)
@click.option(
    "--samples",
    type=click.IntRange(min=1, max=10_000),
    show_default="as many as it takes to tell the likeliest emoji from the others, at most 4,096",
    help="Latents drawn for each photo; more make the answer surer. Readings have as many as they need.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    help="Seed of the latents; the same seed, the same answer.",
)
@click.option(
    "--readings",
    is_flag=True,
    help="Show the kinds of reactions that a photo has, each with its share of the people and its emojis.",
)
@click.option(
    "--given", multiple=True, metavar="EMOJI", help="Show what people add to this emoji; may be repeated."
)
@click.option(
    "--deny",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of emojis that are never said, one a line, as `emojigan shards build --deny` takes it; the "
    "others keep their ratios.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each photo, for programs.")
def predict(
    model: str,
    photos: tuple[Path, ...],
    top_k: int,
    samples: int | None,
    seed: int,
    readings: bool,
    given: tuple[str, ...],
    deny: Path | None,
    as_json: bool,
) -> None:
    """Ask MODEL what people would react with to PHOTOS.

    Behind each probability of a photo's emojis is the 95 % interval of what all latents would say.

    \b
    emojigan predict models:/emojigan@champion photo.jpg
    emojigan predict models:/emojigan@champion photo.jpg --readings --given 😂
    emojigan predict models:/emojigan/3 *.jpg --json
    """
    from ...trainer.serving.predict import predict as ask

    denied = emojis_of(deny, "a prediction", keep_variants=True) if deny else ()
    answers, mark = ask(
        model,
        list(photos),
        num_samples=samples,
        top_k=top_k,
        seed=seed,
        readings=readings,
        given=given,
        deny=denied,
    )
    if mark:
        click.echo(printable(f"Warning: {model} {mark.warning}."), err=True)
    for photo, answer in zip(photos, answers, strict=True):
        if as_json:
            told = {"photo": str(photo), "emojis": answer.emojis}
            told |= {} if answer.readings is None else {"readings": answer.readings}
            told |= {} if answer.completion is None else {"given": given, "completion": answer.completion}
            click.echo(printable_json(told))
            continue
        click.echo(printable(photo))
        if answer.likeliest:
            click.echo(printable(f"  {_mode(answer.likeliest, bool(denied))}"))
        _echo_bars(answer.emojis)
        if answer.readings is not None:
            _echo_readings(answer.readings)
        if answer.completion is not None:
            click.echo(printable(f"  who writes {''.join(given)} adds"))
            _echo_bars(answer.completion)


def _mode(likeliest: list[dict], of_rest: bool) -> str:
    """Which emoji is the likeliest, or that this is not known."""
    first, *others = likeliest
    if not others:
        low, high = (round(100 * first[end]) for end in ("low", "high"))
        what = "what else people write" if of_rest else "what people write"
        return f"mostly {first['emoji']}: {first['p']:.0%} [{low}, {high}] of {what}"
    *names, last = [row["emoji"] for row in likeliest[:NAMED]] + ["others"] * (len(likeliest) > NAMED)
    latents = f"{first['latents']:,} latent{'s' if first['latents'] > 1 else ''}"
    return f"no mode: {', '.join(names)} and {last} are not told apart by {latents}"


def _echo_bars(emojis: list[dict]) -> None:
    from ...datasets.emojis.text import canonical, name

    for row in emojis:
        bar = "█" * round(BAR * row["p"]) or "▏"
        words = name(canonical(row["emoji"]) or row["emoji"])
        interval = f" [{100 * row['low']:4.1f}, {100 * row['high']:4.1f}]" if "low" in row else ""
        click.echo(printable(f"  {row['emoji']} {row['p']:>6.1%}{interval} {bar} {words}"))


def _echo_readings(readings: list[dict]) -> None:
    """A line for each: its share of the people, and its likeliest emojis."""
    if not readings:
        click.echo("  no readings: two draws of latents have nothing in common")
    for reading in readings:
        emojis = "  ".join(f"{row['emoji']} {row['p']:.0%}" for row in reading["emojis"][:LEADING])
        click.echo(printable(f"  {reading['share']:>4.0%} see it as {emojis}"))
