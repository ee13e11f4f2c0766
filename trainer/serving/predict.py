"""A registered model, asked about photographs."""

import logging
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...datasets.errors import InputError
from ..forgotten import Mark, read_tag
from ..tracking.server import mlflow_client

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.pyfunc import PyFuncModel

EVERY = 10_000  # emojis: there are fewer


@dataclass(frozen=True)
class Answer:
    """What a model says of a photograph. Emojis are {"emoji": …, "p": …}, the likeliest first."""

    emojis: list[dict]  # with "low" and "high", the interval of p, and "latents", how many were asked
    likeliest: list[dict] | None  # those that are not told apart; None of a model of an earlier version
    readings: list[dict] | None  # {"share": …, "emojis": …}, the largest first; None if not asked for
    completion: list[dict] | None  # the emojis that people add to the given ones; None if none are given


def predict(
    model: str,
    photos: list[Path],
    *,
    num_samples: int | None,
    top_k: int,
    seed: int,
    readings: bool = False,
    given: Sequence[str] = (),
    deny: Sequence[str] = (),
) -> tuple[list[Answer], Mark | None]:
    """For each photograph, what a model says of it; and the mark of the model's run.

    Args:
        model: any model address of MLflow, such as models:/emojigan@champion.
        num_samples: latents of a photograph; None for as many as the model takes.
        deny: emojis that are never said; those that the model does not know change nothing.

    Raises:
        InputError: there is no such model, it cannot say what is asked for, or a photograph cannot be read.
    """
    for photo in photos:
        if not photo.is_file():
            raise InputError(f"{photo}: no such photograph.")
    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    client = mlflow_client()
    import mlflow
    import pandas
    from mlflow.exceptions import MlflowException

    logging.getLogger("mlflow.pyfunc").setLevel(logging.ERROR)  # else it logs advice for authors of models
    try:
        loaded = mlflow.pyfunc.load_model(model)
    except (MlflowException, OSError) as error:
        raise InputError(f"{model} cannot be loaded: {str(error).splitlines()[0]}") from error
    params = {"top_k": top_k, "seed": seed} | ({"n_samples": num_samples} if num_samples else {})
    params |= {"deny": [*deny]} if deny else {}
    questions = {"emojis": {"top_k": EVERY}}
    questions |= {"readings": {"readings": True}} if readings else {}
    questions |= {"completion": {"given": [*given]}} if given else {}
    asked = {name: {**params, **each} for name, each in questions.items()}
    _refuse_earlier(model, loaded, {param for each in asked.values() for param in each})
    table = pandas.DataFrame({"image": [photo.read_bytes() for photo in photos]})
    try:
        said = {name: loaded.predict(table, each) for name, each in asked.items()}
    except MlflowException as error:
        about = ", ".join(map(str, photos)) if error.message.startswith("image ") else model
        raise InputError(f"{about}: {error.message}.") from error
    nothing = [None] * len(photos)
    rows = zip(said["emojis"], *(said.get(name, nothing) for name in ("readings", "completion")), strict=True)
    answers = [Answer(emojis[:top_k], _likeliest(emojis), *others) for emojis, *others in rows]
    return answers, _mark(client, loaded.metadata.run_id)


def _refuse_earlier(model: str, loaded: "PyFuncModel", params: Collection[str]) -> None:
    """MLflow leaves out parameters that a model does not know, and says nothing of it."""
    known = {param.name for param in loaded.metadata.get_params_schema() or ()}
    if unknown := sorted({*params} - known):
        raise InputError(
            f"{model} was registered by an earlier version, which does not know {' and '.join(unknown)}. "
            "Evaluate its run again, and register it under another --name."
        )


def _likeliest(emojis: list[dict]) -> list[dict] | None:
    """Those whose interval reaches into that of the first, which is one of them."""
    if not (emojis and "low" in emojis[0]):
        return None
    return [row for row in emojis if row["high"] >= emojis[0]["low"]]


def _mark(client: "MlflowClient", run_id: str | None) -> Mark | None:
    from mlflow.exceptions import MlflowException

    try:
        tags = client.get_run(run_id).data.tags if run_id else {}
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # a copy of a model from another server
            raise
        return None
    return read_tag(tags)
