"""A registered model, asked about photographs."""

import logging
import os
from pathlib import Path

from ...datasets.errors import InputError
from ..tracking import mlflow_client


def predict(model: str, photos: list[Path], *, num_samples: int, top_k: int, seed: int) -> list[list[dict]]:
    """For each photograph, its likeliest emojis: [{"emoji": …, "p": …}, …].

    Args:
        model: any model address of MLflow, such as models:/emojigan@champion.

    Raises:
        InputError: there is no such model, or a photograph cannot be read.
    """
    for photo in photos:
        if not photo.is_file():
            raise InputError(f"{photo}: no such photograph.")
    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    mlflow_client()
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
        return loaded.predict(pandas.DataFrame({"image": [photo.read_bytes() for photo in photos]}), params)
    except MlflowException as error:
        raise InputError(f"{', '.join(str(photo) for photo in photos)}: {error.message}.") from error
