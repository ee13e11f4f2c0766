"""Where the numbers of a run go: metrics.jsonl in its folder, and from there MLflow.

    log ─► metrics.jsonl ─► a courier ─► MLflow

Rank 0 alone writes. The MLflow run is begun once a server is there, its id kept in the folder, and resumed
with the training. Plain client calls, no global active run: MLflow would end that one as FINISHED however the
program died.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ...datasets.printable import printable
from ..run import METRICS_FILE
from .about import About
from .delivery import Delivery
from .metrics_file import MetricsFile, cut

START_WITHIN = 15.0  # seconds, for MLflow to be imported and its database, but no server, to be opened
PATIENCE = 60.0  # seconds at the end of a training, for what is not delivered
HASTE = 3.0  # the same where it ends early
SIGNS = "emojigan.signs"  # a tag: what the watch saw, such as "diverges, collapses"


class Tracker:
    """Writes metrics; made by `tracking`."""

    def __init__(self, file: MetricsFile, delivery: Delivery) -> None:
        self._file, self._delivery = file, delivery

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Note some metrics of a step."""
        self._file.append(step, metrics)

    def tag(self, name: str, value: str) -> None:
        """Tell MLflow of this training, beside its metrics."""
        self._delivery.tag(name, value)

    def sync(self) -> None:
        """See that what was noted outlasts whatever comes: a checkpoint that is there has its metrics."""
        self._file.sync()

    def close(self) -> None:
        """The last of `sync`."""
        self._file.close()


@contextmanager
def tracking(
    run: Path, about: About, process: "subprocess.Popen[str]", *, resumed_at: int
) -> Iterator[Tracker]:
    """Track a training from step `resumed_at` on; it ends FINISHED, or FAILED or KILLED with an error.

    `process` is of a courier that has no order yet.

    Metrics of steps after `resumed_at` were made by a run that was killed, and come again: they are cut.
    """
    path = run / METRICS_FILE
    if damaged := cut(path, resumed_at):
        print(printable(f"{path}: {damaged} damaged line(s) are dropped."), file=sys.stderr)
    run.mkdir(parents=True, exist_ok=True)
    file = MetricsFile(path)
    delivery = Delivery(process, run, about, begins=resumed_at == 0)
    tracker, status = Tracker(file, delivery), "FAILED"
    try:
        with closing(tracker):
            delivery.ready.wait(START_WITHIN)
            yield tracker
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        delivery.end(status, PATIENCE if status == "FINISHED" else HASTE)
