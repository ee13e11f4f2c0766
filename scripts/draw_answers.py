"""Draw docs/answers.png: four photographs of the demo, and what its model answers to each.

python scripts/draw_answers.py demo docs/answers.png
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from emojigan.datasets.images.read import read_image
from emojigan.datasets.worlds.truth import TRUTH, Truth
from emojigan.trainer.evaluation.metrics.scene import set_scene
from emojigan.trainer.evaluation.report.figures import Bar, Example, fig4
from emojigan.trainer.inputs import read_inputs
from emojigan.trainer.model.snapshot import load_snapshot
from emojigan.trainer.run import EVALUATION, SNAPSHOTS, read_beginning

SHOWN = ("astronaut", "cat", "coffee", "rocket")  # all free of copyright restrictions
TOP = 5
SIDE = 400  # pixels


def main(demo: Path, out: Path) -> None:
    """Take the first post of each photograph in the test split."""
    config, shards, vectors = read_beginning(demo / "run")
    truth = Truth.read(demo / "world" / TRUTH)
    scene = set_scene(read_inputs(config, shards, vectors), vectors, truth)
    name = json.loads((demo / "run" / EVALUATION).read_text(encoding="utf-8"))["snapshot"]
    snapshot = load_snapshot(demo / "run" / SNAPSHOTS / name)
    examples = []
    for group in SHOWN:
        post = next(post for post in scene.held_out.posts if truth.groups[post] == group)
        path = demo / "world" / "photos" / f"{post}.jpg"
        pixels = torch.from_numpy(read_image(path.read_bytes(), snapshot.facts.image_size))
        (q,) = snapshot.distribution(pixels.permute(2, 0, 1)[None], num_samples=50, seed=0)
        likeliest = [(snapshot.facts.vocabulary[e], float(q[e])) for e in np.argsort(-q)[:TOP]]
        bars = tuple(Bar(e, p, truth.probabilities[group].get(e, 0.0)) for e, p in likeliest)
        picture = ImageOps.fit(Image.open(path).convert("RGB"), (SIDE, SIDE))
        examples.append(Example(np.asarray(picture), group, (), bars))
    fig4(tuple(examples)).savefig(out, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
