"""`emojigan predict`."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...datasets.printable import printable, printable_json
from ..parameters import emojis_of

if TYPE_CHECKING:
    from ...trainer.serving.model import Answer, Likely, Reading

BAR = 40  # characters of a probability of 1
LEADING = 5  # emojis of a reading, in its line
NAMED = 4  # emojis that are not told apart


@click.command(context_settings={"show_default": True})
@click.argument("model")
@click.argument("photos", nargs=-1, required=True)
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
@click.option(
    "--json", "as_json", is_flag=True, help="Print a JSON object for each photo, in its line, for programs."
)
@click.pass_context
def predict(
    ctx: click.Context,
    model: str,
    photos: tuple[str, ...],
    top_k: int,
    samples: int | None,
    seed: int,
    readings: bool,
    given: tuple[str, ...],
    deny: Path | None,
    as_json: bool,
) -> None:
    """Ask MODEL what people would react with to PHOTOS.

    MODEL is the folder of a run or of a snapshot, or an address of MLflow. PHOTOS are files, folders,
    patterns, or - for paths on stdin, one a line. A photo that cannot be read is told on stderr, and the
    others are answered; then the command ends with 1.

    Behind each probability of a photo's emojis is the 95 % interval of what all latents would say.

    \b
    emojigan predict models:/emojigan@champion photo.jpg
    emojigan predict models:/emojigan@champion photo.jpg --readings --given 😂
    emojigan predict runs/first holiday --json > answers.jsonl
    """
    from ...datasets.errors import InputError
    from ...datasets.images.find import find_photos
    from ...trainer.serving.load import finding, open_model
    from ...trainer.serving.model import pixels_of

    denied = emojis_of(deny, "a prediction", keep_variants=True) if deny else ()
    with finding(model) as found:
        asked = open_model(found)
    if found.mark:
        click.echo(printable(f"Warning: {found.name} {found.mark.warning}."), err=True)
    bad = 0
    for photo in find_photos(_from_stdin(photos)):
        try:
            pixels = [pixels_of(photo, asked.image_size, str(photo))]
        except InputError as error:
            click.echo(printable(f"{error}"), err=True)
            bad += 1
            continue
        latents = samples or 0
        (answer,) = asked.ask(pixels, top_k=top_k, samples=latents, seed=seed, deny=denied)
        kinds, added = None, None
        if readings:
            (kinds,) = asked.readings(pixels, top_k=top_k, seed=seed, deny=denied)
        if given:
            (added,) = asked.complete(pixels, given, top_k=top_k, samples=latents, seed=seed, deny=denied)
        if as_json:
            _echo_json(photo, answer, kinds, given, added)
        else:
            _echo(photo, answer, kinds, given, added, bool(denied))
    if bad:
        click.echo(f"{bad:,} {'photo' if bad == 1 else 'photos'} could not be read.", err=True)
        ctx.exit(1)


def _from_stdin(names: tuple[str, ...]) -> Iterator[str]:
    """The names, with the lines of stdin in the place of -."""
    for name in names:
        if name != "-":
            yield name
            continue
        for line in sys.stdin:
            if line.strip():
                yield line.rstrip("\r\n")


def _echo_json(
    photo: Path,
    answer: "Answer",
    readings: "tuple[Reading, ...] | None",
    given: tuple[str, ...],
    added: "tuple[Likely, ...] | None",
) -> None:
    told = {
        "photo": str(photo),
        "emojis": [asdict(each) for each in answer.emojis],
        "likeliest": [each.emoji for each in answer.likeliest],
        "latents": answer.latents,
    }
    if readings is not None:
        told["readings"] = [asdict(each) for each in readings]
    if added is not None:
        told |= {"given": given, "completion": [asdict(each) for each in added]}
    click.echo(printable_json(told))


def _echo(
    photo: Path,
    answer: "Answer",
    readings: "tuple[Reading, ...] | None",
    given: tuple[str, ...],
    added: "tuple[Likely, ...] | None",
    of_rest: bool,
) -> None:
    click.echo(printable(photo))
    click.echo(printable(f"  {_mode(answer, of_rest)}"))
    _echo_bars(answer.emojis)
    if readings is not None:
        _echo_readings(readings)
    if added is not None:
        click.echo(printable(f"  who writes {''.join(given)} adds"))
        _echo_bars(added)


def _mode(answer: "Answer", of_rest: bool) -> str:
    """Which emoji is the likeliest, or that this is not known."""
    first, *others = answer.likeliest
    if not others:
        what = "what else people write" if of_rest else "what people write"
        return (
            f"mostly {first.emoji}: {first.p:.0%} [{100 * first.low:.0f}, {100 * first.high:.0f}] of {what}"
        )
    *names, last = [each.emoji for each in answer.likeliest[:NAMED]] + ["others"] * (len(others) >= NAMED)
    latents = f"{answer.latents:,} latent{'s' if answer.latents > 1 else ''}"
    return f"no mode: {', '.join(names)} and {last} are not told apart by {latents}"


def _echo_bars(emojis: "Sequence[Likely]") -> None:
    from ...datasets.emojis.text import canonical, name
    from ...trainer.serving.model import Estimated

    for each in emojis:
        bar = "█" * round(BAR * each.p) or "▏"
        words = name(canonical(each.emoji) or each.emoji)
        known = isinstance(each, Estimated)
        interval = f" [{100 * each.low:4.1f}, {100 * each.high:4.1f}]" if known else ""
        click.echo(printable(f"  {each.emoji} {each.p:>6.1%}{interval} {bar} {words}"))


def _echo_readings(readings: "Sequence[Reading]") -> None:
    """A line for each: its share of the people, and its likeliest emojis."""
    if not readings:
        click.echo("  no readings: two draws of latents have nothing in common")
    for reading in readings:
        emojis = "  ".join(f"{each.emoji} {each.p:.0%}" for each in reading.emojis[:LEADING])
        click.echo(printable(f"  {reading.share:>4.0%} see it as {emojis}"))
