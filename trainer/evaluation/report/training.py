"""How the training went: metrics.jsonl ─► Curve, a metric over the steps."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ....datasets.store.trouble import MISSING
from ...tracking.metrics_file import read_from
from ..metrics.metric import Floats

MOST = 200  # points of a curve, each the mean of as many readings
SHOWN = {
    "val/nll": (
        "NLL on val",
        "surprise at posts that it does not learn from; the lowest is taken",
    ),
    "train/nll": ("NLL in training", "surprise at what it learns from: at whole reactions, or at tuples"),
    "train/wasserstein": ("Critic's margin", "how much more the critic gives to posts than to the generator"),
    "train/emojis_said": (
        "Emojis said",
        "how many different ones, in effect, in a batch: few are no good",
    ),
    "train/latent_use": ("Use of the latent", "what the latent decides, in nats: at 0 all readers are one"),
}
"""What is drawn: what it is called, and what to see in it."""


@dataclass(frozen=True)
class Curve:
    """A metric over the steps of a training; at least two points."""

    label: str
    explanation: str
    step: Floats  # [points]
    value: Floats  # [points]


def read_curves(metrics_file: Path) -> tuple[Curve, ...]:
    """Those of SHOWN that a run has; none where the file is gone."""
    try:
        readings, _ = read_from(metrics_file, 0, metrics_file.stat().st_size)
    except MISSING:
        return ()
    curves = []
    for name, (label, explanation) in SHOWN.items():
        points = np.array([(each.step, each.metrics[name]) for each in readings if name in each.metrics])
        points = points.reshape(-1, 2)[np.isfinite(points.reshape(-1, 2)).all(axis=1)]
        if len(points) > 1 and np.ptp(points[:, 1]) > 0:
            parts = np.array_split(points, min(MOST, len(points)))
            step, value = np.array([part.mean(axis=0) for part in parts]).T
            curves.append(Curve(label, explanation, step, value))
    return tuple(curves)
