"""Takes what metrics.jsonl says to MLflow: a process beside the training, which `delivery` starts.

    metrics.jsonl, from a position on ─► what MLflow does not have ─► log_batch ─► the next position

Nothing that a server does reaches the training. It may be absent, slow, hang or refuse: that is told in one
line, and in one more when it answers again. After every failure MLflow is asked what it has, so a batch that
arrived, but whose answer did not, is not sent twice. One that arrives later still is known to MLflow by its
times, which are those of the file.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from ..run import METRICS_FILE
from ..runtime.signals import SIGNALS
from .about import About
from .metrics_file import Reading, read_from
from .mlflow_run import last_steps, open_run, page_of
from .server import cause, database, import_ahead, mlflow_client, tracking_uri

BLOCK = 1 << 20  # bytes of the file that are read at once
MOST = 1000  # metrics that a call takes


@dataclass(frozen=True)
class Order:
    """What a courier is to do."""

    run: Path
    about: About
    start: dict[str, str]  # tags of this start
    begins: bool  # nothing was trained yet
    send_every: float  # seconds
    longest_pause: float  # seconds between two tries


def main() -> None:
    """Do what is ordered on stdin, a line of JSON each, and answer so on stdout.

    The first is an Order; then come {"tags": …} and, at the end, {"status": …}. Answers are {"ready": true}
    when MLflow was asked for the first time, {"page": …} and {"trouble": … or null}.

    Signals that stop a training do not stop this: schedulers send them to all processes of a job, and how the
    training ends is to be told.
    """
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # what MLflow prints must not come between them
        import_ahead()  # the training has not come to its order yet
        if not (first := sys.stdin.readline()):
            os._exit(0)  # the training has refused to begin
        courier = Courier(order_of(first), answers)
        threading.Thread(target=courier.hear, args=(sys.stdin, os._exit), daemon=True).start()
        courier.work()
    os._exit(0)  # a thread that reads stdin would be in the way of an interpreter that ends


def order_of(line: str) -> Order:
    """The first that is told."""
    first = json.loads(line)
    return Order(**first | {"run": Path(first["run"]), "about": About(**first["about"])})


class Courier:
    """Does one order."""

    def __init__(self, order: Order, answers: TextIO) -> None:
        self._order, self._answers = order, answers
        self._path = order.run / METRICS_FILE
        self._address = tracking_uri()
        self._undated = int(self._path.stat().st_mtime * 1000)  # the time of lines that tell none
        self._position = 0
        self._run_id: str | None = None
        self._known: dict[str, int] | None = None  # of each metric, the last step that MLflow has
        self._trouble: str | None = None
        self._tags: dict[str, str] = {}
        self._told: dict[str, str] = {}  # of the tags
        self._status: str | None = None
        self._ending = threading.Event()

    def hear(self, orders: TextIO, end: Callable[[int], object]) -> None:
        """Take further orders until there are no more: the training is gone, and this ends at once."""
        for line in orders:
            order = json.loads(line)
            self._tags = order.get("tags", self._tags)
            if "status" in order:
                self._status = order["status"]
                self._ending.set()
        end(0)

    def work(self) -> None:
        """Deliver until the training ended and MLflow has everything."""
        if database() is None:
            self._answer(ready=True)  # a server may take its time
        pause = 1.0
        while True:
            status = self._status  # before the file is read: it was written to the end when this was set
            try:
                self._deliver(status)
            except Exception as error:
                self._known, pause = None, min(2 * pause, self._order.longest_pause)
                self._note(cause(error))
            else:
                pause = self._order.send_every
                self._note(None)
                if status:
                    return
            self._answer(ready=True)
            if self._ending.wait(pause) and self._trouble:
                time.sleep(1)  # for once it ends there is not much time to try in

    def _deliver(self, status: str | None) -> None:
        """Send what is new, and the status of the training where it has ended."""
        client = mlflow_client()
        from mlflow.entities import RunTag

        order = self._order
        if self._run_id is None:
            opened = open_run(order.run, client, order.about, order.start, begins=order.begins)
            self._run_id = opened.run_id
            if page := page_of(self._address, opened):
                self._answer(page=page)
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
        if (tags := self._tags) != self._told:
            client.log_batch(self._run_id, tags=[RunTag(key, value) for key, value in tags.items()])
            self._told = tags
        if status:
            client.set_terminated(self._run_id, status)

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
        if bool(trouble) != bool(before):
            self._answer(trouble=trouble)

    def _answer(self, **answer: str | bool | None) -> None:
        self._answers.write(json.dumps(answer) + "\n")
        self._answers.flush()
