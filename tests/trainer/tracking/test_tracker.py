"""The numbers of a run reach its folder and MLflow, once, and the MLflow run ends as the training did."""

import getpass
import json
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run

from emojigan.datasets.errors import InputError
from emojigan.trainer.tracking import delivery
from emojigan.trainer.tracking import tracker as module
from emojigan.trainer.tracking.about import About, _param, of_this_start
from emojigan.trainer.tracking.delivery import Delivery
from emojigan.trainer.tracking.mlflow_run import log_evaluation, run_id_of
from emojigan.trainer.tracking.server import mlflow_client
from emojigan.trainer.tracking.tracker import SIGNS, Tracker, tracking


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def client(database: str, monkeypatch: pytest.MonkeyPatch) -> mlflow.MlflowClient:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return mlflow_client()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


def about(**params: object) -> About:
    """What is told of a training."""
    return About(
        params={key: str(value) for key, value in ({"k": 10} | params).items()},
        tags={"dataset": "abc"},
        description="A training of a test.",
        shards="/data/shards",
        digest="5" * 64,
        tuples=300,
    )


def track(
    run: Path, steps: range, fail: Callable[[Tracker], None] = lambda _: None, of_run: About | None = None
) -> None:
    """A training of some steps whose metrics tell the step."""
    with tracking(run, of_run or about(), delivery.start_courier(), resumed_at=steps.start - 1) as tracker:
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


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def track_and_be_killed(run: Path, steps: range, fail: Callable[[Tracker], None] = lambda _: None) -> None:
    """The same, left as a killed process would leave it: nothing waiting is sent, and nobody ends the run."""

    def leave(left: Delivery, *_: object) -> None:
        with left._process:
            left._process.kill()
            left._listener.join()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Delivery, "end", leave)
        track(run, steps, fail)


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


def test_what_a_training_says_of_itself_is_a_tag(run: Path, client: mlflow.MlflowClient):
    track(run, range(1, 2), lambda tracker: tracker.tag(SIGNS, "diverges"))
    assert of(run, client).data.tags["emojigan.signs"] == "diverges"


