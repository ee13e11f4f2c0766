"""`emojigan train` from raw shards on a disk, beside its own step alone; and the paper's whole training.

    python benchmarks/train.py                         # a GPU: batches of 256, 1024 and 4096
    python benchmarks/train.py --batches 64            # on a CPU

Prints JSON lines: tuples a second over all steps behind the first ones, with checkpoints, metrics and the
average; the share of the step alone that this is; and the share of the time in which batches were waited for.
The paper's training is 80,000 tuples, ten times, in batches of 256: seconds from the start of the process to
the last snapshot, compiled for the first time, and again with what the compiler keeps from then.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from data import SIZE, write_dataset
from emoji import EMOJI_DATA
from step import DEVICE, EMOJIS, VECTOR_DIM, measure, ours

from emojigan.datasets.emojis.vectors.word2vec import keyed, save_vectors
from emojigan.trainer.config import Config

TUPLES, EPOCHS, UPDATES = 80_000, 10, 6
WARM = 50  # steps that are not counted: compiling, capturing, the first shards
TRAIN = "from emojigan.launch.cli import main; main()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", default="256,1024,4096" if DEVICE.type == "cuda" else "64")
    parser.add_argument("--steps", type=int, default=1100 if DEVICE.type == "cuda" else 60)
    parser.add_argument("--tuples", type=int, default=TUPLES if DEVICE.type == "cuda" else 5_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_inputs(folder, arguments.tuples)
        if DEVICE.type == "cuda":
            steps = arguments.tuples * EPOCHS // (256 * UPDATES)
            for compiled in ("for the first time", "before"):
                seconds = train(folder, folder / f"paper-{compiled}", 256, steps)
                print(
                    json.dumps({"paper": round(seconds, 1), "steps": steps, "compiled": compiled}), flush=True
                )
        for batch_size in map(int, arguments.batches.split(",")):
            run = folder / str(batch_size)
            train(folder, run, batch_size, arguments.steps)
            speed, wait = steady(run)
            config = Config.model_validate({"data": {"batch_size": batch_size}})
            alone = measure({"step": ours(config)}, config, 20 if DEVICE.type == "cuda" else 1)["step"]
            found = {"batch_size": batch_size, "device": str(DEVICE), "train": speed, "step": alone}
            print(json.dumps({**found, "share": round(speed / alone, 3), "data_wait": wait}), flush=True)


def make_inputs(folder: Path, tuples: int) -> None:
    """Shards of noise, and vectors."""
    rng = np.random.default_rng(0)
    emojis = [emoji for emoji in EMOJI_DATA if len(emoji) == 1][:EMOJIS]
    pixels = rng.integers(0, 256, (tuples, SIZE, SIZE, 3), np.uint8)
    write_dataset(folder / "shards", {"train": pixels, "val": pixels[:EMOJIS]}, "npy", emojis)
    vectors = rng.normal(size=(EMOJIS, VECTOR_DIM)).astype(np.float32)
    save_vectors(keyed(emojis, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)), folder / "v.bin")


def train(folder: Path, run: Path, batch_size: int, steps: int) -> float:
    """Seconds of the whole command."""
    # The compiler keeps what it made apart from what it may have made on this machine before.
    kept = {f"{tool}_CACHE_DIR": f"{folder}/{tool}" for tool in ("TORCHINDUCTOR", "TRITON")}
    words = f"--batch-size {batch_size} --steps {steps} --checkpoint-steps 1000 --snapshot-steps {10 * steps}"
    sizes = "--recipe tuples --trunk-width 64 --feature-dim 256 --hidden-dim 512 --latent-dim 100"
    command = [sys.executable, "-c", TRAIN, "train", folder / "shards", "--vectors", folder / "v.bin"]
    begun = time.perf_counter()
    subprocess.run(
        [*command, "--out", run, *words.split(), *sizes.split()],
        check=True,
        stdout=subprocess.DEVNULL,
        env={"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", **os.environ, **kept},
    )
    return time.perf_counter() - begun


def steady(run: Path) -> tuple[int, float]:
    """Tuples a second and the share of waiting, over all steps of a run but the first and the last ones."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    lines = [line for line in lines if "train/tuples_per_second" in line][:-1]
    counted = [line for line in lines if line["step"] > WARM] or lines[1:]
    seconds = [1 / line["train/tuples_per_second"] for line in counted]  # of a tuple; all lines have as many
    waited = [each * line["train/data_wait"] for each, line in zip(seconds, counted, strict=True)]
    return round(len(seconds) / sum(seconds)), round(sum(waited) / sum(seconds), 4)


if __name__ == "__main__":
    main()
