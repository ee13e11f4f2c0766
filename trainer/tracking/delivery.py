"""Has metrics.jsonl delivered to MLflow, and waits for nobody: a courier does it, in a process of its own.

    order, tags, status ─► its stdin
    pages, troubles     ◄─ its stdout, told to the user by a thread

It is a process because MLflow's client works in Python for seconds, and with a database for a tenth of the
time: a thread of the training would take the interpreter away from the steps (benchmarks/README.md).
"""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from ...datasets.printable import printable
from ..run import METRICS_FILE
from . import courier
from .about import About, of_this_start
from .courier import Order
from .server import named, tracking_uri

SEND_EVERY = 10.0  # seconds
LONGEST_PAUSE = 30.0  # seconds between two tries


class Delivery:
    """The courier of a training; made by `tracking`."""

    def __init__(self, process: "subprocess.Popen[str]", run: Path, about: About, *, begins: bool) -> None:
        self.ready = threading.Event()  # an end that comes at once would be delivered, too
        self._path, self._address = run / METRICS_FILE, tracking_uri()
        self._trouble: str | None = None
        self._tags: dict[str, str] = {}
        self._process = process
        order = Order(run, about, of_this_start(), begins, SEND_EVERY, LONGEST_PAUSE)
        self._order(**asdict(order) | {"run": str(run)})
        self._listener = threading.Thread(target=self._listen, name="mlflow", daemon=True)
        self._listener.start()

    def tag(self, name: str, value: str) -> None:
        """Have MLflow told a tag of the run."""
        if self._tags.get(name) != value:
            self._tags[name] = value
            self._order(tags=self._tags)

    def end(self, status: str, patience: float) -> None:
        """Deliver the rest and end the MLflow run; after `patience` seconds say what to do, and leave it."""
        self._order(status=status)
        trouble = None
        try:
            if code := self._process.wait(patience):
                trouble = f"was not told all: its courier ended ({code})"
        except subprocess.TimeoutExpired:
            trouble = self._trouble or "takes its time"
        finally:
            with suppress(BrokenPipeError), self._process:
                self._process.kill()
                self._listener.join()
        if trouble:
            self._tell(
                f"{trouble}. It lacks some of {self._path}: to deliver that, run the same command again."
            )

    def _order(self, **order: object) -> None:
        assert self._process.stdin
        with suppress(BrokenPipeError):  # it is gone: `end` tells
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()

    def _listen(self) -> None:
        """Tell what the courier answers, as long as there is one."""
        assert self._process.stdout
        for line in self._process.stdout:
            answer = json.loads(line)
            if "ready" in answer:
                self.ready.set()
            elif page := answer.get("page"):
                tqdm.write(page)
                sys.stdout.flush()  # into a log, now
            elif trouble := answer["trouble"]:
                self._trouble = trouble
                self._tell(f"{trouble}. The training goes on, and its metrics wait in {self._path}.")
            else:
                self._trouble = None
                self._tell("answers again.")
        self.ready.set()

    def _tell(self, what: str) -> None:
        tqdm.write(printable(f"{named(self._address)} {what}"), file=sys.stderr)


@contextmanager
def a_courier() -> Iterator["subprocess.Popen[str]"]:
    """The process of a courier, which imports MLflow while its order is still to come; it ends with this."""
    with start_courier() as process:
        try:
            yield process
        finally:
            process.kill()


def start_courier() -> "subprocess.Popen[str]":
    """The courier's process."""
    return beside(courier.__name__)


def beside(module: str) -> "subprocess.Popen[str]":
    """A process of `main` in a module, with the paths of this one, and no other: in its folder modules may
    lie that are not ours."""
    program = f"import sys; sys.path[:] = {sys.path!r}; from {module} import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # signals are for the training, which ends it
    )
