"""Weak scaling: `emojigan train` on one GPU and on several, each with as many reactions as the one has.

    python benchmarks/ranks.py                                       # a machine with two GPUs
    python benchmarks/ranks.py --ranks 1,2,4 --rounds 5
    python benchmarks/ranks.py --batch 64 --steps 80 --posts 1000    # CPUs, by torchrun

Each round trains on every number of ranks in turn, by `accelerate launch` with accelerate_config.yaml, and
prints a JSON line; at the end comes one with medians over the rounds:

    worth   a number of ranks, beside one rank
    share   the same, of what so many trainings of one rank make at the same time, each on a GPU of its own:
            those wait for nobody, so what is missing is ours, and what these are less than a multiple is the
            machine's, some of whose GPUs are slower

The first round compiles, and is not counted. Images are read once, onto the GPUs: the ranks' time is
measured, and no disk's.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from train import steady

ROOT = Path(__file__).parents[1]
EMOJIGAN = [sys.executable, "-c", "from emojigan.launch.cli import main; main()"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ranks", default="1,2", help="numbers of ranks, the first one 1")
    parser.add_argument("--batch", type=int, default=4096, help="reactions a rank")
    parser.add_argument("--steps", type=int, default=300, help="the first 50 are not counted")
    parser.add_argument("--rounds", type=int, default=3, help="that are counted")
    parser.add_argument("--posts", type=int, default=20_000)
    parser.add_argument("--recipe", default="reactions")
    arguments = parser.parse_args()
    numbers = [int(number) for number in arguments.ranks.split(",")]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_inputs(folder, arguments.posts)
        found = []
        for round_ in range(arguments.rounds + 1):
            together = {number: speed(folder, number, arguments, f"{round_}-{number}") for number in numbers}
            alone = {number: at_once(folder, number, arguments, round_) for number in numbers[1:]}
            print(json.dumps({"round": round_, "together": together, "alone": alone}), flush=True)
            found.append((together, {1: together[1], **alone}))
    medians = {
        number: {
            "worth": of_rounds(each[number] / each[1] for each, _ in found[1:]),
            "share": of_rounds(each[number] / alone[number] for each, alone in found[1:]),
        }
        for number in numbers
    }
    print(json.dumps({"device": device(), "batch": arguments.batch, "recipe": arguments.recipe, **medians}))


def of_rounds(ratios: Iterable[float]) -> float:
    return round(statistics.median(ratios), 3)


def device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def make_inputs(folder: Path, posts: int) -> None:
    """Shards of a world of shapes, in which people write one to three emojis; and vectors of all."""
    for words in (
        ["world", "make", "--kind", "shapes", "--posts", posts, "--out", folder / "world"],
        ["shards", "build", folder / "world" / "posts.jsonl", "--out", folder / "shards"],
        ["vectors", "build", "--out", folder / "vectors.bin"],
    ):
        run([*EMOJIGAN, *map(str, words)], folder)


def speed(folder: Path, number: int, arguments: argparse.Namespace, name: str, gpu: int | None = None) -> int:
    """Tuples a second of a training on so many ranks; or on one of the GPUs, without a launcher."""
    out, steps = folder / name, arguments.steps
    words = ["train", folder / "shards", "--vectors", folder / "vectors.bin", "--out", out]
    words += ["--recipe", arguments.recipe, "--batch-size", number * arguments.batch, "--steps", steps]
    words += ["--snapshot-steps", 10 * steps, "--checkpoint-steps", steps]
    command = [*EMOJIGAN, *map(str, words)]
    if gpu is None:
        run([*launcher(number), *command], folder)
    else:  # with as many threads as a launcher lets a rank have
        seen = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpu + 1))))
        run(command, folder, CUDA_VISIBLE_DEVICES=seen.split(",")[gpu], OMP_NUM_THREADS="1")
    return steady(out)[0]


def at_once(folder: Path, number: int, arguments: argparse.Namespace, round_: int) -> int:
    """Tuples a second of so many trainings at the same time."""

    def one(gpu: int) -> int:
        return speed(folder, 1, arguments, f"{round_}-{number}-alone-{gpu}", gpu)

    with ThreadPoolExecutor(number) as pool:
        return sum(pool.map(one, range(number)))


def launcher(number: int) -> list[str]:
    """The words that start so many ranks of what follows them."""
    if not torch.cuda.is_available():
        return [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={number}", "--no-python"]
    config = ["--config_file", str(ROOT / "accelerate_config.yaml"), "--num_processes", str(number)]
    several = ["--multi_gpu"] if number > 1 else []
    return [sys.executable, "-m", "accelerate.commands.launch", *config, *several, "--no_python"]


def run(words: list[str], folder: Path, **more: str) -> None:
    """Run a command, with more in its environment; what it says is shown where it fails."""
    environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", **os.environ, **more}
    done = subprocess.run(words, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        sys.exit(f"{done.stdout}\n{words} ended with {done.returncode}")


if __name__ == "__main__":
    main()