def test_metrics_are_sent_while_training(
    run: Path, client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(delivery, "SEND_EVERY", 0.01)
    track(run, range(1, 4), lambda _: until(lambda: len(in_mlflow(run, client, "train/loss")) == 3))


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
    track_and_be_killed(run, range(1, 10))
    track(run, range(7, 12))
    assert in_file(run, "train/loss") == [(step, step / 2) for step in range(1, 12)]


def test_a_line_that_was_half_written_is_cut(run: Path, client: mlflow.MlflowClient):
    track(run, range(1, 3))
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 2, "train/lo')
    track(run, range(3, 4))
    assert in_file(run, "train/loss") == [(1, 0.5), (2, 1), (3, 1.5)]


@pytest.mark.parametrize("every", [0.01, 1000], ids=["all sent", "none sent"])
def test_a_killed_and_resumed_training_has_every_metric_once_in_mlflow(
    run: Path, client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch, every: float
):
    monkeypatch.setattr(delivery, "SEND_EVERY", every)
    sent = 9 if every < 1 else 0
    track_and_be_killed(
        run, range(1, 10), lambda _: until(lambda: len(in_mlflow(run, client, "train/loss")) == sent)
    )
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
    mlflow_client()
    assert mlflow.get_tracking_uri() == f"sqlite:///{tmp_path / 'mlflow.db'}"


def test_damaged_lines_are_told_in_one_line(
    run: Path, client: mlflow.MlflowClient, capfd: pytest.CaptureFixture[str]
):
    track(run, range(1, 3))
    with open(run / "metrics.jsonl", "ab") as file:
        file.write(b"\0\0\0\nnull\n\n")
    track(run, range(3, 4))
    assert in_mlflow(run, client, "train/loss") == in_file(run, "train/loss") == [(1, 0.5), (2, 1), (3, 1.5)]
    assert capfd.readouterr() == ("", f"{run / 'metrics.jsonl'}: 3 damaged line(s) are dropped.\n")


def test_mlflow_has_the_times_of_the_file(run: Path, client: mlflow.MlflowClient):
    track(run, range(1, 4))
    times = [json.loads(line)["time"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    history = client.get_metric_history(of(run, client).info.run_id, "train/loss")
    assert [metric.timestamp for metric in history] == times


def test_mlflow_knows_the_dataset_and_who_started_the_training_where(
    run: Path, client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sys.argv", ["/usr/bin/emojigan", "train", "s3://key:secret@bucket/my shards"])
    for steps in (range(1, 2), range(2, 3)):
        track(run, steps)
    found = of(run, client)
    (dataset,) = found.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("shards", "5" * 36)
    assert json.loads(dataset.dataset.source) == {"uri": "/data/shards"}
    tags = found.data.tags
    assert tags["mlflow.source.name"] == "emojigan train 's3://***@bucket/my shards'"
    assert tags["mlflow.note.content"] == "A training of a test."
    assert tags["mlflow.user"] == getpass.getuser() and tags["host"] == socket.gethostname()


def test_mlflow_knows_the_revision_of_the_code(run: Path, client: mlflow.MlflowClient):
    track(run, range(1, 2))
    here = Path(__file__).parent
    if not (revision := git(here, "rev-parse", "HEAD")):
        pytest.skip("not a checkout")
    assert of(run, client).data.tags["mlflow.source.git.commit"] == revision


def test_code_that_is_no_part_of_the_checkout_around_it_has_no_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=a", "commit", "--quiet", "--allow-empty", "-m", "a")
    assert git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "about.py").touch()
    monkeypatch.setattr("emojigan.trainer.tracking.about.__file__", str(tmp_path / "about.py"))
    assert "mlflow.source.git.commit" not in of_this_start()


def test_a_parameter_that_mlflow_would_cut_is_told_by_its_hash():
    assert _param(["😂"] * 3) == "['😂', '😂', '😂']"
    one, other = (_param([*["😂"] * 3000, last]) for last in "🔥🌊")
    assert len(one) == len(other) == len("sha256:") + 64 and one != other


def git(folder: Path, *words: str) -> str:
    return subprocess.run(
        ["git", "-C", folder, *words], capture_output=True, text=True, check=False
    ).stdout.strip()


def test_what_may_change_when_a_training_is_resumed_is_told_as_it_is_now(
    run: Path, client: mlflow.MlflowClient
):
    track(run, range(1, 2), of_run=about(checkpoint_steps=100))
    track(run, range(2, 3), of_run=about(checkpoint_steps=50, more=1))
    data = of(run, client).data
    assert data.params == {"k": "10", "checkpoint_steps": "100", "more": "1"}
    assert data.tags["now.checkpoint_steps"] == "50" and "now.k" not in data.tags
    track(run, range(3, 4), of_run=about(checkpoint_steps=100))
    assert of(run, client).data.tags["now.checkpoint_steps"] == "100"


def test_a_training_that_begins_again_under_another_config_has_an_mlflow_run_of_its_own(
    run: Path, client: mlflow.MlflowClient
):
    track_and_be_killed(run, range(1, 4))
    before = of(run, client)
    track(run, range(1, 3), of_run=about(k=20))
    after = of(run, client)
    assert before.info.run_id != after.info.run_id
    assert client.get_run(before.info.run_id).info.status == "KILLED"
    assert after.data.params == {"k": "20"}
    assert in_mlflow(run, client, "train/loss") == in_file(run, "train/loss") == [(1, 0.5), (2, 1)]


def test_a_run_that_was_begun_but_whose_id_was_not_noted_is_found_again(
    run: Path, client: mlflow.MlflowClient
):
    track(run, range(1, 3))
    run_id = run_id_of(run)
    (run / "mlflow_run_id").unlink()
    track(run, range(3, 4))
    assert run_id_of(run) == run_id


def test_a_run_that_is_deleted_in_mlflow_is_told_with_the_way_out(
    run: Path, client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    track(run, range(1, 2))
    run_id = run_id_of(run)
    assert run_id
    client.delete_run(run_id)
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    track(run, range(2, 3))
    told = capfd.readouterr().err
    assert f"mlflow runs restore --run-id {run_id}" in told and "Traceback" not in told
    assert in_file(run, "train/loss") == [(1, 0.5), (2, 1)]


def test_the_scores_of_an_evaluation_are_there_once_at_the_step_of_the_snapshot(
    run: Path, client: mlflow.MlflowClient
):
    track(run, range(1, 8))
    for _ in range(2):
        log_evaluation(run, {"nll": 2.5}, 7, {"seen": "yes"})
    assert in_mlflow(run, client, "test/nll") == [(7, 2.5)]
    log_evaluation(run, {"nll": 2.25}, 7, {})  # after people were forgotten
    assert sorted(in_mlflow(run, client, "test/nll")) == [(7, 2.25), (7, 2.5)]


def test_an_evaluation_of_a_run_that_mlflow_does_not_have_says_what_to_do(run: Path):
    with pytest.raises(InputError, match=r"run its `emojigan train` again"):
        log_evaluation(run, {"nll": 2.5}, 7, {})
