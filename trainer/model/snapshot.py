"""Weights to sample from, with all that sampling needs: what is evaluated, registered and served.

step-00000400/{generator.safetensors, vectors.safetensors, snapshot.json, SHA256SUMS}
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch.nn import LeakyReLU

from ...datasets.errors import InputError
from ...datasets.store.atomic import creating_folder, is_whole
from ..config import ModelConfig
from ..facts import FACTS, Facts, read_facts
from .augment import normalise
from .estimate import Asked, Pixels
from .head import Head
from .networks import Generator
from .noise import even_normal
from .tensors import not_finite, read_tensors, refuse_not_finite, write_tensors

GENERATOR, VECTORS = "generator.safetensors", "vectors.safetensors"
CHUNK, GPU_CHUNK = 64, 1024  # images that the trunk sees at a time: few stay in a core's cache
ON_CPU, ON_GPU = (
    2**20,
    2**26,
)  # numbers of a layer at a time: 4 MB are in a core's cache, 256 MB keep a GPU busy


@dataclass(frozen=True)
class Snapshot(Asked):
    """A generator that torch asks. Images are uint8 [n, 3, size, size]."""

    facts: Facts
    generator: Generator
    weights: np.ndarray

    def averages(self, images: Pixels, *, num_samples: int, seed: int) -> np.ndarray:
        return self.averages_there(images, num_samples=num_samples, seed=seed).cpu().numpy()

    @torch.inference_mode()
    def averages_there(self, images: Pixels, *, num_samples: int, seed: int) -> torch.Tensor:
        """The same on the device of the model; of a GPU they may be computed still.

        Args:
            images: of pinned memory they are copied beside the work.
        """
        said = self._said(images, num_samples, seed)
        return torch.cat([_sum_to_one(each.mean(dim=1)) for each in said])

    def parts(self, images: Pixels, *, num_samples: int, seed: int) -> Iterator[np.ndarray]:
        return (each.cpu().numpy() for each in self._said(images, num_samples, seed))

    @torch.inference_mode()
    def about(self, image: Pixels, *, num_samples: int, seed: int) -> Callable[[slice], np.ndarray]:
        latents = self._latents(num_samples, seed)
        (features,) = self._features(image[None])

        @torch.inference_mode()
        def said(part: slice) -> np.ndarray:
            return self._head.said(features, latents[part])[0].cpu().numpy()

        return said

    @torch.inference_mode()
    def outputs(self, images: Pixels, *, num_samples: int, seed: int) -> np.ndarray:
        """The generator's vectors under each latent, float32 [n, num_samples, vector_dim]."""
        latents = self._latents(num_samples, seed)
        found = []
        for features in self._features(images):
            pairs = features[:, None].expand(-1, num_samples, -1), latents.expand(len(features), -1, -1)
            found.append(self.generator.head(*pairs).cpu())
        return torch.cat(found).numpy()

    @torch.inference_mode()
    def features(self, images: Pixels) -> np.ndarray:
        """What the trunk sees, float32 [n, feature_dim]."""
        return torch.cat([each.cpu() for each in self._features(images)]).numpy()

    @property
    def parameters(self) -> dict[str, torch.Tensor]:
        """The generator's, as they are saved."""
        return {key: tensor.cpu().contiguous() for key, tensor in self.generator.state_dict().items()}

    @property
    def vectors_and_weights(self) -> dict[str, torch.Tensor]:
        """`vectors` float32 [V, vector_dim] and `weights` float64 [V], as they are saved."""
        vectors = self.generator.vectors.cpu().contiguous()
        return {"vectors": vectors, "weights": torch.from_numpy(self.weights)}

    @property
    def _device(self) -> torch.device:
        return next(self.generator.parameters()).device

    def _latents(self, number: int, seed: int) -> torch.Tensor:
        """float32 [number, latent_dim]"""
        return even_normal(number, self.generator.latent_dim, seed).to(self._device, non_blocking=True)

    @cached_property
    def _head(self) -> Head:
        with torch.autocast(self._device.type, enabled=False):  # it stays, for those who ask in float32, too
            return Head.of(self.generator, tied=self.is_tied)

    def _features(self, images: Pixels) -> Iterator[torch.Tensor]:
        """float32 [images, feature_dim], of a few images at a time."""
        for chunk in torch.as_tensor(images).split(GPU_CHUNK if self._device.type == "cuda" else CHUNK):
            yield self.generator.trunk(normalise(chunk.to(self._device, non_blocking=True)))

    @torch.inference_mode()
    def _said(self, images: Pixels, num_samples: int, seed: int) -> Iterator[torch.Tensor]:
        """q(emoji | image, z) of a few images at a time, float32 [images, num_samples, V].

        All images have the same latents.
        """
        latents = self._latents(num_samples, seed)
        numbers = ON_GPU if latents.is_cuda else ON_CPU
        number = max(1, numbers // (num_samples * self._head.width))
        for features in self._features(images):
            for few in features.split(number):
                yield self._head.said(few, latents)


def _sum_to_one(q: torch.Tensor) -> torch.Tensor:
    """Distributions without the rounding of float32, float64 [..., V]."""
    return q.double() / q.double().sum(dim=-1, keepdim=True)


def save_snapshot(path: Path, facts: Facts, generator: Generator, weights: np.ndarray) -> None:
    """Write a snapshot as the folder `path`.

    Raises:
        InputError: a weight or a score is not finite; nothing is written.
    """
    scores = {name: torch.tensor(score) for name, score in facts.scores.items()}
    refuse_not_finite({**generator.state_dict(), **scores}, f"snapshot {path}")
    with creating_folder(path) as temporary:
        write_snapshot(temporary, Snapshot(facts, generator, weights))


def write_snapshot(folder: Path, snapshot: Snapshot) -> None:
    """Write the files of a snapshot, but for SHA256SUMS, into a folder that is made of them."""
    write_tensors(folder / GENERATOR, snapshot.parameters)
    write_tensors(folder / VECTORS, snapshot.vectors_and_weights)
    (folder / FACTS).write_text(snapshot.facts.to_json(), encoding="utf-8")


def load_snapshot(path: Path, device: torch.device | str = "cpu") -> Snapshot:
    """Read a snapshot.

    Raises:
        InputError: it is not there, a file is damaged, or it holds what is no number.
    """
    if not is_whole(path):
        raise InputError(f"{path} is not a whole snapshot. Run `emojigan train` to make one.")
    facts = read_facts(path)
    tensors, parameters = read_tensors(path / VECTORS), read_tensors(path / GENERATOR)
    if bad := not_finite({**tensors, **parameters}):
        raise InputError(f"{path}: {bad[0]} holds NaN or infinity: its training diverged. Train again.")
    generator = Generator(ModelConfig(**facts.model), tensors["vectors"], facts.image_size)
    generator.load_state_dict(parameters)
    generator.eval().to(device).trunk.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    for layer in generator.trunk.convolutions:
        if isinstance(layer, LeakyReLU):
            layer.inplace = True  # nothing is learned here, and memory that is new costs more than the layer
    return Snapshot(facts, generator, tensors["weights"].numpy())
