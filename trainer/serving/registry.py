"""A run's best snapshot as a version of a registered model.

run ─► register ─► MLflow: logged model (code, snapshot, signature, scores) ─► version ─► alias champion
"""

import json
import logging
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ...datasets.errors import InputError
from ...datasets.shards.encoding import encode_jpeg
from ...datasets.store.atomic import SUMS, sha256
from ..forgotten import Mark, mark_tags, read_mark
from ..model.snapshot import read_facts
from ..run import EVALUATION, SNAPSHOTS
from ..tracking.mlflow_run import needed_run_id
from ..tracking.server import mlflow_client

CHAMPION = "champion"
PACKAGE = Path(__file__).parents[2]
FOLDERS = ("datasets", "trainer")
REQUIREMENTS = (
    *("mlflow", "torch", "numpy", "pandas", "pillow", "safetensors", "pydantic", "pyyaml"),
    *("emoji", "simplejpeg", "tqdm"),
)
SNAPSHOT_TAG = "emojigan.snapshot"


@dataclass(frozen=True)
class Registered:
    """A version of a registered model."""

    name: str
    version: str
    champion: bool  # whether the alias was set
    forgotten: Mark | None  # where it was trained with what is forgotten


def register(run: Path, name: str) -> Registered:
    """Register the snapshot that `evaluate` scored; the champion must beat the marginal baseline.

    The same snapshot is registered once: asking again gives the version that is there.

    Raises:
        InputError: the run was not evaluated.
    """
    path = run / EVALUATION
    if not path.exists():
        raise InputError(f"{run} was not evaluated. Run `emojigan evaluate {run}` first.")
    evaluation = json.loads(path.read_text(encoding="utf-8"))
    snapshot = run / SNAPSHOTS / evaluation["snapshot"]
    identity = sha256(snapshot / SUMS)
    client = mlflow_client()
    known = [
        v for v in client.search_model_versions(f"name = '{name}'") if v.tags.get(SNAPSHOT_TAG) == identity
    ]
    run_id = needed_run_id(run)
    number = known[0].version if known else _new_version(run_id, name, snapshot, identity, evaluation)
    mark = read_mark(run)
    for key, value in mark_tags(mark).items():
        client.set_tag(run_id, key, value)
        client.set_model_version_tag(name, str(number), key, value)
    champion = beats_marginal(evaluation["scores"])
    if champion:
        client.set_registered_model_alias(name, CHAMPION, number)
    return Registered(name, str(number), champion, mark)


def beats_marginal(scores: dict[str, dict[str, float]]) -> bool:
    """Whether the model is better than ignoring the image, by both proper scores of held-out tuples."""
    model, baseline = scores["EmojiGAN"], scores["Marginal"]
    return all(model[key] < baseline[key] for key in ("nll", "energy_score"))


def _new_version(run_id: str, name: str, snapshot: Path, identity: str, evaluation: dict[str, Any]) -> str:
    import mlflow

    # Else it is logged that the input example is tried.
    logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)
    facts = read_facts(snapshot)
    with mlflow.start_run(run_id=run_id), tempfile.TemporaryDirectory() as folder:
        info = mlflow.pyfunc.log_model(
            name=name,
            step=facts.step,
            python_model=str(PACKAGE / "trainer" / "serving" / "served_model.py"),
            code_paths=[str(_copy_source(Path(folder)))],
            artifacts={"snapshot": str(snapshot)},
            model_config={"readings": evaluation.get("readings")},
            signature=signature(),
            input_example=(_example(), {"n_samples": 1}),
            pip_requirements=[f"{package}=={version(package).partition('+')[0]}" for package in REQUIREMENTS],
            params={"step": facts.step, "vocabulary": len(facts.vocabulary), **facts.model},
        )
        mlflow.log_metrics(
            {f"test/{key}": value for key, value in evaluation["scores"]["EmojiGAN"].items()},
            step=facts.step,
            model_id=info.model_id,
        )
        tags = {SNAPSHOT_TAG: identity, "dataset": facts.dataset, "vectors": facts.vectors}
        return mlflow.register_model(f"models:/{info.model_id}", name, tags=tags).version


def _copy_source(folder: Path) -> Path:
    """The package as it is now, under its import name; a model keeps the code that it was made with."""
    for name in FOLDERS:
        shutil.copytree(
            PACKAGE / name, folder / "emojigan" / name, ignore=shutil.ignore_patterns("__pycache__", ".*")
        )
    return folder / "emojigan"


def signature() -> Any:
    """Binary images in; out, for each, emojis with probabilities, or readings that have such; parameters.

    The probabilities of an image have intervals, and the number of its latents; those of its readings none.
    """
    from mlflow.models.signature import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array, Object, Property

    emojis = [Property("emoji", DataType.string), Property("p", DataType.double)]
    readings = [Property("share", DataType.double), Property("emojis", Array(Object(emojis)))]
    interval = [Property("low", DataType.double), Property("high", DataType.double)]
    told = (*emojis, *interval, Property("latents", DataType.long), *readings)
    answer = Object([Property(each.name, each.dtype, required=False) for each in told])
    numbers = {"n_samples": 0, "top_k": 10, "seed": 0}
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.binary, "image")]),
        outputs=Schema([ColSpec(Array(answer))]),
        params=ParamSchema(
            [
                *(ParamSpec(name, DataType.long, default) for name, default in numbers.items()),
                ParamSpec("readings", DataType.boolean, False),
                *(ParamSpec(name, DataType.string, [], shape=(-1,)) for name in ("given", "deny")),
            ]
        ),
    )


def _example() -> Any:
    """A grey photograph: MLflow tries the model on it once, and shows how to ask."""
    import pandas

    return pandas.DataFrame({"image": [encode_jpeg(np.full((64, 64, 3), 128, np.uint8))]})
