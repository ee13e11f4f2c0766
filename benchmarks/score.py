"""Scoring beside a loop over the latents: python benchmarks/score.py [--device cuda --images 200000].

Prints a JSON line for each size of networks and each contestant: images a second of a core's own time, or of
a GPU by the clock, medians of rounds in turn, and how many times as many as the loop that
`Snapshot.distribution` was. "From shards" is all that `emojigan score` does, from raw shards in the page
cache to Parquet on the disk; the others are asked about pixels that are there.
"""

import copy
import json
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
from data import PER_SHARD, SIZE, write_dataset

from emojigan.datasets.store.folder import LocalFolder
from emojigan.trainer.config import resolve
from emojigan.trainer.facts import Facts
from emojigan.trainer.model.augment import normalise
from emojigan.trainer.model.networks import Generator
from emojigan.trainer.model.noise import even_normal
from emojigan.trainer.model.snapshot import Snapshot, load_snapshot, save_snapshot
from emojigan.trainer.serving.load import finding
from emojigan.trainer.serving.scoring.answers import answer
from emojigan.trainer.serving.scoring.job import Request
from emojigan.trainer.serving.scoring.score import Done, score
from emojigan.trainer.serving.scoring.sources import open_source

LATENTS = 50
SIZES = {  # networks, emojis, images of a round on a CPU
    "demo": ({"trunk_width": 16, "feature_dim": 128, "hidden_dim": 256}, 123, 1024),
    "default": ({}, 460, 256),
}


def make_snapshot(path: Path, networks: dict, emojis: int) -> Path:
    torch.manual_seed(0)
    config = resolve("reactions", None, networks).model
    generator = Generator(config, torch.randn(emojis, 300), SIZE)
    vocabulary = tuple(chr(0x1F300 + number) for number in range(emojis))
    facts = Facts(1, SIZE, config.model_dump(), vocabulary, "d" * 64, "v" * 64, {}, (1.0,))
    save_snapshot(path, facts, generator, np.ones(emojis))
    return path


@torch.inference_mode()
def loop(generator: Generator, images: torch.Tensor) -> torch.Tensor:
    """As it was: the generator's head, once for each latent and all images."""
    device = next(generator.parameters()).device
    latents = even_normal(LATENTS, generator.latent_dim, 0).to(device)
    found = []
    for chunk in images.split(256):
        features = generator.trunk(normalise(chunk.to(device)))
        total = torch.zeros(len(chunk), len(generator.vectors), dtype=torch.float64, device=device)
        for latent in latents:
            output = generator.head(features, latent.expand(len(chunk), -1))
            total += generator.log_probabilities(output).exp()
        found.append(total / total.sum(dim=1, keepdim=True))
    return torch.cat(found).cpu()


def asking(snapshot: Snapshot, images: torch.Tensor, precision: str) -> torch.Tensor:
    """What `score` asks of a part."""
    device = next(snapshot.generator.parameters()).device.type
    with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
        return answer(snapshot, images, samples=LATENTS, seed=0, top_k=10, denied=()).p.cpu()


def from_shards(shards: Path, snapshot: Path, out: Path, device: str, workers: int, precision: str) -> None:
    """The command's work, into a new folder."""
    shutil.rmtree(out, ignore_errors=True)
    source = open_source(str(shards))
    request = Request("", source.content, LATENTS, 0, 10, False, (), precision)
    with finding(snapshot) as found:
        request = replace(request, snapshot=found.digest)
        *_, done = score(
            source, found, request, LocalFolder(out), workers=workers, device=device, shown=False
        )
    assert isinstance(done, Done) and not done.to_come


def in_turn(contestants: dict[str, Callable[[], int]], rounds: int, clock: Callable[[], float]) -> dict:
    """Median seconds an image; each contestant tells how many it did, and its first round only warms up."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds + 1):
        for name, work in contestants.items():
            begun = clock()
            number = work()
            times[name].append((clock() - begun) / number)
    return {name: statistics.median(each[1:]) for name, each in times.items()}


def contest(size: str, folder: Path, device: str, images: int, workers: int) -> dict[str, Callable[[], int]]:
    networks, emojis, few = SIZES[size]
    images = images or few
    shards, path = folder / f"shards-{images}", make_snapshot(folder / size, networks, emojis)
    if not shards.exists():
        pixels = np.random.default_rng(0).integers(0, 256, (images, SIZE, SIZE, 3), np.uint8)
        write_dataset(shards, {"train": pixels}, "npy")
    snapshot = load_snapshot(path, device)
    peer = copy.deepcopy(snapshot.generator)
    for layer in peer.trunk.convolutions:
        layer.inplace = False
    part = torch.randint(0, 256, (min(few, PER_SHARD), SIZE, SIZE, 3), dtype=torch.uint8)
    part = (part if device == "cpu" else part.pin_memory()).permute(0, 3, 1, 2)

    def scored(precision: str) -> int:
        from_shards(shards, path, folder / "out", device, workers, precision)
        return images

    return {
        "loop": lambda: len(loop(peer, part)),
        "float32": lambda: len(asking(snapshot, part, "float32")),
        "bf16": lambda: len(asking(snapshot, part, "bf16")),
        "float32 from shards": lambda: scored("float32"),
        "bf16 from shards": lambda: scored("bf16"),
    }


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default=Path("/tmp/emojigan-score"))
@click.option("--device", default="cpu", show_default=True)
@click.option("--images", default=0, help="In the shards; by default as many as a core scores in a second.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--workers", default=1, show_default=True, help="On a GPU, threads that read.")
def main(folder: Path, device: str, images: int, rounds: int, workers: int) -> None:
    if device == "cpu":
        torch.set_num_threads(1)
    clock = time.process_time if device == "cpu" else time.perf_counter
    for size in SIZES:
        medians = in_turn(contest(size, folder, device, images, workers), rounds, clock)
        for name, each in medians.items():
            line = {"networks": size, "device": device, "what": name, "images/s": round(1 / each)}
            print(json.dumps({**line, "by the loop's": round(medians["loop"] / each, 2)}), flush=True)


if __name__ == "__main__":
    main()
