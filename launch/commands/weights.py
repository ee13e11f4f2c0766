"""`emojigan weights`: what weights would do, before training with them."""

import json
import math
from dataclasses import asdict

import click

from ...datasets.errors import InputError
from ...datasets.store.folder import Folder
from ..parameters import FOLDER


@click.group()
def weights() -> None:
    """Look at what weights of samples would do."""


@weights.command()
@click.argument("shards", type=FOLDER)
@click.option(
    "--k", "ks", help="The k of exponential weights to look at, with commas between, such as 0,1,10."
)
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
def report(shards: Folder, ks: str | None, as_json: bool) -> None:
    """Say what each kind of weights would do to the dataset SHARDS.

    For each: the largest weight over the smallest, how many tuples the weighted ones are worth, how far the
    answers are shifted (total variation), and what is left of 50 samples when the shift is undone; with fewer
    than ten left, `predict` and `evaluate` refuse. Without --k: k of 1, 10 and 100, and those with which
    the tuples are worth a half and a tenth of their number.

    \b
    emojigan weights report shards
    emojigan weights report shards --k 0,1,10,750 --json
    """
    from ...datasets.care.weights_report import effects, table
    from ...datasets.shards.manifest import read_manifest

    found = effects(read_manifest(shards), () if ks is None else _numbers(ks))
    click.echo(
        json.dumps([asdict(each) for each in found], ensure_ascii=False, indent=1)
        if as_json
        else table(found)
    )


def _numbers(text: str) -> list[float]:
    try:
        numbers = [float(each) for each in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(0 <= number < math.inf for number in numbers):
        raise InputError(f"--k takes numbers from 0 up, separated by commas, such as 0,1,10; not {text!r}.")
    return numbers
