"""What keeps a training safe and tells of it, beside the same training without.

    python benchmarks/overhead.py                      # a GPU: a batch of 256
    python benchmarks/overhead.py --batch 64 --steps 40 --warm 10 --tuples 5000    # on a CPU
    python benchmarks/overhead.py --servers ...        # what MLflow's server can do to a step

One `emojigan train` that changes every few steps, in turn: `bare` has no check for what is not finite and no
agreement of the ranks, and writes nothing; then come these two, metrics with MLflow and the watch, and
checkpoints, as often as both are by default. All have the same process, memory and clock of the device: two
processes of one variant differ by more than the variants do. With --servers there is a training for each of:
metrics delivered to nobody, which is a training without a server; to a database; and to a server that is
absent, never answers, or answers 500. Prints JSON lines: the seconds of a step each time; in the end their
median, and that of what they are more than the first variant's of the same round.
"""

import argparse
import json
import os
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import PIPE, Popen
from unittest.mock import patch

import torch
from step import DEVICE
from train import TUPLES, UPDATES, make_inputs

from emojigan.datasets.stream.reader import Batch
from emojigan.launch.cli import main as emojigan
from emojigan.trainer.runtime.votes import Votes
from emojigan.trainer.tracking import delivery, tracker
from emojigan.trainer.training import loop
from emojigan.trainer.training.guard import Faults, Guard
from emojigan.trainer.training.step import Training, train_step

NEVER = 10**9
METRICS = {"checkpoint_steps": NEVER}
NOTHING = {"log_steps": NEVER, **METRICS}
VARIANTS = {  # whether it is checked, and what differs from the defaults
    "bare": (False, NOTHING),
    "checked": (True, NOTHING),
    "and metrics": (True, METRICS),
    "and checkpoints": (True, {}),
}
SERVERS = ("no server", "database", "absent", "never answers", "answers 500")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=1200, help="of a variant in a round")
    parser.add_argument("--warm", type=int, default=200, help="steps of these that are not counted")
    parser.add_argument("--tuples", type=int, default=TUPLES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--servers", action="store_true", help="beside what MLflow's server may do")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, patch.object(tracker, "PATIENCE", 1):
        make_inputs(Path(name), arguments.tuples)
        seconds = (of_servers if arguments.servers else of_checks)(Path(name), arguments)
    first = next(iter(seconds.values()))
    for variant, each in seconds.items():
        more = [a / b - 1 for a, b in zip(each, first, strict=True)]
        found = {"with": variant, "device": str(DEVICE), "batch_size": arguments.batch}
        found |= {"step": statistics.median(each), "more": round(statistics.median(more), 4)}
        print(json.dumps({**found, "all": [round(each, 4) for each in more]}), flush=True)


def of_checks(folder: Path, arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of a step in each round, by variant: all in one training."""
    in_turn = InTurn([*VARIANTS] * arguments.rounds, arguments.steps, arguments.warm)
    with patch.dict(os.environ, MLFLOW_TRACKING_URI=f"sqlite:///{folder}/mlflow.db"):
        train(folder, "run", arguments.batch, in_turn)
    return in_turn.seconds


def of_servers(folder: Path, arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of a step in each round, by what the server does: a training each."""
    seconds: dict[str, list[float]] = {name: [] for name in SERVERS}
    with servers(folder) as addresses:
        for round_ in range(arguments.rounds):
            for name in SERVERS:
                in_turn = InTurn(["and metrics"], arguments.steps, arguments.warm)
                with ExitStack() as stack:
                    if name == "no server":
                        stack.enter_context(patch.object(delivery, "start_courier", nobody))
                    else:
                        stack.enter_context(patch.dict(os.environ, MLFLOW_TRACKING_URI=addresses[name]))
                    train(folder, f"{name}-{round_}", arguments.batch, in_turn)
                seconds[name] += in_turn.seconds["and metrics"]
    return seconds


def train(folder: Path, run: str, batch_size: int, in_turn: "InTurn") -> None:
    """The command, in this process."""
    paths = ["train", f"{folder}/shards", "--vectors", f"{folder}/v.bin", "--out", f"{folder}/{run}"]
    sizes = f"--recipe tuples --batch-size {batch_size} --steps {in_turn.last} --snapshot-steps {NEVER}"
    with patch.object(loop, "train_step", in_turn):
        emojigan([*paths, *sizes.split()], standalone_mode=False)


class InTurn:
    """The loop's `train_step`, around which a variant after the other is put in place, and timed.

    Args:
        steps: of each variant. The first `warm` are not counted: its updates are captured in them.
    """

    def __init__(self, variants: list[str], steps: int, warm: int) -> None:
        self._variants, self._steps, self._warm = variants, steps, warm
        self.last = len(variants) * steps + 1  # its step ends the last variant
        self.seconds: dict[str, list[float]] = {name: [] for name in variants}  # of a step, in each round
        self._defaults: dict[str, int] = {}
        self._begun = 0.0
        self._in_place = ExitStack()

    def __call__(self, training: Training, batches: Iterator[Batch], number: int) -> torch.Tensor:
        turn, step = divmod(number // UPDATES, self._steps)
        if step == 0:
            if turn:
                took = (now() - self._begun) / (self._steps - self._warm)
                self.seconds[self._variants[turn - 1]].append(took)
                print(json.dumps({"with": self._variants[turn - 1], "step": took}), flush=True)
            self._in_place.close()
            if turn < len(self._variants):
                self._put(self._variants[turn], training)
        if step == self._warm:
            self._begun = now()
        return train_step(training, batches, number)

    def _put(self, variant: str, training: Training) -> None:
        training.close()  # what was captured is another variant's
        checked, keys = VARIANTS[variant]
        if not checked:
            for of, name, replaced in WITHOUT:
                self._in_place.enter_context(patch.object(of, name, replaced))
        settings = vars(training.config.run)
        self._defaults = self._defaults or {key: settings[key] for key in NOTHING}
        settings.update(self._defaults | keys)


@torch.no_grad()
def unguarded(self: Guard, *_: torch.Tensor) -> None:
    """Apply an update, whatever it is."""
    self.optimizer.step()


WITHOUT: tuple[tuple[type, str, Callable], ...] = (
    (Guard, "step", unguarded),
    (Faults, "several", lambda *_: False),
    (Votes, "__call__", lambda *_: False),
)


def now() -> float:
    """Seconds, when the device has done all that it was handed."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def nobody() -> Popen[str]:
    """A courier that delivers nothing."""
    return Popen(["sleep", "1000"], stdin=PIPE, stdout=PIPE, text=True)


class Refusing(BaseHTTPRequestHandler):
    """Answers 500."""

    def do_GET(self) -> None:
        self.send_error(500)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


@contextmanager
def servers(folder: Path) -> Iterator[dict[str, str]]:
    """Addresses of what MLFLOW_TRACKING_URI may name, by what it does."""
    here = ("127.0.0.1", 0)
    with socket.create_server(here) as absent:
        ports = {"absent": absent.getsockname()[1]}
    with socket.create_server(here) as silent, ThreadingHTTPServer(here, Refusing) as refusing:
        ports |= {"never answers": silent.getsockname()[1], "answers 500": refusing.server_port}
        threading.Thread(target=refusing.serve_forever).start()
        try:
            yield {name: f"http://127.0.0.1:{port}" for name, port in ports.items()} | {
                "database": f"sqlite:///{folder}/mlflow.db"
            }
        finally:
            refusing.shutdown()


if __name__ == "__main__":
    main()
