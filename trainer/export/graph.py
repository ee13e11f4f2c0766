"""A snapshot as an ONNX graph, and how far what the graph says is from what torch says."""

import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ...datasets.errors import InputError
from ..model.augment import normalise
from ..model.head import Head
from ..model.snapshot import Snapshot
from .asked import DRAWN, IMAGES, SAID, OnnxSnapshot

NUM_IMAGES, NUM_LATENTS = 64, 256  # that both are asked about


class Whole(nn.Module):
    """From pixels and latents to q(emoji | image, z), with the head arranged for many latents."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.trunk = snapshot.generator.trunk
        self.head = Head.of(snapshot.generator, tied=snapshot.is_tied)

    def forward(self, images: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """uint8 [n, 3, size, size] and float32 [L, latent_dim] to float32 [n, L, V]."""
        return self.head.said(self.trunk(normalise(images)), latents)


@torch.no_grad()
def write_graph(snapshot: Snapshot, path: Path) -> None:
    """Write the ONNX file of a snapshot on the CPU, for any number of images and of latents.

    Raises:
        InputError: onnx and onnxscript are not installed.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401, torch's exporter needs it
    except ImportError as error:
        raise InputError(
            "Exporting to ONNX needs onnx and onnxscript. In the checkout: pip install -e '.[onnx]'."
        ) from error
    size = snapshot.facts.image_size
    example = torch.zeros(2, 3, size, size, dtype=torch.uint8), torch.zeros(3, snapshot.generator.latent_dim)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch about its own parts
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # else it misses torchvision, in four lines
        program = torch.onnx.export(
            Whole(snapshot).eval(),
            example,
            dynamo=True,
            input_names=[IMAGES, DRAWN],
            output_names=[SAID],
            dynamic_shapes=({0: torch.export.Dim("n")}, {0: torch.export.Dim("L")}),
            verbose=False,
        )
    assert program is not None
    onnx.save(program.model_proto, path)


def difference(snapshot: Snapshot, exported: OnnxSnapshot) -> float:
    """How far an exported model is from the snapshot that it was made of, at most.

    Of a tied output, in q(emoji | image, z). Of a free one, in cosine: by how much the emoji that it says is
    farther from the snapshot's vector than the nearest one, for two may be equally near but for rounding.
    """
    size = snapshot.facts.image_size
    images = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, 3, size, size), np.uint8)
    q = exported.said(images, exported.latents[0, :NUM_LATENTS])
    if snapshot.is_tied:
        return float(np.abs(q - snapshot.by_latent(images, num_samples=NUM_LATENTS, seed=0)).max())
    outputs = snapshot.outputs(images, num_samples=NUM_LATENTS, seed=0)
    vectors = snapshot.generator.vectors.numpy()
    outputs /= np.linalg.norm(outputs, axis=-1, keepdims=True)
    cosine = outputs @ (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).T
    return float((cosine.max(axis=-1) - (cosine * q).sum(axis=-1)).max())
