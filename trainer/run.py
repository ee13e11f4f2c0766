"""A run is a folder. The names of what is in it are known here alone.

runs/first/
  config.yaml                  the resolved configuration
  inputs.json                  where the shards and the vectors lie, what the dataset was in the beginning,
                               and how the training was started
  forgotten.json               there where it was trained with posts that are forgotten now: forgotten.py
  metrics.jsonl                a line of numbers now and then: tracking/; training/speed.py explains speed
  mlflow_run_id                the same run in MLflow, and mlflow_key by which it is found there
  quarantine-0.jsonl           the images that rank 0 found damaged
  checkpoints/step-00000400/   the state to resume from: training/checkpoint.py
  snapshots/step-00000400/     weights to sample from: model/snapshot.py
  .lock                        there while it is trained: one training at a time; datasets/store/lock.py
  .token                       there while the ranks of a start see whether all have this folder
  baselines/classifier/        what was trained to be compared with it: evaluation/baselines/
  evaluation.json              the scores of a snapshot on the test split
  report/index.html            the same for people, and its figures as fig2.png to fig4.png
  report/harm.html             what it says of sensitive emojis, for a reviewer to sign: evaluation/harm.py
"""

import json
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import yaml

from ..datasets.errors import InputError
from ..datasets.shards.manifest import Manifest
from ..datasets.store.atomic import remove_folder, telling_where, write_atomic
from ..datasets.store.folder import Folder, open_folder
from ..datasets.store.trouble import MISSING
from .config import PLAIN, Config, read_config

CONFIG = "config.yaml"
INPUTS = "inputs.json"
FORGOTTEN = "forgotten.json"
METRICS_FILE = "metrics.jsonl"
MLFLOW_RUN_ID = "mlflow_run_id"
MLFLOW_KEY = "mlflow_key"
CHECKPOINTS = "checkpoints"
SNAPSHOTS = "snapshots"
TOKEN = ".token"
BASELINES = "baselines"
EVALUATION = "evaluation.json"
REPORT = "report"
REPORT_PAGE = "report/index.html"
HARM_PAGE = "report/harm.html"
STEP_NAME = re.compile("step-[0-9]{8}")


@dataclass(frozen=True)
class Origin:
    """What a dataset was when a run began on it, and what it became since, as accounts were forgotten.

    The networks learn to say the emojis of this vocabulary, with the weights that these counts give: a run
    keeps both to its end, whatever is forgotten meanwhile.
    """

    vocabulary: dict[str, int]  # of the manifest: canonical emoji → tuples in the train split
    images: int  # in the train split
    datasets: tuple[tuple[int, str], ...]  # SHA-256 of the manifest, and the step from which on it was that

    @classmethod
    def of(cls, manifest: Manifest) -> "Origin":
        """That of a run which begins now."""
        images = sum(shard.images for shard in manifest.of_split("train"))
        return cls(manifest.vocabulary, images, ((0, manifest.sha256()),))

    @property
    def dataset(self) -> str:
        """The identity of the dataset in the beginning: all that the run is trained with was in it."""
        return self.datasets[0][1]

    @property
    def latest(self) -> str:
        """The identity of the dataset when it was last trained on."""
        return self.datasets[-1][1]

    def going_on(self, step: int, dataset: str) -> "Origin":
        """The same for a run that resumes at `step` on what is the dataset now."""
        earlier = tuple(each for each in self.datasets if each[0] < step or each[0] == 0)
        return replace(self, datasets=earlier if earlier[-1][1] == dataset else (*earlier, (step, dataset)))


def quarantine_name(rank: int) -> str:
    """The name of the file of damaged images that a rank writes."""
    return f"quarantine-{rank}.jsonl"


def step_name(step: int) -> str:
    """The name of the folder of a checkpoint or snapshot: names sort as steps do."""
    return f"step-{step:08d}"


def step_of(path: Path) -> int:
    """The step of such a folder."""
    return int(path.name.removeprefix("step-"))


def steps_in(folder: Path) -> list[Path]:
    """The folders of checkpoints or snapshots, the earliest first; other names are not theirs.

    Raises:
        OSError: the folder is there and cannot be read: it is not taken for an empty one.
    """
    try:
        found = [folder / name for name in os.listdir(folder) if STEP_NAME.fullmatch(name)]
    except MISSING:
        return []
    return sorted(path for path in found if path.is_dir() and not path.is_symlink())


def write_beginning(
    run: Path, config: Config, shards: Folder, vectors: Path, origin: Origin, start: Mapping[str, str]
) -> None:
    """Note in a run's folder what it is made from.

    Args:
        start: of the training, such as its command and the revision of the code.
    """
    write_atomic(run / CONFIG, yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True))
    places = {"shards": str(shards.absolute()), "vectors": str(vectors.resolve())}
    content = {**places, "origin": asdict(origin), "start": dict(start)}
    write_atomic(run / INPUTS, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def read_beginning(run: Path) -> tuple[Config, Folder, Path]:
    """The configuration, the shards and the vector file of a run.

    Raises:
        InputError: they were never written, or are damaged.
    """
    inputs = _read_inputs(run)
    try:
        shards, vectors = open_folder(inputs["shards"]), Path(inputs["vectors"])
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged(run) from error
    return read_config(run / CONFIG), shards, vectors


def read_origin(run: Path) -> Origin | None:
    """The dataset as it was when a run began; None for a run of a version that did not note it.

    Raises:
        InputError: it is damaged.
    """
    content = _read_inputs(run).get("origin")
    if content is None:
        return None
    try:
        datasets = tuple((int(step), str(dataset)) for step, dataset in content["datasets"])
        return Origin(dict(content["vocabulary"]), int(content["images"]), datasets)
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged(run) from error


def read_start(run: Path) -> dict[str, str]:
    """How the last training of a run was started; empty for a run of a version that did not note it."""
    start = _read_inputs(run).get("start", {})
    return {str(key): str(value) for key, value in start.items()} if isinstance(start, dict) else {}


def _read_inputs(run: Path) -> dict:
    try:
        with telling_where(run / INPUTS):
            content = json.loads((run / INPUTS).read_text(encoding="utf-8"))
    except (*MISSING, ValueError) as error:
        raise _damaged(run) from error
    if not isinstance(content, dict):
        raise _damaged(run)
    return content


def _damaged(run: Path) -> InputError:
    return InputError(f"{run / INPUTS} is missing or damaged: run the `emojigan train` of this run again.")


def to_train_again(run: Path, shards: str, vectors: Path, out: str) -> str:
    """The command that trains a run again, whatever the defaults are by now."""
    words = [shards, "--vectors", vectors, "--recipe", PLAIN, "--config", run / CONFIG, "--out", out]
    return f"emojigan train {shlex.join(map(str, words))}"


def remove_later_snapshots(run: Path, step: int) -> None:
    """Remove the snapshots of steps that a training which resumes at `step` will come to again.

    They were made by one that was killed, maybe under another configuration if it had no checkpoint yet.
    """
    for path in steps_in(run / SNAPSHOTS):
        if path.name > step_name(step):
            remove_folder(path)
