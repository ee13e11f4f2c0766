"""The run of MLflow that a run folder has: found or begun, told what is true now, and given scores.

mlflow_key     made first: the MLflow run is tagged with it, so that one whose beginning was answered too
               late, or never, is found again and not begun twice
mlflow_run_id  the id of the MLflow run, once it is known
"""

import os
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ...datasets.errors import InputError
from ...datasets.printable import printable
from ...datasets.store.atomic import create, write_atomic
from ..config import RunConfig
from ..forgotten import TAG
from ..run import MLFLOW_KEY, MLFLOW_RUN_ID
from .about import About
from .server import cause, every, mlflow_client, named, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run, RunInfo

EXPERIMENT = "emojigan"
KEY_TAG = "emojigan.run"
PARENT = "mlflow.parentRunId"  # tag of a run that stands under another
NOW = "now."  # and the name of a parameter: a tag of its value where that is not the first one's any more


def run_id_of(run: Path) -> str | None:
    """The MLflow run of a run folder, when it has one."""
    path = run / MLFLOW_RUN_ID
    return path.read_text(encoding="utf-8").strip() if path.exists() else None


def needed_run_id(run: Path) -> str:
    """The MLflow run of a run folder.

    Raises:
        InputError: it has none, because no server could be reached while it was trained.
    """
    if run_id := run_id_of(run):
        return run_id
    raise InputError(
        f"{run} is not in MLflow yet: run its `emojigan train` again while {named(tracking_uri())} can be "
        "reached, and then this again."
    )


def open_run(
    run: Path, client: "MlflowClient", about: About, start: dict[str, str], *, begins: bool
) -> "RunInfo":
    """Find or begin the MLflow run of a folder, and tell it what is true of this start.

    It may be called again after it failed in any part, and tells everything once.

    Args:
        start: tags of this start.
        begins: nothing was trained yet.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag, Param, RunTag

    found = _find(run, client)
    if found and begins and _is_of_another_config(found, about.params):
        # That training was stopped before its first checkpoint; its metrics are none of this one's.
        if found.info.status == "RUNNING":
            client.set_terminated(found.info.run_id, "KILLED")
        for name in (MLFLOW_KEY, MLFLOW_RUN_ID):  # the id last: as long as it is there, this is done again
            (run / name).unlink(missing_ok=True)
        found = None
    if found is None:
        found = _begin(run, client, about)
    run_id, told = found.info.run_id, found.data
    if found.info.status != "RUNNING":
        client.update_run(run_id, status="RUNNING")
    if begins and TAG in told.tags:
        client.delete_tag(run_id, TAG)  # it is of a training that is no more
    tags = {**about.tags, **start, **_changed(about.params, told.params, told.tags)}
    new = [Param(key, value) for key, value in about.params.items() if key not in told.params]
    client.log_batch(run_id, params=new, tags=[RunTag(key, value) for key, value in tags.items()])
    name = Path(about.shards.rstrip("/")).name
    dataset = Dataset(name, about.digest[:36], "local", about.source, profile=about.profile)
    training = InputTag("mlflow.data.context", "training")
    client.log_inputs(run_id, [DatasetInput(dataset, [training])])
    write_atomic(run / MLFLOW_RUN_ID, run_id + "\n")
    return found.info


def begin_parent(name: str, about: str) -> str:
    """Begin an MLflow run under which others stand, by a tag of theirs. -> its id

    Raises:
        MlflowException: the server cannot be reached, or refuses.
    """
    client = mlflow_client()
    tags = {"mlflow.note.content": about}
    return client.create_run(_experiment(client), run_name=name, tags=tags).info.run_id


def end_parent(run_id: str, tags: dict[str, str], metrics: dict[str, float]) -> None:
    """Tell what came out of the runs under an MLflow run, and end it; as failed, where nothing did."""
    client = mlflow_client()
    for key, value in tags.items():
        client.set_tag(run_id, key, value)
    for key, value in metrics.items():
        client.log_metric(run_id, key, value)
    client.set_terminated(run_id, "FINISHED" if metrics else "FAILED")


def ended_under(parent: str) -> set[str]:
    """The ids of MLflow runs under another one that were told all, for only then are they ended as finished.

    Those that somebody has deleted are among them: nobody wants them told again.
    """
    from mlflow.entities import ViewType

    client = mlflow_client()
    found = every(
        client.search_runs,
        experiment_ids=[client.get_run(parent).info.experiment_id],
        filter_string=f"tags.`{PARENT}` = '{parent}' and attributes.status = 'FINISHED'",
        run_view_type=ViewType.ALL,
    )
    return {run.info.run_id for run in found}


def page_of(address: str, info: "RunInfo") -> str | None:
    """Where people see an MLflow run, without the password of the address; None where that is no server."""
    if not address.startswith("http"):
        return None
    page = f"{address.rstrip('/')}/#/experiments/{info.experiment_id}/runs/{info.run_id}"
    return f"MLflow: {printable(page).replace('***@', '')}"


def last_steps(client: "MlflowClient", run_id: str) -> dict[str, int]:
    """Of each metric, the last step that MLflow has."""
    return {metric.key: metric.step for metric in client.get_run(run_id).data.to_proto().metrics}


def _find(run: Path, client: "MlflowClient") -> "Run | None":
    from mlflow.exceptions import MlflowException

    run_id = run_id_of(run)
    if run_id is None:
        return None
    try:
        found = client.get_run(run_id)
    except MlflowException as error:
        # Unknown here: it was begun on another server, so one is begun here. Anything else is an error.
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    if found.info.lifecycle_stage == "deleted":
        raise InputError(
            f"its run {run_id} is deleted there. Restore it (`mlflow runs restore --run-id {run_id}`), or "
            f"remove {run / MLFLOW_RUN_ID} and {run / MLFLOW_KEY} for a new one"
        )
    return found


def _begin(run: Path, client: "MlflowClient", about: About) -> "Run":
    """Begin the MLflow run of a folder's key, or find it where it was begun already."""
    experiment_id = _experiment(client)
    create(run / MLFLOW_KEY, secrets.token_hex(16) + "\n")
    key = (run / MLFLOW_KEY).read_text(encoding="utf-8").strip()
    if begun := client.search_runs([experiment_id], f"tags.`{KEY_TAG}` = '{key}'"):
        return begun[0]
    tags = {KEY_TAG: key, "mlflow.note.content": about.description}
    return client.create_run(experiment_id, run_name=run.resolve().name, tags=tags)


