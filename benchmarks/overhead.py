"""What keeps a training safe and tells of it, beside the same training without.

    python benchmarks/overhead.py                      # a GPU: a batch of 256
    python benchmarks/overhead.py --batch 64 --steps 40 --warm 10 --tuples 5000    # on a CPU

`emojigan train` four times, each with one thing more, and that several times in turn: `bare` has no check
for what is not finite and no agreement of the ranks, and writes nothing; then come these two, metrics every
ten steps with MLflow and the watch, and checkpoints as often as they are by default. Prints JSON lines: the
median seconds of a step behind the first ones, and by how much of the bare step it is more.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from step import DEVICE
from train import TUPLES, make_inputs

# Taken where the loop calls the step: the host is no more than a step ahead of the device.
TIMED = """
import sys, time
from emojigan.launch.cli import main
from emojigan.trainer.training import loop
step, times = loop.train_step, []
def timed(*given):
    times.append(time.perf_counter())
    return step(*given)
loop.train_step = timed
"""
WITHOUT_CHECKS = """
import torch
from emojigan.trainer.training.guard import Faults, Guard
def backward(self, losses, parts):
    loss = losses.mean()
    (loss / parts).backward()
    return loss.detach()
def apply(self, batch, losses):
    self.optimizer.step()
Guard.backward, Guard.step = backward, apply
Faults.several = lambda self, step: False
loop.Votes = lambda accelerator: lambda mine: False
"""
RUN = """
main(standalone_mode=False)
print("step", (times[-1] - times[WARM]) / (len(times) - 1 - WARM))
"""
NEVER = "1000000000"
VARIANTS = {
    "bare": (WITHOUT_CHECKS, ["--log-steps", NEVER, "--checkpoint-steps", NEVER]),
    "checked": ("", ["--log-steps", NEVER, "--checkpoint-steps", NEVER]),
    "and metrics": ("", ["--checkpoint-steps", NEVER]),
    "and checkpoints": ("", []),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=1100)
    parser.add_argument("--warm", type=int, default=100, help="steps that are not counted")
    parser.add_argument("--tuples", type=int, default=TUPLES)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_inputs(folder, arguments.tuples)
        for round_ in range(arguments.rounds):
            for variant in VARIANTS:
                run = folder / f"{variant}-{round_}"
                seconds[variant].append(train(variant, folder, run, arguments))
    bare = statistics.median(seconds["bare"])
    for variant, each in seconds.items():
        step = statistics.median(each)
        found = {"with": variant, "device": str(DEVICE), "batch_size": arguments.batch, "step": step}
        print(json.dumps({**found, "all": each, "more": round(step / bare - 1, 4)}), flush=True)


def train(variant: str, folder: Path, run: Path, arguments: argparse.Namespace) -> float:
    """Seconds of a step."""
    patch, words = VARIANTS[variant]
    code = f"WARM = {arguments.warm}\n" + TIMED + patch + RUN
    command = [sys.executable, "-c", code, "train", folder / "shards", "--vectors", folder / "v.bin"]
    sizes = f"--batch-size {arguments.batch} --steps {arguments.steps} --snapshot-steps {NEVER}"
    done = subprocess.run(
        [*command, "--out", run, *sizes.split(), *words],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"},
    )
    return float(done.stdout.rpartition("step ")[2])


if __name__ == "__main__":
    main()
