"""Where the numbers of a run go: metrics.jsonl in its folder, and MLflow.

Rank 0 alone writes. The MLflow run is begun once, its id kept in the folder, and resumed with the training;
metrics are sent in batches, because one call costs as much as ten steps. What a killed run did not send is
sent from the file, and what it sent is not sent again. Plain client calls, no global active run: MLflow would
end that one as FINISHED however the program died.
"""

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..datasets.store.atomic import write_atomic
from .forgotten import TAG
from .run import METRICS_FILE, MLFLOW_RUN_ID

if TYPE_CHECKING:
    from mlflow import MlflowClient

SEND_EVERY = 10.0  # seconds
EXPERIMENT = "emojigan"


def mlflow_client() -> "MlflowClient":
    """A client of MLFLOW_TRACKING_URI; by default the file mlflow.db in the current folder."""
    os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{Path('mlflow.db').resolve()}")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow

    # Else every table of a new database is logged.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    return mlflow.MlflowClient()


class Tracker:
    """Writes metrics; made by `tracking`."""

    def __init__(self, run: Path, client: "MlflowClient", run_id: str) -> None:
        self.run_id = run_id
        self._client = client
        self._file = open(run / METRICS_FILE, "a", encoding="utf-8")  # noqa: SIM115, closed by `close`
        self._waiting: list = []
        self._sent = time.monotonic()
        self._known = {  # of each metric, the last step that MLflow has: it is sent no step twice
            name: max(metric.step for metric in client.get_metric_history(run_id, name))
            for name in client.get_run(run_id).data.metrics
        }
        for line in (run / METRICS_FILE).read_text(encoding="utf-8").splitlines():
            metrics = json.loads(line)
            self._queue(metrics.pop("step"), metrics)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Note some metrics of a step."""
        self._file.write(json.dumps({"step": step, **metrics}) + "\n")
        self._file.flush()
        self._queue(step, metrics)
        if time.monotonic() - self._sent > SEND_EVERY:
            self.send()

    def _queue(self, step: int, metrics: dict[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._waiting += [
            Metric(name, value, now, step)
            for name, value in metrics.items()
            if step > self._known.get(name, -1)
        ]

    def send(self) -> None:
        """Send what waits to MLflow."""
        for start in range(0, len(self._waiting), 1000):  # a call takes no more
            self._client.log_batch(self.run_id, metrics=self._waiting[start : start + 1000])
        self._waiting, self._sent = [], time.monotonic()

    def close(self, status: str) -> None:
        """Send the rest and end the MLflow run."""
        self._file.close()
        self.send()
        self._client.set_terminated(self.run_id, status)


@contextmanager
def tracking(
    run: Path, *, resumed_at: int, params: dict[str, str], tags: dict[str, str]
) -> Iterator[Tracker]:
    """Track a training from step `resumed_at` on; it ends FINISHED, or FAILED or KILLED with an error.

    Metrics of steps after `resumed_at` were made by a run that was killed, and come again: they are cut.
    """
    _cut_metrics(run / METRICS_FILE, resumed_at)
    client = mlflow_client()
    run_id = _open_run(run, client, params, tags, begins=resumed_at == 0)
    tracker = Tracker(run, client, run_id)
    try:
        yield tracker
    except BaseException as error:
        tracker.close("KILLED" if isinstance(error, KeyboardInterrupt | SystemExit) else "FAILED")
        raise
    tracker.close("FINISHED")


def run_id_of(run: Path) -> str | None:
    """The MLflow run of a run folder, when it has one."""
    path = run / MLFLOW_RUN_ID
    return path.read_text(encoding="utf-8").strip() if path.exists() else None


def _open_run(
    run: Path, client: "MlflowClient", params: dict[str, str], tags: dict[str, str], *, begins: bool
) -> str:
    from mlflow.entities import Param, RunTag
    from mlflow.exceptions import MlflowException

    run_tags = [RunTag(key, value) for key, value in tags.items()]
    if run_id := run_id_of(run):
        try:
            client.update_run(run_id, status="RUNNING")
            if begins and TAG in client.get_run(run_id).data.tags:
                client.delete_tag(run_id, TAG)  # it is of a training that is no more
            client.log_batch(run_id, tags=run_tags)
            return run_id
        except MlflowException as error:
            # Unknown here: it was begun on another server, so one is begun here. Anything else is an error.
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    experiment = client.get_experiment_by_name(name)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(name)
    run_id = client.create_run(experiment_id, run_name=run.name).info.run_id
    client.log_batch(run_id, params=[Param(key, value) for key, value in params.items()], tags=run_tags)
    write_atomic(run / MLFLOW_RUN_ID, run_id + "\n")
    return run_id


def _cut_metrics(path: Path, step: int) -> None:
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    write_atomic(path, "".join(kept))


def log_evaluation(run: Path, scores: dict[str, float], tags: dict[str, str], *artifacts: Path) -> None:
    """Add the scores on the test split, tags, and files or folders, to the MLflow run of a training."""
    from mlflow.entities import Metric, RunTag

    run_id = run_id_of(run)
    assert run_id is not None, f"{run} was trained without MLflow"
    client = mlflow_client()
    now = int(time.time() * 1000)
    client.log_batch(
        run_id,
        metrics=[Metric(f"test/{key}", value, now, 0) for key, value in scores.items()],
        tags=[RunTag(key, value) for key, value in tags.items()],
    )
    for path in artifacts:
        if path.is_dir():
            client.log_artifacts(run_id, str(path), path.name)
        else:
            client.log_artifact(run_id, str(path))
