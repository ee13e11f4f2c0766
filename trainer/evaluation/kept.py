"""evaluation.json: what a run scored, of which snapshot, and on which posts.

Evaluation ─► Kept ─► evaluation.json of the run ─► Kept ─► the registry
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ...datasets.errors import InputError
from ...datasets.store.atomic import telling_where
from ...datasets.store.trouble import MISSING
from ..run import EVALUATION
from .bootstrap import Comparison, Interval


@dataclass(frozen=True)
class Kept:
    """What is kept of an evaluation. Of each model, by its label and the key of a metric; the run's first."""

    snapshot: str  # its name in the run
    digest: str  # SHA-256 of its SHA256SUMS: which bytes were scored
    manifest: str  # SHA-256 of the manifest whose held-out posts they were scored on
    scores: Mapping[str, Mapping[str, float]]
    intervals: Mapping[str, Mapping[str, Interval]]
    beside: Mapping[str, Mapping[str, Comparison]]  # how the run's model is beside each other one
    floor: Mapping[str, float]
    seeds: Mapping[str, tuple[float, ...]]
    readings: int | None  # how many held-out posts support, at most
    harm: str | None  # what a reviewer has to judge; empty if nothing; None if it was not looked for

    @property
    def own(self) -> str:
        """The label of the run's model."""
        return next(iter(self.scores))

    def to_json(self) -> str:
        """The content of evaluation.json."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n"


def read_kept(run: Path) -> Kept:
    """What was kept of the last evaluation of a run.

    Raises:
        InputError: it was not evaluated, or by a version that did not note which bytes it scored.
    """
    path, again = run / EVALUATION, f"Run `emojigan evaluate {run}`"
    try:
        with telling_where(path):
            content = json.loads(path.read_text(encoding="utf-8"))
    except MISSING as error:
        raise InputError(f"{run} was not evaluated. {again} first.") from error
    except ValueError as error:
        raise InputError(f"{path} is damaged. {again} again.") from error
    try:
        content["intervals"] = {
            label: {key: Interval(**each) for key, each in of.items()}
            for label, of in content["intervals"].items()
        }
        content["beside"] = {
            label: {key: Comparison(each["word"], Interval(**each["difference"])) for key, each in of.items()}
            for label, of in content["beside"].items()
        }
        return Kept(**content)
    except (TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path} is damaged, or by an earlier version. {again} again.") from error
