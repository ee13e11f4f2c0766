"""How models that were judged alike are told: as JSON, or as tables and verdicts."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ..datasets.printable import printable, printable_json

if TYPE_CHECKING:
    from ..trainer.evaluation.compare import Compared


def echo_compared(compared: "Compared", about: Iterable[str], *, as_json: bool) -> None:
    """Tell of each model, and how the first is beside each other one.

    Args:
        about: lines between the tables and the verdicts.
    """
    from ..trainer.evaluation.compare import verdicts
    from ..trainer.evaluation.metrics.reactions import REACTION_METRICS
    from ..trainer.evaluation.metrics.table import METRICS
    from ..trainer.evaluation.report.tables import format_table, table

    if as_json:
        for model in compared.models:
            click.echo(printable_json(asdict(model)))
        return
    for metrics in (METRICS, REACTION_METRICS):
        shown = table(metrics, compared.models, compared.floor)
        if shown.rows:
            click.echo(format_table(shown) + "\n")
    for line in about:
        click.echo(line)
    for line in verdicts(compared):
        click.echo(printable(line))
