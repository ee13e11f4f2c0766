"""The registered model: MLflow runs this file when it loads one (models from code, no pickle).

It travels inside the model with the package's source beside it, so it loads where emojigan is not installed.
Input: a column `image` of encoded photographs. Output: for each, its likeliest emojis with probabilities and
their intervals; or what is asked for by the parameters `readings` and `given`. Emojis in `deny` are not said.
"""

import base64
import binascii
from collections.abc import Collection, Iterable
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
from emojigan.trainer.model.estimate import Estimate  # pyright: ignore[reportMissingImports]
from emojigan.trainer.model.readings import (  # pyright: ignore[reportMissingImports]
    LATENTS,
    Mixture,
    completion,
    latents_of,
    readings,
    without,
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

        Each with the 95 % interval of what all latents would say, low to high, and how many were asked. With
        n_samples = 0 these are as many as it takes until the likeliest emoji parts from the others, up to
        4,096.

        With `given` emojis: those that people add to them, over the others. With `readings`: instead of
        emojis, the kinds of reactions that it has, each with its share of the people and its top_k emojis;
        they are by LATENTS latents, whatever n_samples says.
        """
        settings = {"n_samples": 0, "top_k": 10, "seed": 0, "readings": False, "given": [], "deny": []}
        settings |= params or {}
        given, denied = self._check(settings)
        size = self.snapshot.facts.image_size
        pixels = np.stack(
            [_read(number, content, size) for number, content in enumerate(model_input["image"])]
        )
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        number, top_k, seed = settings["n_samples"], settings["top_k"], settings["seed"]
        if not settings["readings"] and not given:
            found = self.snapshot.estimates(images, num_samples=number, seed=seed, denied=denied)
            return [self._estimated(image, each, top_k, denied) for image, each in enumerate(found)]
        if given:
            latents = latents_of(self.snapshot, images, number=max(number, LATENTS), seed=seed)
            unsaid = {*given, *denied}
            return [self._likeliest(completion(each, given, denied), top_k, unsaid) for each in latents]
        draws = [latents_of(self.snapshot, images, number=LATENTS, seed=each) for each in (seed, seed + 1)]
        both = ((without(one, denied), without(other, denied)) for one, other in zip(*draws, strict=True))
        return [self._told(readings(*each, self.most_readings), top_k, denied) for each in both]

    def _check(self, settings: dict[str, Any]) -> tuple[list[int], list[int]]:
        """The rows of given and of denied emojis. Raises MlflowException for what is asked in vain."""
        if not (
            0 <= settings["n_samples"] <= MAX_SAMPLES and settings["top_k"] >= 1 and settings["seed"] >= 0
        ):
            raise _refusal(
                f"n_samples must be 1 to {MAX_SAMPLES}, or 0 for as many as it takes, top_k at least 1 and "
                f"seed at least 0: {settings}"
            )
        given = [*dict.fromkeys(self._row(str(emoji)) for emoji in settings["given"])]
        denied = self._denied(map(str, settings["deny"]))
        if settings["readings"] and given:
            raise _refusal("ask for readings, or for what goes with given emojis, and not for both at once")
        if (settings["readings"] or given) and not self.snapshot.is_tied:
            raise _refusal("its output is free: it has no readings, and says nothing of emojis together")
        if settings["readings"] and self.most_readings is None:
            raise _refusal(
                "it has no readings: an earlier version evaluated it, or the posts that tell how many there "
                "are were forgotten"
            )
        if len(denied) == len(self.vocabulary):
            raise _refusal("with all of its emojis denied, there is none that it could say")
        if len({*given, *denied}) == len(self.vocabulary):
            raise _refusal("with all of its emojis given or denied, there is none that could be next")
        return given, denied

    def _row(self, emoji: str) -> int:
        for known in (canonical(emoji, keep_variants=True), canonical(emoji)):
            if known in self.vocabulary:
                return self.vocabulary.index(known)
        raise _refusal(f"{emoji} is none of the {len(self.vocabulary)} emojis that it knows")

    def _denied(self, emojis: Iterable[str]) -> list[int]:
        """Their rows; one without skin tone and gender denies all variants, as in a deny list."""
        keep = any(canonical(known) != known for known in self.vocabulary)
        denied = {found for emoji in emojis if (found := canonical(emoji, keep_variants=keep))}
        return [row for row, known in enumerate(self.vocabulary) if denied & {known, canonical(known)}]

    def _likeliest(
        self, p: np.ndarray, top_k: int, unsaid: Collection[int], **more: np.ndarray
    ) -> list[dict[str, Any]]:
        rows = [row for row in np.argsort(-p, kind="stable").tolist() if row not in unsaid][:top_k]
        more = {"p": p, **more}
        return [
            {
                "emoji": display(self.vocabulary[row]),
                **{name: float(each[row]) for name, each in more.items()},
            }
            for row in rows
        ]

    def _estimated(
        self, image: int, found: Estimate, top_k: int, denied: Collection[int]
    ) -> list[dict[str, Any]]:
        if not found.p.any():
            raise _refusal(f"image {image}: all that it says of it is denied")
        rows = self._likeliest(found.p, top_k, denied, low=found.low, high=found.high)
        return [{**row, "latents": found.latents} for row in rows]

    def _told(self, found: Mixture, top_k: int, denied: Collection[int]) -> list[dict[str, Any]]:
        return [
            {"share": float(share), "emojis": self._likeliest(p, top_k, denied)}
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
