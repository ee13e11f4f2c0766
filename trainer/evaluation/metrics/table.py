"""Every metric of single emojis, in the order in which tables show them."""

from . import calibration, divergences, frechet, proper_scores
from .metric import Metric, Said

METRICS: tuple[Metric[Said], ...] = (
    *divergences.METRICS,
    *proper_scores.METRICS,
    *calibration.METRICS,
    *frechet.METRICS,
)
