"""The registered model: MLflow runs this file when it loads one (models from code, no pickle).

It travels inside the model with the package's source beside it, so it loads where emojigan is not installed.
Input: a column `image` of encoded photographs. Output: for each, its likeliest emojis with probabilities.
"""

import base64
import binascii
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel

from emojigan.datasets.emojis.text import display  # pyright: ignore[reportMissingImports]
from emojigan.datasets.images.read import ImageError, read_image  # pyright: ignore[reportMissingImports]
from emojigan.trainer.model.snapshot import load_snapshot  # pyright: ignore[reportMissingImports]

MAX_BYTES = 50_000_000  # of one photograph
MAX_SAMPLES = 10_000


class EmojiGAN(PythonModel):
    """Answers with p(emoji | image), the shift of training weights undone."""

    def load_context(self, context: Any) -> None:
        """Read the snapshot; its checksums are checked."""
        self.snapshot = load_snapshot(Path(context.artifacts["snapshot"]))

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride], MLflow annotates nothing
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[list[dict[str, Any]]]:
        """For each image, its top_k emojis, the likeliest first, with probabilities over the vocabulary."""
        settings = {"n_samples": 50, "top_k": 10, "seed": 0, **(params or {})}
        if not (
            1 <= settings["n_samples"] <= MAX_SAMPLES and settings["top_k"] >= 1 and settings["seed"] >= 0
        ):
            raise MlflowException(
                f"n_samples must be 1 to {MAX_SAMPLES}, top_k at least 1 and seed at least 0: {settings}",
                INVALID_PARAMETER_VALUE,
            )
        size = self.snapshot.facts.image_size
        pixels = np.stack(
            [_read(number, content, size) for number, content in enumerate(model_input["image"])]
        )
        distribution = self.snapshot.distribution(
            torch.from_numpy(pixels).permute(0, 3, 1, 2),
            num_samples=settings["n_samples"],
            seed=settings["seed"],
        )
        top = np.argsort(-distribution, axis=1, kind="stable")[:, : settings["top_k"]]
        emojis = [display(emoji) for emoji in self.snapshot.facts.vocabulary]
        return [
            [{"emoji": emojis[row], "p": float(p[row])} for row in rows]
            for p, rows in zip(distribution, top, strict=True)
        ]


def _read(number: int, content: bytes, size: int) -> np.ndarray:
    """One image, uint8 [size, size, 3], from its bytes, or from base64 that a server did not decode."""
    if len(content) > MAX_BYTES:
        raise MlflowException(f"image {number}: larger than {MAX_BYTES:,} bytes", INVALID_PARAMETER_VALUE)
    try:
        return read_image(content, size)
    except ImageError:
        pass
    try:
        return read_image(base64.b64decode(content), size)
    except (ImageError, binascii.Error) as error:
        raise MlflowException(
            f"image {number}: not a JPEG, PNG, WebP or GIF", INVALID_PARAMETER_VALUE
        ) from error


set_model(EmojiGAN())
