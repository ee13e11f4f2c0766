"""The numbers of a run reach its folder and MLflow, once, and the MLflow run ends as the training did."""

import json
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run

from emojigan.trainer import tracking as module
from emojigan.trainer.tracking import Tracker, run_id_of, tracking


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def client(database: str, monkeypatch: pytest.MonkeyPatch) -> mlflow.MlflowClient:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return module.mlflow_client()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


def track(run: Path, steps: range, fail: Callable[[Tracker], None] = lambda _: None) -> None:
    """A training of some steps whose metrics tell the step."""
    start = steps.start - 1
    with tracking(run, resumed_at=start, params={"k": "10"}, tags={"dataset": "abc"}) as tracker:
        for step in steps:
            tracker.log(step, {"train/loss": step / 2})
            if step % 5 == 0:
                tracker.log(step, {"val/nll": 10 - step})
        fail(tracker)


def of(run: Path, client: mlflow.MlflowClient) -> Run:
    run_id = run_id_of(run)
    assert run_id
    return client.get_run(run_id)


def in_file(run: Path, name: str) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line[name]) for line in lines if name in line]


def in_mlflow(run: Path, client: mlflow.MlflowClient, name: str) -> list[tuple[int, float]]:
    run_id = run_id_of(run)
    assert run_id
    return [(metric.step, metric.value) for metric in client.get_metric_history(run_id, name)]


def raising(error: BaseException) -> Callable[[Tracker], None]:
    def fail(_: Tracker) -> None:
        raise error

    return fail


def killed(tracker: Tracker) -> None:
    """Leaves as a killed process would: nothing waiting is sent, and nobody ends the run."""
    tracker.close = lambda status: tracker._file.close()
    raise KeyboardInterrupt


def test_a_training_that_ends_is_finished(run: Path, client: mlflow.MlflowClient):
    track(run, range(1, 4))
    assert of(run, client).info.status == "FINISHED"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("broken"), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(143), "KILLED"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_an_exception_ends_the_run_by_its_kind(
    run: Path, client: mlflow.MlflowClient, error: BaseException, status: str
):
    with pytest.raises(type(error)):
        track(run, range(1, 4), raising(error))
    assert of(run, client).info.status == status
    assert in_mlflow(run, client, "train/loss") == in_file(run, "train/loss")


def test_mlflow_has_the_metrics_of_the_file(run: Path, client: mlflow.MlflowClient):
    track(run, range(1, 11))
    assert in_file(run, "train/loss") == [(step, step / 2) for step in range(1, 11)]
    assert in_file(run, "val/nll") == [(5, 5), (10, 0)]
    for name in ("train/loss", "val/nll"):
        assert in_mlflow(run, client, name) == in_file(run, name)


def test_mlflow_has_parameters_and_tags(run: Path, client: mlflow.MlflowClient):
    track(run, range(1, 2))
    assert of(run, client).data.params == {"k": "10"}
    assert of(run, client).data.tags["dataset"] == "abc"
    assert of(run, client).info.run_name == "run"


def test_metrics_are_sent_while_training(
    run: Path, client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "SEND_EVERY", 0)
    with pytest.raises(KeyboardInterrupt):
        track(run, range(1, 4), killed)
    assert in_mlflow(run, client, "train/loss") == [(1, 0.5), (2, 1), (3, 1.5)]


def test_more_metrics_than_one_call_takes_are_all_sent(run: Path, client: mlflow.MlflowClient):
    track(run, range(1, 1502))
    assert in_mlflow(run, client, "train/loss") == in_file(run, "train/loss")


def test_a_resumed_training_goes_on_in_its_mlflow_run(run: Path, client: mlflow.MlflowClient):
    with pytest.raises(KeyboardInterrupt):
        track(run, range(1, 4), raising(KeyboardInterrupt()))
    before = of(run, client)
    track(run, range(4, 6))
    after = of(run, client)
    assert before.info.run_id == after.info.run_id
    assert (before.info.status, after.info.status) == ("KILLED", "FINISHED")
    assert in_mlflow(run, client, "train/loss") == [(step, step / 2) for step in range(1, 6)]


def test_a_resumed_training_is_running(run: Path, client: mlflow.MlflowClient):
    track(run, range(1, 2))
    seen = []
    track(run, range(2, 3), lambda _: seen.append(of(run, client).info.status))
    assert seen == ["RUNNING"]


def test_metrics_after_the_checkpoint_are_cut_from_the_file_and_come_again(
    run: Path, client: mlflow.MlflowClient
):
    with pytest.raises(KeyboardInterrupt):
        track(run, range(1, 10), killed)
    track(run, range(7, 12))
    assert in_file(run, "train/loss") == [(step, step / 2) for step in range(1, 12)]


def test_a_line_that_was_half_written_is_cut(run: Path, client: mlflow.MlflowClient):
    track(run, range(1, 3))
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 2, "train/lo')
    track(run, range(3, 4))
    assert in_file(run, "train/loss") == [(1, 0.5), (2, 1), (3, 1.5)]


@pytest.mark.parametrize("every", [0, 1000], ids=["all sent", "none sent"])
def test_a_killed_and_resumed_training_has_every_metric_once_in_mlflow(
    run: Path, client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch, every: int
):
    monkeypatch.setattr(module, "SEND_EVERY", every)
    with pytest.raises(KeyboardInterrupt):
        track(run, range(1, 10), killed)
    track(run, range(7, 12))
    for name in ("train/loss", "val/nll"):
        assert in_mlflow(run, client, name) == in_file(run, name)


def test_another_server_gets_a_new_run_with_all_metrics(
    run: Path, client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
):
    track(run, range(1, 4))
    (run / "mlflow_run_id").write_text("0" * 32 + "\n")  # of a server that is no more
    track(run, range(4, 6))
    assert run_id_of(run) != "0" * 32
    assert in_mlflow(run, client, "train/loss") == [(step, step / 2) for step in range(1, 6)]


def test_the_environment_names_the_experiment(
    run: Path, client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "other")
    track(run, range(1, 2))
    experiment = client.get_experiment_by_name("other")
    assert experiment and of(run, client).info.experiment_id == experiment.experiment_id


def test_mlflow_has_no_global_run_that_it_would_end_as_finished(run: Path, client: mlflow.MlflowClient):
    seen = []
    track(run, range(1, 2), lambda _: seen.append(mlflow.active_run()))
    assert seen == [None]


def test_a_new_database_is_made_in_silence(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'new.db'}")
    track(run, range(1, 2))
    assert capfd.readouterr() == ("", "")


def test_by_default_mlflow_is_a_file_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    module.mlflow_client()
    assert mlflow.get_tracking_uri() == f"sqlite:///{tmp_path / 'mlflow.db'}"
