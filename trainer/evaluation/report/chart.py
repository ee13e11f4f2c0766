"""Numbers as places in a drawing: x and y from 0 to SIDE, y downwards as in SVG."""

import math

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ..metrics.calibration import Reliability

SIDE = 1000
TICKS = (0.0001, 0.001, 0.01, 0.1, 1)  # of a logarithmic axis of probabilities, from end to end


def ticks(highest: float) -> list[float]:
    """Round numbers from 0 to beyond the highest: an axis from the first to the last."""
    found = MaxNLocator(4, min_n_ticks=3).tick_values(0, highest)
    return [round(float(each), 10) for each in found if each >= 0]


def on_log_axis(probability: float) -> float:
    """Where it lies from the first of TICKS, 0, to 1, SIDE."""
    least = TICKS[0]
    return SIDE * (1 - math.log(max(probability, least)) / math.log(least))


def reliability_points(curve: Reliability) -> list[tuple[float, float, str]]:
    """A point for each bin, on logarithmic axes, and what it says in words."""
    return [
        (
            on_log_axis(told),
            SIDE - on_log_axis(posted),
            f"told {told:.2%}, posted {posted:.2%}, {number:,} times",
        )
        for told, posted, number in zip(curve.told, curve.posted, curve.number, strict=True)
    ]


def line(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    """A line through points as the path of an SVG; the extent of each axis fills the square."""
    points = np.stack([SIDE * _filled(x), SIDE * (1 - _filled(y))], axis=1)
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in points.tolist())


def places(points: NDArray[np.float64]) -> tuple[list[list[float]], float]:
    """Points [n, 2] in the middle of a square, and how far apart those are that lie one apart."""
    low, high = points.min(axis=0), points.max(axis=0)
    unit = SIDE / max(1.0, (high - low).max())
    x, y = (SIDE / 2 + unit * (points - (low + high) / 2)).T
    return np.stack([x, SIDE - y], axis=1).tolist(), unit


def _filled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = values.min(), values.max()
    return (values - low) / max(high - low, 1e-300)
