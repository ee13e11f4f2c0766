"""The registered model: MLflow runs this file when it loads one (models from code, no pickle).

It travels inside the model with the package's source beside it, so it loads where emojigan is not installed.
Input: a column `image` of encoded photographs. Output: for each, its likeliest emojis with probabilities; or
what is asked for by the parameters `readings` and `given`.
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

from emojigan.datasets.emojis.text import canonical, display  # pyright: ignore[reportMissingImports]
from emojigan.datasets.images.read import ImageError, read_image  # pyright: ignore[reportMissingImports]
from emojigan.trainer.model.readings import (  # pyright: ignore[reportMissingImports]
    LATENTS,
    Mixture,
    completion,
    latents_of,
    readings,
)
from emojigan.trainer.model.snapshot import load_snapshot  # pyright: ignore[reportMissingImports]

MAX_BYTES = 50_000_000  # of one photograph
MAX_SAMPLES = 10_000


class EmojiGAN(PythonModel):
    """Answers with p(emoji | image), the shift of training weights undone."""

    def load_context(self, context: Any) -> None:
        """Read the snapshot; its checksums are checked."""
        self.snapshot = load_snapshot(Path(context.artifacts["snapshot"]))
        self.vocabulary = self.snapshot.facts.vocabulary
        self.most_readings = context.model_config["readings"]  # None where none were found

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride], MLflow annotates nothing
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[list[dict[str, Any]]]:
        """For each image, its top_k emojis, the likeliest first, with probabilities over the vocabulary.

        With `given` emojis: those that people add to them, over the others. With `readings`: instead of
        emojis, the kinds of reactions that it has, each with its share of the people and its top_k emojis;
        they are by LATENTS latents, whatever n_samples says.
        """
        settings = {"n_samples": 50, "top_k": 10, "seed": 0, "readings": False, "given": [], **(params or {})}
        given = self._check(settings)
        size = self.snapshot.facts.image_size
        pixels = np.stack(
            [_read(number, content, size) for number, content in enumerate(model_input["image"])]
        )
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        top_k, seed = settings["top_k"], settings["seed"]
        if not settings["readings"] and not given:
            distribution = self.snapshot.distribution(images, num_samples=settings["n_samples"], seed=seed)
            return [self._likeliest(p, top_k) for p in distribution]
        if given:
            number, top_k = max(settings["n_samples"], LATENTS), min(top_k, len(self.vocabulary) - len(given))
            latents = latents_of(self.snapshot, images, number=number, seed=seed)
            return [self._likeliest(completion(each, given), top_k) for each in latents]
        draws = [latents_of(self.snapshot, images, number=LATENTS, seed=each) for each in (seed, seed + 1)]
        found = [readings(one, other, self.most_readings) for one, other in zip(*draws, strict=True)]
        return [self._told(each, top_k) for each in found]

    def _check(self, settings: dict[str, Any]) -> list[int]:
        """The rows of the given emojis. Raises MlflowException for what is asked in vain."""
        if not (
            1 <= settings["n_samples"] <= MAX_SAMPLES and settings["top_k"] >= 1 and settings["seed"] >= 0
        ):
            raise _refusal(
                f"n_samples must be 1 to {MAX_SAMPLES}, top_k at least 1 and seed at least 0: {settings}"
            )
        given = [*dict.fromkeys(self._row(str(emoji)) for emoji in settings["given"])]
        if settings["readings"] and given:
            raise _refusal("ask for readings, or for what goes with given emojis, and not for both at once")
        if (settings["readings"] or given) and not self.snapshot.is_tied:
            raise _refusal("its output is free: it has no readings, and says nothing of emojis together")
        if settings["readings"] and self.most_readings is None:
            raise _refusal(
                "it has no readings: an earlier version evaluated it, or the posts that tell how many there "
                "are were forgotten"
            )
        if len(given) == len(self.vocabulary):
            raise _refusal("with all of its emojis given, there is none that could be next")
        return given

    def _row(self, emoji: str) -> int:
        for known in (canonical(emoji, keep_variants=True), canonical(emoji)):
            if known in self.vocabulary:
                return self.vocabulary.index(known)
        raise _refusal(f"{emoji} is none of the {len(self.vocabulary)} emojis that it knows")

    def _likeliest(self, p: np.ndarray, top_k: int) -> list[dict[str, Any]]:
        rows = np.argsort(-p, kind="stable")[:top_k]
        return [{"emoji": display(self.vocabulary[row]), "p": float(p[row])} for row in rows]

    def _told(self, found: Mixture, top_k: int) -> list[dict[str, Any]]:
        return [
            {"share": float(share), "emojis": self._likeliest(p, top_k)}
            for share, p in zip(found.share, found.p, strict=True)
        ]


def _refusal(message: str) -> MlflowException:
    return MlflowException(message, INVALID_PARAMETER_VALUE)


def _read(number: int, content: bytes, size: int) -> np.ndarray:
    """One image, uint8 [size, size, 3], from its bytes, or from base64 that a server did not decode."""
    if len(content) > MAX_BYTES:
        raise _refusal(f"image {number}: larger than {MAX_BYTES:,} bytes")
    try:
        return read_image(content, size)
    except ImageError:
        pass
    try:
        return read_image(base64.b64decode(content), size)
    except (ImageError, binascii.Error) as error:
        raise _refusal(f"image {number}: not a JPEG, PNG, WebP or GIF") from error


set_model(EmojiGAN())
