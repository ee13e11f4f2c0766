"""The registered model: MLflow runs this file when it loads one (models from code, no pickle).

It travels inside the model with the package's source beside it, so it loads where emojigan is not installed.
Input: a column `image` of encoded photographs. Output: for each, its likeliest emojis with probabilities and
their intervals; or what is asked for by the parameters `readings` and `given`. Emojis in `deny` are not said.
"""

import base64
import binascii
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel

from emojigan.datasets.errors import InputError  # pyright: ignore[reportMissingImports]
from emojigan.datasets.store.atomic import SUMS, sha256  # pyright: ignore[reportMissingImports]
from emojigan.trainer.model.snapshot import load_snapshot  # pyright: ignore[reportMissingImports]
from emojigan.trainer.serving.model import Model, pixels_of  # pyright: ignore[reportMissingImports]

DEFAULTS = {"n_samples": 0, "top_k": 10, "seed": 0, "readings": False, "given": [], "deny": []}


class EmojiGAN(PythonModel):
    """Answers with p(emoji | image), the shift of training weights undone."""

    def load_context(self, context: Any) -> None:
        """Read the snapshot, which must be the one that was registered.

        Raises:
            InputError: it is another, or damaged.
        """
        path = Path(context.artifacts["snapshot"])
        if sha256(path / SUMS) != context.model_config["snapshot"]:
            raise InputError(f"{path} is not the snapshot that was registered: its digest is another.")
        self.model = Model(
            load_snapshot(path), context.model_config["readings"]
        )  # None where none were found

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride], MLflow annotates nothing
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[list[dict[str, Any]]]:
        """For each image, its top_k emojis, the likeliest first, with probabilities over the vocabulary.

        Each with the 95 % interval of what all latents would say, low to high, and how many were asked. With
        n_samples = 0 these are as many as it takes until the likeliest emoji parts from the others, up to
        4,096.

        With `given` emojis: those that people add to them, over the others. With `readings`: instead of
        emojis, the kinds of reactions that it has, each with its share of the people and its top_k emojis;
        they are by 128 latents, whatever n_samples says.
        """
        try:
            return self._asked([*model_input["image"]], DEFAULTS | (params or {}))
        except InputError as error:
            raise MlflowException(str(error).removesuffix("."), INVALID_PARAMETER_VALUE) from error

    def _asked(self, images: list[bytes], settings: dict[str, Any]) -> list[list[dict[str, Any]]]:
        pixels = [
            _pixels(content, self.model.image_size, f"image {number}")
            for number, content in enumerate(images)
        ]
        n_samples, readings, given = (settings.pop(key) for key in ("n_samples", "readings", "given"))
        if readings and len(given):
            raise InputError(
                "Ask for readings, or for what goes with given emojis, and not for both at once."
            )
        if readings:
            return [[asdict(each) for each in found] for found in self.model.readings(pixels, **settings)]
        if len(given):
            completed = self.model.complete(pixels, [*given], samples=n_samples, **settings)
            return [[asdict(each) for each in found] for found in completed]
        answers = self.model.ask(pixels, samples=n_samples, **settings)
        return [[{**asdict(each), "latents": said.latents} for each in said.emojis] for said in answers]


def _pixels(content: bytes, size: int, name: str) -> Any:
    """One image from its bytes, or from base64 that a server did not decode."""
    try:
        return pixels_of(content, size, name)
    except InputError:
        try:
            decoded = base64.b64decode(content, validate=True)
        except binascii.Error:
            pass
        else:
            return pixels_of(decoded, size, name)
        raise


set_model(EmojiGAN())
