"""The option --workers, which several commands have."""

import os

import click


def usable_cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


workers_option = click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=usable_cores,
    show_default="usable cores",
    help="Processes; the result is the same for any number.",
)
