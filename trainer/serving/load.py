"""Where a model lies, and how it is loaded.

runs/first                          ─► the snapshot that `evaluate` scored, or the best by val ─┐
runs/first/snapshots/step-00000400  ─► that one ────────────────────────────────────────────────┼─► Model
exported                            ─► what `emojigan export` wrote; from ONNX without torch ───┤
models:/emojigan@champion, runs:/…  ─► MLflow fetches it ─► the snapshot within ────────────────┘

What runs is the code that is installed here, on the weights that lie there; `mlflow.pyfunc` and `mlflow
models serve` run the code that was packaged with a model. Weights that are not those that were registered are
refused: a version tells their digest.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from ...datasets.errors import InputError
from ...datasets.store.atomic import SUMS, sha256
from ..export.asked import GRAPH, load_exported
from ..facts import FACTS, best_snapshot, read_facts
from ..forgotten import Mark, read_mark, read_tag
from ..model.estimate import Asked
from ..run import CONFIG, EVALUATION, SNAPSHOTS, steps_in
from ..tracking.server import mlflow_client
from .model import Model

if TYPE_CHECKING:
    import torch
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

SNAPSHOT_TAG = "emojigan.snapshot"  # of a version: SHA-256 of the checksums of its snapshot
MLMODEL, PACKAGED = "MLmodel", "artifacts"  # MLflow's names of what tells of a model, and of what is in it
REMOTE = "models:/", "runs:/", "mlflow-artifacts:/"


@dataclass(frozen=True)
class Found:
    """A snapshot that lies here, maybe for a while only."""

    name: str  # what it is called: a path, or models:/emojigan/3
    snapshot: Path
    readings: int | None  # as many as held-out posts support
    mark: Mark | None  # where it was trained with posts that are forgotten by now
    scores: Mapping[str, float] = field(default_factory=dict)  # of a run, on held-out posts; else not known
    card: str = ""  # of a registered model, as Markdown

    @property
    def digest(self) -> str:
        """Which weights it is: SHA-256 of its checksums."""
        return sha256(self.snapshot / SUMS)

    @property
    def is_exported(self) -> bool:
        """Whether ONNX Runtime asks it, on CPUs."""
        return (self.snapshot / GRAPH).is_file()


def load(address: str | Path, *, device: "torch.device | str | None" = None) -> Model:
    """The model of a run, of the folder of a snapshot or an export, or of any model address of MLflow.

    Args:
        device: a GPU by default, if there is one; what was exported to ONNX is asked on CPUs.

    Raises:
        InputError: there is no such model, or it is damaged or not what was registered.
    """
    with finding(address) as found:
        return open_model(found, device)


def open_model(found: Found, device: "torch.device | str | None" = None) -> Model:
    """The same of a snapshot that is found already."""
    return Model(open_snapshot(found, device), found.readings)


def open_snapshot(found: Found, device: "torch.device | str | None" = None) -> Asked:
    """The same for what speaks of rows and pixels; its facts tell the readings."""
    path = found.snapshot
    if found.is_exported:
        return load_exported(path)
    import torch  # which takes seconds, and is not there on every server

    from ..model.snapshot import load_snapshot

    snapshot = load_snapshot(path, device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return replace(snapshot, facts=replace(snapshot.facts, readings=found.readings))


@contextmanager
def finding(address: str | Path) -> Iterator[Found]:
    """The snapshot that an address names, fetched if need be, and then here for as long as the context."""
    address, path = str(address), Path(address)
    if (path / CONFIG).is_file():
        yield _of_run(path)
    elif (path / FACTS).is_file():
        yield _of_snapshot(path)
    elif (path / MLMODEL).is_file():
        yield _packaged(address, path)
    elif address.startswith(REMOTE):
        with tempfile.TemporaryDirectory(prefix="emojigan-") as folder:
            yield _fetched(address, folder)
    else:
        raise InputError(
            f"{address} is no model: give the folder of a run or of one of its snapshots, or an address of "
            "MLflow such as models:/emojigan@champion."
        )


def identity(address: str) -> str:
    """Which model an address names now, told without fetching it: two that differ are two models.

    Raises:
        InputError: there is no such model.
    """
    if Path(address).exists() or not address.startswith(REMOTE):
        with finding(address) as found:
            return found.digest
    from mlflow.exceptions import MlflowException

    try:
        version = _version(mlflow_client(), address)
    except (MlflowException, OSError) as error:
        raise InputError(f"{address} cannot be found: {str(error).splitlines()[0]}") from error
    return _named(version) if version else address


def _of_run(run: Path) -> Found:
    """Of a run, what was evaluated, for that is what is known; else the best by val."""
    if (run / EVALUATION).is_file():
        evaluation = json.loads((run / EVALUATION).read_text(encoding="utf-8"))
        path, scores = (
            run / SNAPSHOTS / evaluation["snapshot"],
            evaluation.get("scores", {}).get("EmojiGAN", {}),
        )
        return Found(str(run), path, evaluation.get("readings"), read_mark(run), scores)
    path = best_snapshot(steps_in(run / SNAPSHOTS))
    if path is None:
        raise InputError(f"{run} has no snapshot yet. Run its `emojigan train` until it has one.")
    return Found(str(run), path, None, read_mark(run))


def _of_snapshot(path: Path) -> Found:
    of, run = path.resolve().parent, path.resolve().parent.parent
    if of.name != SNAPSHOTS or not (run / CONFIG).is_file():  # it was exported, or is a copy
        return Found(str(path), path, read_facts(path).readings, read_mark(path))
    if path.resolve() == (of_run := _of_run(run)).snapshot.resolve():
        return replace(of_run, name=str(path), snapshot=path)
    return Found(str(path), path, None, read_mark(run))


def _packaged(name: str, folder: Path, client: "MlflowClient | None" = None) -> Found:
    """A model as MLflow keeps it.

    Args:
        client: that knows the run it is of.
    """
    try:
        about = yaml.safe_load((folder / MLMODEL).read_text(encoding="utf-8"))
        flavour = about["flavors"]["python_function"]
        snapshot = folder / flavour["artifacts"]["snapshot"]["path"]
        readings = flavour.get("config", {}).get("readings")
        card = flavour["artifacts"].get("card", {}).get("path")
    except (KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise InputError(f"{name} is a model of MLflow, but none of EmojiGAN.") from error
    mark = _mark(client, about["run_id"]) if client and about.get("run_id") else None
    text = (folder / card).read_text(encoding="utf-8") if card else ""
    return Found(name, snapshot, readings, mark, card=text)


def _mark(client: "MlflowClient", run_id: str) -> Mark | None:
    from mlflow.exceptions import MlflowException

    try:
        return read_tag(client.get_run(run_id).data.tags)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # a copy of a model from another server
            raise
        return None


def _fetched(address: str, folder: str) -> Found:
    client = mlflow_client()
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        version = _version(client, address)
        where = _named(version) if version else address
        for name in (MLMODEL, PACKAGED):  # not its code, which is many files
            download_artifacts(f"{where}/{name}", dst_path=folder)
    except (MlflowException, OSError) as error:
        raise InputError(f"{address} cannot be loaded: {str(error).splitlines()[0]}") from error
    found = _packaged(where, Path(folder), client)
    registered = version.tags.get(SNAPSHOT_TAG) if version else None
    if registered and found.digest != registered:
        raise InputError(
            f"{where} is not what was registered: its snapshot has another digest. Do not use it; register "
            "its run again, under another --name."
        )
    return found


def _named(version: "ModelVersion") -> str:
    return f"models:/{version.name}/{version.version}"


def _version(client: "MlflowClient", address: str) -> "ModelVersion | None":
    """The version of a registered model that an address names; None if it names none of these."""
    if not address.startswith("models:/"):
        return None
    name, _, alias = address.removeprefix("models:/").partition("@")
    if alias:
        return client.get_model_version_by_alias(name, alias)
    name, _, number = name.rpartition("/")
    if not name:
        return None  # models:/m-…, a logged model
    if number == "latest":
        versions = client.search_model_versions(f"name = '{name}'")
        number = str(max((int(each.version) for each in versions), default=1))
    return client.get_model_version(name, number)
