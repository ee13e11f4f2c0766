"""A registered model, asked about photographs."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ...datasets.errors import InputError
from ..forgotten import Mark, read_tag
from ..tracking.server import mlflow_client

if TYPE_CHECKING:
    from mlflow import MlflowClient


def predict(
    model: str, photos: list[Path], *, num_samples: int, top_k: int, seed: int
) -> tuple[list[list[dict]], Mark | None]:
    """For each photograph, its likeliest emojis: [{"emoji": …, "p": …}, …]; and the mark of the model's run.

    Args:
        model: any model address of MLflow, such as models:/emojigan@champion.

    Raises:
        InputError: there is no such model, or a photograph cannot be read.
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
    params = {"n_samples": num_samples, "top_k": top_k, "seed": seed}
    try:
        answers = loaded.predict(
            pandas.DataFrame({"image": [photo.read_bytes() for photo in photos]}), params
        )
    except MlflowException as error:
        raise InputError(f"{', '.join(str(photo) for photo in photos)}: {error.message}.") from error
    return answers, _mark(client, loaded.metadata.run_id)


def _mark(client: "MlflowClient", run_id: str | None) -> Mark | None:
    from mlflow.exceptions import MlflowException

    try:
        tags = client.get_run(run_id).data.tags if run_id else {}
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # a copy of a model from another server
            raise
        return None
    return read_tag(tags)
