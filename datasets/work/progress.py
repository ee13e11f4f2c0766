"""Progress of long work: a bar on a terminal, a line every half minute in a log."""

import sys

from tqdm import tqdm


def progress(total: int | None, description: str, unit: str, *, initial: int = 0, shown: bool = True) -> tqdm:
    """A tqdm bar on stderr, with the rate and the time left."""
    terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=initial,
        desc=description,
        unit=f" {unit}",
        ascii=not terminal,
        mininterval=0.2 if terminal else 30,
        disable=not shown,
    )
