"""What each part of a recipe gives: trained on a world whose truth is known, and judged beside baselines.

    python benchmarks/fidelity.py --world moods                               # a GPU: all rows, three seeds
    python benchmarks/fidelity.py --world moods --rows reactions,no-critic --seeds 0
    python benchmarks/fidelity.py --world photographs --more "--steps 300 …"  # on a CPU

Worlds: `moods`, 80,000 posts of drawings, under which people write in moods; `alone`, drawings whose
emojis are independent; `photographs`, those of the demo; `unseen`, drawings with emojis that no post has;
`things`, 1,500 emojis on photographs.
Prints JSON lines: of each baseline and training its scores on held-out posts, how long it took, and in which
scores it is better or worse than each baseline, by a paired interval; and how likely the unseen emojis are to
each snapshot. What was found is in fidelity.md.
"""

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from emojigan.datasets.emojis.vectors.word2vec import load_vectors, match
from emojigan.datasets.store.folder import open_folder
from emojigan.datasets.worlds.truth import TRUTH, Truth
from emojigan.launch.cli import main as emojigan
from emojigan.trainer.evaluation.baselines.baseline import Candidate, Given
from emojigan.trainer.evaluation.baselines.classifier import train_classifier
from emojigan.trainer.evaluation.baselines.sampled import NUM_LATENTS
from emojigan.trainer.evaluation.evaluate import answers_of, beside, floor_of
from emojigan.trainer.evaluation.judge import beside_first, score_all
from emojigan.trainer.evaluation.metrics.scene import Scene, set_scene
from emojigan.trainer.facts import best_snapshot
from emojigan.trainer.inputs import read_inputs
from emojigan.trainer.model.snapshot import Snapshot, load_snapshot
from emojigan.trainer.run import SNAPSHOTS, read_beginning, steps_in