def _experiment(client: "MlflowClient") -> str:
    """The id of the experiment of our runs."""
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    experiment = client.get_experiment_by_name(name)
    return experiment.experiment_id if experiment else client.create_experiment(name)


def _is_of_another_config(found: "Run", params: dict[str, str]) -> bool:
    """Whether a run was begun with other parameters than those that may change when it is resumed."""
    begun = {key: found.data.params.get(key, value) for key, value in params.items()}
    return any(begun[key] != params[key] for key in params.keys() - RunConfig.model_fields.keys())


def _changed(params: dict[str, str], told: dict[str, str], tags: dict[str, str]) -> dict[str, str]:
    """Tags of the parameters that are not what MLflow was told first: it lets nobody change one."""
    return {
        NOW + key: value
        for key, value in params.items()
        if told.get(key, value) != value or NOW + key in tags
    }


def log_evaluation(
    run: Path, scores: dict[str, float], step: int, tags: dict[str, str], *artifacts: Path
) -> None:
    """Add the scores of the snapshot of a step on the test split, tags, and files or folders, to MLflow.

    A score that is there already is not added again.

    Raises:
        InputError: the run is not in MLflow, or that cannot be reached.
    """
    from mlflow.entities import Metric, RunTag
    from mlflow.exceptions import MlflowException

    run_id = needed_run_id(run)
    now = time.time_ns() // 1_000_000
    try:
        client = mlflow_client()
        proto = client.get_run(run_id).data.to_proto()
        there = {(metric.key, metric.step): metric.value for metric in proto.metrics}
        metrics = [Metric(f"test/{key}", value, now, step) for key, value in scores.items()]
        new = [each for each in metrics if there.get((each.key, step)) != each.value]
        client.log_batch(run_id, metrics=new, tags=[RunTag(key, value) for key, value in tags.items()])
        for path in artifacts:
            if path.is_dir():
                client.log_artifacts(run_id, str(path), path.name)
            else:
                client.log_artifact(run_id, str(path))
    except MlflowException as error:
        raise InputError(
            f"{named(tracking_uri())} {cause(error)}. The scores are in {run}; run the same command again to "
            "add them there."
        ) from error
