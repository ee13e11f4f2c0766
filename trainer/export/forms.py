"""The forms in which a model leaves: each is written whole, or not at all.

snapshot ─┬─► onnx         a folder that is asked without torch: asked.py draws it
          ├─► safetensors  a file for a loader of one's own, in plain torch
          └─► hub-folder   the snapshot's own files and a README.md, as Hugging Face's hub takes them
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...datasets.errors import InputError
from ...datasets.store.atomic import README, creating_folder, replacing
from ..facts import FACTS
from ..forgotten import Mark
from ..model.noise import even_normal
from ..model.snapshot import Snapshot, write_snapshot
from ..model.tensors import write_tensors
from ..run import FORGOTTEN
from .asked import GRAPH, LATENTS, WEIGHTS, OnnxSnapshot, open_graph
from .graph import NUM_IMAGES, NUM_LATENTS, difference, write_graph
from .readme import readme

SEEDS, MOST_LATENTS = 2, 4096  # readings compare two draws
FARTHEST = 1e-5  # that an ONNX graph may be from torch


@dataclass(frozen=True)
class Source:
    """What is exported."""

    snapshot: Snapshot  # on the CPU; its facts tell the readings
    mark: Mark | None  # where it was trained with posts that are forgotten by now
    scores: Mapping[str, float]  # on held-out posts; empty where it was not evaluated
    card: str  # of a registered model, as Markdown; empty of any other


def to_onnx(source: Source, out: Path) -> str:
    """Write the folder that `load` loads where torch is not installed. -> what to know of it, in words

    Raises:
        InputError: what ONNX Runtime says of it is not what torch says; or one of both is not installed.
    """
    snapshot = source.snapshot
    with creating_folder(out) as folder:
        write_graph(snapshot, folder / GRAPH)
        dim = snapshot.generator.latent_dim
        latents = np.stack([even_normal(MOST_LATENTS, dim, seed).numpy() for seed in range(SEEDS)])
        np.save(folder / LATENTS, latents)
        np.save(folder / WEIGHTS, snapshot.weights)
        (folder / FACTS).write_text(snapshot.facts.to_json(), encoding="utf-8")
        _write_about(source, folder, "onnx")
        exported = OnnxSnapshot(snapshot.facts, snapshot.weights, latents, open_graph(folder / GRAPH))
        farthest = difference(snapshot, exported)
        if not farthest <= FARTHEST:
            raise InputError(
                f"{out} is not written: what ONNX Runtime says differs from torch by {farthest:.1e}, more "
                f"than {FARTHEST:.0e}. Export with the versions of constraints.txt."
            )
    return f"differs from torch by {farthest:.1e} at most, over {NUM_IMAGES} images and {NUM_LATENTS} latents"


def to_safetensors(source: Source, out: Path) -> str:
    """Write one file: the generator's parameters, `vectors`, `weights`; the facts as JSON in its metadata."""
    snapshot = source.snapshot
    metadata = {"format": "pt", "facts": snapshot.facts.to_json()}
    if source.mark:
        metadata["forgotten"] = source.mark.to_json()
    with replacing(out) as temporary:
        write_tensors(temporary, {**snapshot.parameters, **snapshot.vectors_and_weights}, metadata)
    return "README.md of EmojiGAN has a loader in plain torch"


def to_hub_folder(source: Source, out: Path) -> str:
    """Write the folder that huggingface_hub uploads as it is, and `load` loads."""
    with creating_folder(out) as folder:
        write_snapshot(folder, source.snapshot)
        _write_about(source, folder, "torch")
    return f"look through its {README}, then: hf upload USER/NAME {out}"


FORMS: dict[str, Callable[[Source, Path], str]] = {
    "onnx": to_onnx,
    "safetensors": to_safetensors,
    "hub-folder": to_hub_folder,
}


def _write_about(source: Source, folder: Path, runs_on: str) -> None:
    text = readme(source.snapshot.facts, source.mark, source.scores, source.card, runs_on)
    (folder / README).write_text(text, encoding="utf-8")
    if source.mark:
        (folder / FORGOTTEN).write_text(source.mark.to_json() + "\n", encoding="utf-8")