WORLDS = {
    "moods": "--kind shapes --posts 80000",
    "alone": "--kind shapes --posts 42000 --moods 1 --vocabulary 753",
    "photographs": "--posts 4000",
    "unseen": "--kind shapes --posts 20000 --held-out 12",
    "things": "--kind composites --posts 80000 --vocabulary 1500",
}
ROWS = {
    "reactions": "--recipe reactions",
    "tuple-critic": "--recipe reactions --critic-sees tuple",
    "no-critic": "--recipe reactions --critic-sees nothing",
    "no-critic-as-long": "--recipe reactions --critic-sees nothing --steps 3070",
    "generator-batches": "--recipe reactions --nll-batches generator",
    "8-latents": "--recipe reactions --latents 8",
    "128-latents": "--recipe reactions --latents 128",
    "nll-1": "--recipe reactions --nll-weight 1",
    "nll-20": "--recipe reactions --nll-weight 20",
    "3-critic-updates": "--recipe reactions --num-critic-steps 3 --steps 2500",
    "bias": "--recipe reactions --emoji-bias",
    "residual": "--recipe reactions --emoji-residual",
    "tuples": "--recipe tuples",
    "tuples-all-batches": "--recipe tuples --nll-batches all",
    "paper": "--recipe paper",
}
"""Options of `emojigan train`, by what they are called in fidelity.md."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", choices=WORLDS, default="moods")
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--classifiers", default="5200,7800,15600", help="batches that they see")
    parser.add_argument("--more", default="", help="options of all trainings")
    parser.add_argument("--out", type=Path, default=Path("fidelity"))
    arguments = parser.parse_args()
    folder = arguments.out / arguments.world
    posts, shards, vectors = folder / "world", folder / "shards", folder / "vectors.bin"
    for words in (
        ["world", "make", "--out", posts, *WORLDS[arguments.world].split()],
        ["shards", "build", posts / "posts.jsonl", "--out", shards],
        ["vectors", "build", "--out", vectors],
    ):
        emojigan([*map(str, words)], standalone_mode=False)
    runs = [
        (f"{row}, seed {seed}", folder / f"{row}-{seed}", f"{options} --seed {seed} {arguments.more}".split())
        for row, options in {row: ROWS[row] for row in arguments.rows.split(",")}.items()
        for seed in arguments.seeds.split(",")
    ]
    seconds = []
    for _, run, words in runs:
        begun = time.perf_counter()
        command = ["train", str(shards), "--vectors", str(vectors), "--out", str(run), *words]
        emojigan(command, standalone_mode=False)
        seconds.append(time.perf_counter() - begun)
    config, *_ = read_beginning(runs[0][1])  # whose sizes the classifiers have, too
    inputs = read_inputs(config, open_folder(str(shards)), vectors)
    truth = Truth.read(posts / TRUTH)
    scene = set_scene(inputs, vectors, truth)
    tell("the truth itself", floor_of(scene))
    compared: list[Candidate] = []
    for steps in map(int, arguments.classifiers.split(",")):
        own = folder / f"classifier-{steps}"
        classifier = train_classifier(config, inputs, own, steps)
        made = [*beside(Given(config, inputs, scene, own, steps, classifier))]
        for candidate, judged in zip(made, score_all(made, scene), strict=True):
            tell(f"{candidate.label}, {steps} batches", judged.scores)
        compared += made
    for (name, run, _), took in zip(runs, seconds, strict=True):
        of_run(name, run, compared, scene, took)
        if truth.held_out:
            of_unseen(name, run, truth, scene, vectors)


def of_run(name: str, run: Path, compared: list[Candidate], scene: Scene, seconds: float) -> None:
    """Judge the best snapshot of a run."""
    path = best_snapshot(steps_in(run / SNAPSHOTS))
    assert path is not None
    snapshot = load_snapshot(path, "cuda" if torch.cuda.is_available() else "cpu")
    own, *others = beside_first([*score_all([answers_of(snapshot, scene), *compared], scene)])
    found = [{other.label: {key: asdict(each) for key, each in other.beside.items()}} for other in others]
    tell(name, own.scores, seconds=round(seconds, 1), step=snapshot.facts.step, beside=found)


def of_unseen(name: str, run: Path, truth: Truth, scene: Scene, vectors: Path) -> None:
    """How likely emojis are that no post has, to each snapshot of a run, which is given their vectors alone.

    `there` is the mean chance of one under a picture whose people would write it, if they could; `elsewhere`
    the same under other pictures; `truth` the mean share of it in what those people would write.
    """
    groups = [truth.groups[post] for post in scene.held_out.posts]
    p = {group: truth.reactions[group].tuples() for group in set(groups)}
    true = np.array([[p[group].get(emoji, 0.0) for emoji in truth.held_out] for group in groups])
    for path in steps_in(run / SNAPSHOTS):
        snapshot = load_snapshot(path, "cuda" if torch.cuda.is_available() else "cpu")
        known = snapshot.facts.vocabulary
        rows, missing = match(load_vectors(vectors), (*known, *truth.held_out))
        assert not missing, missing
        seen = rows[: len(known)]
        scaled = (rows[len(known) :] - seen.mean(axis=0)) / (seen - seen.mean(axis=0)).std()
        own = snapshot.generator.vectors
        snapshot.generator.vectors = torch.cat([own, torch.from_numpy(scaled).to(own)])
        asked = Snapshot(snapshot.facts, snapshot.generator, np.ones(len(rows)))
        q = asked.distribution(scene.held_out.images, num_samples=NUM_LATENTS, seed=0)[:, len(known) :]
        there = true > 0
        found = {"there": q[there].mean(), "elsewhere": q[~there].mean(), "truth": true[there].mean()}
        tell(
            f"{name}, unseen emojis",
            {key: float(each) for key, each in found.items()},
            step=snapshot.facts.step,
        )


def tell(name: str, scores: Mapping[str, float], **more: object) -> None:
    print(
        json.dumps({"name": name, **more, **{key: round(each, 5) for key, each in scores.items()}}),
        flush=True,
    )


if __name__ == "__main__":
    main()
