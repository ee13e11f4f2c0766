"""What keeps a training safe and tells of it, beside the same training without.

    python benchmarks/overhead.py                      # a GPU: a batch of 256
    python benchmarks/overhead.py --batch 64 --steps 40 --warm 10 --tuples 5000    # on a CPU
    python benchmarks/overhead.py --servers ...        # what MLflow's server can do to a step

`emojigan train` four times, each with one thing more, and that several times in turn: `bare` has no check
for what is not finite and no agreement of the ranks, and writes nothing; then come these two, metrics every
ten steps with MLflow and the watch, and checkpoints as often as they are by default. With --servers all have
the metrics: delivered to nobody, which is a training without a server; to a database; and to a server that
is absent, never answers, or answers 500. Prints JSON lines: the median seconds of a step behind the first
ones, and by how much of the first variant's step it is more.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from step import DEVICE
from train import TUPLES, make_inputs

# Taken where the loop calls the step: the host is no more than a step ahead of the device.
TIMED = """
import sys, time
from emojigan.launch.cli import main
from emojigan.trainer.tracking import tracker
from emojigan.trainer.training import loop
tracker.PATIENCE = 1  # at the end nobody waits for a server
step, times = loop.train_step, []
def timed(*given):
    times.append(time.perf_counter())
    return step(*given)
loop.train_step = timed
"""
WITHOUT_CHECKS = """
from emojigan.trainer.training.guard import Faults, Guard
def apply(self, batch, losses):
    self.optimizer.step()
Guard.step = apply
Faults.several = lambda self, step: False
loop.Votes = lambda accelerator: lambda mine: False
"""
RUN = """
main(standalone_mode=False)
print("step", (times[-1] - times[WARM]) / (len(times) - 1 - WARM))
"""
NEVER = "1000000000"
METRICS = ["--checkpoint-steps", NEVER]
NOTHING = ["--log-steps", NEVER, *METRICS]
VARIANTS = {
    "bare": (WITHOUT_CHECKS, NOTHING),
    "checked": ("", NOTHING),
    "and metrics": ("", METRICS),
    "and checkpoints": ("", []),
}
WITHOUT_SERVER = """
import subprocess
from emojigan.trainer.tracking import delivery
delivery.start_courier = lambda: subprocess.Popen(["sleep", "1000"], stdin=-1, stdout=-1, text=True)
"""
SERVERS = {
    "no server": (WITHOUT_SERVER, METRICS),
    **{name: ("", METRICS) for name in ("database", "absent", "never answers", "answers 500")},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=1100)
    parser.add_argument("--warm", type=int, default=100, help="steps that are not counted")
    parser.add_argument("--tuples", type=int, default=TUPLES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--servers", action="store_true", help="beside what MLflow's server may do")
    arguments = parser.parse_args()
    variants = SERVERS if arguments.servers else VARIANTS
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    with tempfile.TemporaryDirectory() as name, servers(Path(name)) as addresses:
        folder = Path(name)
        make_inputs(folder, arguments.tuples)
        for round_ in range(arguments.rounds):
            for variant, (patch, words) in variants.items():
                command = [patch, *words, "--out", str(folder / f"{variant}-{round_}")]
                address = addresses.get(variant, addresses["database"])
                seconds[variant].append(train(command, folder, address, arguments))
    bare = statistics.median(seconds[next(iter(variants))])
    for variant, each in seconds.items():
        step = statistics.median(each)
        found = {"with": variant, "device": str(DEVICE), "batch_size": arguments.batch, "step": step}
        print(json.dumps({**found, "all": each, "more": round(step / bare - 1, 4)}), flush=True)


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


def train(given: list[str], folder: Path, address: str, arguments: argparse.Namespace) -> float:
    """Seconds of a step.

    Args:
        given: a patch of the program, and options.
        address: of MLflow.
    """
    patch, *words = given
    code = f"WARM = {arguments.warm}\n" + TIMED + patch + RUN
    command = [sys.executable, "-c", code, "train", folder / "shards", "--vectors", folder / "v.bin"]
    sizes = (
        f"--recipe tuples --batch-size {arguments.batch} --steps {arguments.steps} --snapshot-steps {NEVER}"
    )
    done = subprocess.run(
        [*command, *sizes.split(), *words],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "MLFLOW_TRACKING_URI": address},
    )
    return float(done.stdout.rpartition("step ")[2])


if __name__ == "__main__":
    main()
