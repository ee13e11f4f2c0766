"""Takes what metrics.jsonl says to MLflow, in a thread for which nobody waits.

    metrics.jsonl, from a position on ─► what MLflow does not have ─► log_batch ─► the next position

Nothing that a server does reaches the training. It may be absent, slow, hang or refuse: that is told in one
line, and in one more when it answers again. After every failure MLflow is asked what it has, so a batch that
arrived, but whose answer did not, is not sent twice. One that arrives later still is known to MLflow by its
times, which are those of the file.
"""

import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from ...datasets.printable import printable
from ..run import METRICS_FILE
from .about import About, of_this_start
from .metrics_file import Reading, read_from
from .mlflow_run import last_steps, open_run, page_of
from .server import cause, database, import_mlflow, mlflow_client, named, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

SEND_EVERY = 10.0  # seconds
LONGEST_PAUSE = 30.0  # seconds between two tries
BLOCK = 1 << 20  # bytes of the file that are read at once
MOST = 1000  # metrics that a call takes


class Delivery:
    """The thread; made by `tracking`."""

    def __init__(self, run: Path, about: About, tags: Mapping[str, str], *, begins: bool) -> None:
        self.ready = threading.Event()  # nothing is left to be done that would slow the first steps down
        self._run, self._about, self._begins = run, about, begins
        self._tags, self._tagged = tags, dict(tags)
        self._path = run / METRICS_FILE
        self._address = tracking_uri()
        self._undated = int(self._path.stat().st_mtime * 1000)  # the time of lines that tell none
        self._position = 0
        self._start: dict[str, str] = {}
        self._run_id: str | None = None
        self._known: dict[str, int] | None = None  # of each metric, the last step that MLflow has
        self._trouble: str | None = None
        self._status: str | None = None
        self._ending, self._given_up = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def end(self, status: str, patience: float) -> None:
        """Deliver the rest and end the MLflow run; after `patience` seconds say what to do, and leave it."""
        self._status = status
        self._ending.set()
        try:
            self._thread.join(patience)
        finally:
            if self._thread.is_alive():
                self._given_up.set()
                self._tell(
                    f"{self._trouble or 'takes its time'}. It lacks some of {self._path}: to deliver that, "
                    "run the same command again."
                )

    def _work(self) -> None:
        pause = 1.0
        while not self._given_up.is_set():
            status = self._status  # before the file is read: it was written to the end when this was set
            try:
                self._deliver(status)
            except Exception as error:
                self._known, pause = None, min(2 * pause, LONGEST_PAUSE)
                self._note(cause(error))
            else:
                pause = SEND_EVERY
                self._note(None)
                if status:
                    return
            self.ready.set()
            if self._ending.wait(pause) and self._trouble:
                time.sleep(1)  # for once it ends there is not much time to try in

    def _deliver(self, status: str | None) -> None:
        """Send what is new, and the status of the training where it has ended."""
        client = self._client()
        from mlflow.entities import RunTag

        if self._run_id is None:
            self._start = self._start or of_this_start()
            opened = open_run(self._run, client, self._about, self._start, begins=self._begins)
            self._run_id = opened.run_id
            if page := page_of(self._address, opened):
                tqdm.write(page)
                sys.stdout.flush()  # into a log, now
        if self._known is None:
            self._known = last_steps(client, self._run_id)
        while True:
            readings, position = read_from(self._path, self._position, BLOCK)
            if position == self._position:
                break
            metrics = [metric for reading in readings for metric in self._unknown(reading, self._known)]
            for first in range(0, len(metrics), MOST):
                client.log_batch(self._run_id, metrics=metrics[first : first + MOST])
            self._position = position
        if (tags := {**self._tags}) != self._tagged:
            client.log_batch(self._run_id, tags=[RunTag(key, value) for key, value in tags.items()])
            self._tagged = tags
        if status:
            client.set_terminated(self._run_id, status)

    def _client(self) -> "MlflowClient":
        """What takes long here is Python's work: a training beside it would wait for its interpreter."""
        import_mlflow(retries=0)  # for it is tried again here
        if database() is None:
            self.ready.set()
        return mlflow_client()

    def _unknown(self, reading: Reading, known: dict[str, int]) -> list:
        """The metrics of a reading that MLflow does not have."""
        from mlflow.entities import Metric

        at = reading.time or self._undated
        return [
            Metric(name, value, at, reading.step)
            for name, value in reading.metrics.items()
            if reading.step > known.get(name, -1)
        ]

    def _note(self, trouble: str | None) -> None:
        """Tell when trouble begins, and when it is over."""
        before, self._trouble = self._trouble, trouble
        if self._given_up.is_set():
            return  # what there was to say is said
        if trouble and not before:
            self._tell(f"{trouble}. The training goes on, and its metrics wait in {self._path}.")
        if before and not trouble:
            self._tell("answers again.")

    def _tell(self, what: str) -> None:
        tqdm.write(printable(f"{named(self._address)} {what}"), file=sys.stderr)
