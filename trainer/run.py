"""A run is a folder. The names of what is in it are known here alone.

runs/first/
  config.yaml                  the resolved configuration
  inputs.json                  where the shards and the vectors lie
  metrics.jsonl                a line of numbers now and then
  mlflow_run_id                the same run in MLflow
  quarantine-0.jsonl           the images that rank 0 found damaged
  checkpoints/step-00000400/   the state to resume from: training/checkpoint.py
  snapshots/step-00000400/     weights to sample from: model/snapshot.py
  classifier/                  the baseline that it is compared with: evaluation/baselines.py
  evaluation.json              the scores of a snapshot on the test split
  report/index.html            the same for people
"""

import json
import shutil
from pathlib import Path

import yaml

from ..datasets.errors import InputError
from ..datasets.store.atomic import write_atomic
from ..datasets.store.folder import Folder, open_folder
from .config import Config, read_config

CONFIG = "config.yaml"
INPUTS = "inputs.json"
METRICS_FILE = "metrics.jsonl"
MLFLOW_RUN_ID = "mlflow_run_id"
CHECKPOINTS = "checkpoints"
SNAPSHOTS = "snapshots"
BASELINE = "baseline"
EVALUATION = "evaluation.json"
REPORT = "report"
REPORT_PAGE = "report/index.html"


def quarantine_name(rank: int) -> str:
    """The name of the file of damaged images that a rank writes."""
    return f"quarantine-{rank}.jsonl"


def step_name(step: int) -> str:
    """The name of the folder of a checkpoint or snapshot: names sort as steps do."""
    return f"step-{step:08d}"


def steps_in(folder: Path) -> list[Path]:
    """The folders of checkpoints or snapshots, the earliest first."""
    return sorted(folder.glob("step-*"))


def write_beginning(run: Path, config: Config, shards: Folder, vectors: Path) -> None:
    """Note in a run's folder what it is made from."""
    write_atomic(run / CONFIG, yaml.safe_dump(config.model_dump(), sort_keys=False))
    inputs = {"shards": str(shards.absolute()), "vectors": str(vectors.resolve())}
    write_atomic(run / INPUTS, json.dumps(inputs, indent=1) + "\n")


def read_beginning(run: Path) -> tuple[Config, Folder, Path]:
    """The configuration, the shards and the vector file of a run.

    Raises:
        InputError: they were never written, or are damaged.
    """
    path = run / INPUTS
    try:
        inputs = json.loads(path.read_text(encoding="utf-8"))
        shards, vectors = open_folder(inputs["shards"]), Path(inputs["vectors"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path} is missing or damaged: run the `emojigan train` of this run again."
        ) from error
    return read_config(run / CONFIG), shards, vectors


def remove_later_snapshots(run: Path, step: int) -> None:
    """Remove the snapshots of steps that a training which resumes at `step` will come to again.

    They were made by one that was killed, maybe under another configuration if it had no checkpoint yet.
    """
    for path in steps_in(run / SNAPSHOTS):
        if path.name > step_name(step):
            shutil.rmtree(path)
