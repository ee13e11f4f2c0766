"""Progress of long work: a bar on a terminal, in a log a new reading now and then."""

import sys

from tqdm import tqdm

TELLING = "{desc} {n_fmt}/{total_fmt}|{bar}| <{remaining}{postfix}"
"""The form of a bar that has much to tell behind it: what it leaves out, it can do without."""


class Bar(tqdm):
    """A tqdm bar that tells a slow rate as "1.16 s/step", where tqdm would write "1.16s/ steps"."""

    @staticmethod
    def format_meter(*args, unit: str = "it", **kwargs) -> str:
        """A fast rate has the unit in the plural behind it, a slow one in the singular below it."""
        text = tqdm.format_meter(*args, unit=f" {unit}", **kwargs)
        return text.replace(f"s/ {unit}", f" s/{unit.removesuffix('s')}")


def progress(
    total: int | None,
    description: str,
    unit: str,
    *,
    initial: int = 0,
    shown: bool = True,
    form: str | None = None,
    patience: float = 0,
) -> Bar:
    """A bar on stderr, with the rate and the time left unless it has a `form`; `unit` is a plural.

    Work that is done within `patience` seconds shows none.
    """
    terminal = sys.stderr.isatty()
    return Bar(
        total=total,
        initial=initial,
        desc=description,
        unit=unit,
        ascii=not terminal,
        bar_format=form,
        ncols=None if terminal else 80,
        mininterval=0.2 if terminal else 30,
        delay=patience,
        disable=not shown,
    )


def duration(seconds: float) -> str:
    """A time as people say it: "40 s", "12 min", "3 h 20 min"."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min"
