"""An exported model, asked without torch: ONNX Runtime computes what its generator says.

exported/
  model.onnx      images uint8 [n, 3, size, size], latents float32 [L, latent_dim] ─► q float32 [n, L, V]
  latents.npy     those of the seeds 0 and 1, float32 [2, 4096, latent_dim]: only torch draws others
  weights.npy     that it was trained with, float64 [V]
  snapshot.json   what it says of itself
  forgotten.json  there where it was trained with posts that are forgotten now
  README.md       for people; they may change it
  SHA256SUMS
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...datasets.errors import InputError
from ...datasets.store.atomic import is_whole
from ..facts import Facts, read_facts
from ..model.estimate import Asked, Pixels, sum_to_one

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

GRAPH, LATENTS, WEIGHTS = "model.onnx", "latents.npy", "weights.npy"
AT_A_TIME = 2**22  # numbers that the graph gives: 16 MB
IMAGES, DRAWN, SAID = "images", "latents", "q"  # what goes into the graph, and what comes out


@dataclass(frozen=True)
class OnnxSnapshot(Asked):
    """A generator that ONNX Runtime asks, on CPUs; from several threads at once if need be."""

    facts: Facts
    weights: np.ndarray
    latents: np.ndarray
    session: "InferenceSession"

    def about(self, image: np.ndarray, *, num_samples: int, seed: int) -> Callable[[slice], np.ndarray]:
        latents = self._latents(num_samples, seed)
        # The trunk sees the image again for each slice; to most questions the first is the answer.
        return lambda part: self.said(image[None], latents[part])[0]

    def averages(self, images: Pixels, *, num_samples: int, seed: int) -> np.ndarray:
        parts = self.parts(images, num_samples=num_samples, seed=seed)
        return np.concatenate([sum_to_one(each.mean(axis=1)) for each in parts])

    def parts(self, images: Pixels, *, num_samples: int, seed: int) -> Iterator[np.ndarray]:
        images, latents = np.asarray(images), self._latents(num_samples, seed)
        few = max(1, AT_A_TIME // (num_samples * len(self.weights)))
        return (self.said(images[first : first + few], latents) for first in range(0, len(images), few))

    def said(self, images: np.ndarray, latents: np.ndarray) -> np.ndarray:
        """q(emoji | image, z) of each image and each latent, float32 [n, L, V]."""
        (q,) = self.session.run([SAID], {IMAGES: images, DRAWN: latents})
        return np.asarray(q)

    def _latents(self, number: int, seed: int) -> np.ndarray:
        """float32 [number, latent_dim]"""
        if seed < len(self.latents) and number <= self.latents.shape[1]:
            return self.latents[seed, :number]
        try:
            from ..model.noise import even_normal
        except ImportError as error:
            raise InputError(
                f"Without torch an exported model has {self.latents.shape[1]:,} latents at most, of seed 0 "
                "(or 1, but for readings) alone. Ask with these, or install torch."
            ) from error
        return even_normal(number, self.latents.shape[2], seed).numpy()


def load_exported(folder: Path, threads: int = 0) -> OnnxSnapshot:
    """Read what `emojigan export --to onnx` wrote.

    Args:
        threads: that compute an answer; 0 for as many as there are cores.

    Raises:
        InputError: a file is damaged or missing, or ONNX Runtime is not installed.
    """
    if not is_whole(folder):
        raise InputError(f"{folder} is damaged: its files are not those of its SHA256SUMS. Export it again.")
    weights, latents = (np.load(folder / name) for name in (WEIGHTS, LATENTS))
    return OnnxSnapshot(read_facts(folder), weights, latents, open_graph(folder / GRAPH, threads))


def open_graph(path: Path, threads: int = 0) -> "InferenceSession":
    """A graph that can be run.

    Raises:
        InputError: ONNX Runtime is not installed.
    """
    try:
        from onnxruntime import (
            InferenceSession,
            SessionOptions,  # pyright: ignore[reportAttributeAccessIssue], it has no types
        )
    except ImportError as error:
        raise InputError(
            "A model of ONNX is asked by ONNX Runtime. In the checkout: pip install -e '.[serve]'."
        ) from error
    options = SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # cores are shared
    return InferenceSession(path, options, providers=["CPUExecutionProvider"])
