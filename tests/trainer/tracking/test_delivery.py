"""Whatever a real MLflow server does, the training goes on, and in the end MLflow has every metric once."""

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr
from itertools import count
from pathlib import Path

import mlflow
import psutil
import pytest

from emojigan.trainer.tracking import delivery, tracker
from emojigan.trainer.tracking.about import About
from emojigan.trainer.tracking.mlflow_run import run_id_of
from emojigan.trainer.tracking.server import mlflow_client
from emojigan.trainer.tracking.tracker import tracking

from ...conftest import TINY_NETWORKS
from ...stores import free_port, postgresql
from .faulty_server import FAULTS, MlflowServer, Proxy, mlflow_server, proxy

ABOUT = About({"k": "10"}, {"dataset": "abc"}, "A training of a test.", "/data/shards", "5" * 64, 300)
FOREVER = 10_000.0  # seconds: who waits so long does not end


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.soak)])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MlflowServer]:
    with ExitStack() as stack:
        store = stack.enter_context(postgresql()) if request.param == "postgresql" else ""
        yield stack.enter_context(mlflow_server(tmp_path_factory.mktemp("server"), store))


@pytest.fixture
def between(server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """What the training takes for its server. It is tried again at once, and is given up after a second."""
    with proxy(server) as running:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", running.address)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        monkeypatch.setattr(delivery, "SEND_EVERY", 0.01)
        monkeypatch.setattr(delivery, "LONGEST_PAUSE", 0.01)
        yield running
        running.fault, running.delay = "", 0
        for thread in threading.enumerate():  # of a training that gave it up: it would end with its process
            if thread.name == "courier":
                thread.join()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


@contextmanager
def telling(tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Yields what was written to stderr so far; from a file, for capfd may lose what a thread writes.

    It is no fixture, because pytest sets stderr anew between those and the test.
    """
    path = tmp_path / "stderr"
    with open(path, "w", buffering=1) as file, redirect_stderr(file):
        yield path.read_text


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def in_file(run: Path, name: str = "loss") -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line[name]) for line in lines if name in line]


def in_mlflow(run: Path, server: MlflowServer, name: str = "loss") -> list[tuple[int, float]]:
    """Those of the only run of this folder."""
    client = mlflow.MlflowClient(server.address)
    key = (run / "mlflow_key").read_text().strip()
    experiments = [each.experiment_id for each in client.search_experiments()]
    (found,) = client.search_runs(experiments, f"tags.`emojigan.run` = '{key}'")
    assert found.info.run_id == run_id_of(run)
    return [(each.step, each.value) for each in client.get_metric_history(found.info.run_id, name)]


def status(run: Path, server: MlflowServer) -> str:
    run_id = run_id_of(run)
    assert run_id
    return mlflow.MlflowClient(server.address).get_run(run_id).info.status


def test_each_fault_and_its_end_are_told_in_a_line_and_every_metric_arrives_once(
    run: Path,
    server: MlflowServer,
    between: Proxy,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
):
    with telling(tmp_path) as told, tracking(run, ABOUT, delivery.start_courier(), resumed_at=0) as tracker:
        for step, fault in enumerate((*FAULTS, *FAULTS), start=1):
            between.fault = fault
            asked = between.asked
            tracker.log(step, {"loss": step / 2})
            until(lambda: told().endswith("metrics.jsonl.\n"))
            until(lambda asked=asked: between.asked > asked + 2)  # it is tried again, in silence
            between.fault = ""
            until(lambda: told().endswith(" answers again.\n"))
    assert in_mlflow(run, server) == in_file(run) == [(n, n / 2) for n in range(1, 2 * len(FAULTS) + 1)]
    assert status(run, server) == "FINISHED"
    lines = told().splitlines()
    page = rf"MLflow: http://127.0.0.1:{between.server_port}/#/experiments/\d+/runs/{run_id_of(run)}\n"
    out, err = capfd.readouterr()
    assert re.fullmatch(page, out) and not err  # it is told once
    assert all(line.startswith(f"MLflow at http://***@127.0.0.1:{between.server_port} ") for line in lines)
    assert [line.endswith(" answers again.") for line in lines] == [False, True] * (2 * len(FAULTS))


def test_what_arrived_though_its_answer_did_not_is_not_sent_twice(
    run: Path, server: MlflowServer, between: Proxy
):
    between.fault = "loses answers"
    with tracking(run, ABOUT, delivery.start_courier(), resumed_at=0) as tracker:
        for step in range(1, 20):
            tracker.log(step, {"loss": step / 2})
            asked = between.asked
            until(lambda asked=asked: between.asked > asked)
            between.fault = "" if step % 3 else "loses answers"
    assert in_mlflow(run, server) == in_file(run)


def test_a_training_does_not_wait_for_a_server_that_never_answers(
    run: Path, between: Proxy, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", str(int(FOREVER)))
    monkeypatch.setattr(tracker, "PATIENCE", 0.1)
    between.fault = "never answers"
    with tracking(run, ABOUT, delivery.start_courier(), resumed_at=0) as tracked:
        for step in range(1, 1001):
            tracked.log(step, {"loss": step / 2})
    assert len(in_file(run)) == 1000 and between.asked <= 1
    told = capfd.readouterr().err
    assert told.count("\n") == 1 and "run the same command again" in told


@pytest.mark.parametrize("fault", ["never answers", "500"])
def test_an_interrupt_does_not_wait_for_a_server_either(
    run: Path, between: Proxy, fault: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", str(int(FOREVER)))
    monkeypatch.setattr(tracker, "PATIENCE", FOREVER)
    monkeypatch.setattr(tracker, "HASTE", 0.1)
    between.fault = fault
    with (
        pytest.raises(KeyboardInterrupt),
        tracking(run, ABOUT, delivery.start_courier(), resumed_at=0) as tracked,
    ):
        tracked.log(1, {"loss": 1})
        raise KeyboardInterrupt


@pytest.mark.parametrize("fault", [*FAULTS, "absent"])
def test_a_run_that_ended_without_a_server_is_delivered_when_it_is_started_again(
    run: Path, server: MlflowServer, between: Proxy, fault: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tracker, "PATIENCE", 0.1)
    between.fault = fault
    if fault == "absent":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    with tracking(run, ABOUT, delivery.start_courier(), resumed_at=0) as tracked:
        for step in range(1, 6):
            tracked.log(step, {"loss": step / 2})
    assert run_id_of(run) is None
    for thread in threading.enumerate():  # with its process it would have ended
        if thread.name == "courier":
            thread.join()
    between.fault = ""
    monkeypatch.undo()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", between.address)
    with tracking(run, ABOUT, delivery.start_courier(), resumed_at=5):
        pass
    assert in_mlflow(run, server) == in_file(run) == [(step, step / 2) for step in range(1, 6)]
    assert status(run, server) == "FINISHED"


@pytest.mark.parametrize("delay", [0.3, 1.5], ids=["within", "beyond the patience of the client"])
def test_a_server_whose_answers_are_late_gets_every_metric_once(
    run: Path, server: MlflowServer, between: Proxy, delay: float, tmp_path: Path
):
    """What was given up arrives all the same, maybe later than what is sent after it."""
    with telling(tmp_path) as told, tracking(run, ABOUT, delivery.start_courier(), resumed_at=0) as tracker:
        tracker.log(1, {"loss": 0.5})
        until(lambda: run_id_of(run) and in_mlflow(run, server))
        between.delay = delay
        for step in range(2, 20):
            tracker.log(step, {"loss": step / 2})
            time.sleep(delay / 16)
        until(lambda: "does not answer" in told() or delay < 1)
        between.delay = 0
    time.sleep(delay)  # for what is on its way
    assert in_mlflow(run, server) == in_file(run) == [(step, step / 2) for step in range(1, 20)]
    assert status(run, server) == "FINISHED"


def test_a_frozen_server_gets_every_metric_once_when_it_thaws(
    run: Path, server: MlflowServer, between: Proxy, tmp_path: Path
):
    with telling(tmp_path) as told, tracking(run, ABOUT, delivery.start_courier(), resumed_at=0) as tracker:
        tracker.log(1, {"loss": 0.5})
        until(lambda: run_id_of(run) and in_mlflow(run, server))
        server.signal(signal.SIGSTOP)
        try:
            for step in range(2, 20):
                tracker.log(step, {"loss": step / 2})
            until(lambda: "does not answer" in told())
        finally:
            server.signal(signal.SIGCONT)
    assert in_mlflow(run, server) == in_file(run)


def couriers(of: int) -> list[psutil.Process]:
    return [each for each in psutil.Process(of).children() if "courier" in " ".join(each.cmdline())]


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, a_real_courier: None) -> str:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    return os.environ["MLFLOW_TRACKING_URI"]


def test_a_process_of_its_own_delivers_and_is_gone_at_the_end(run: Path, database: str):
    with tracking(run, ABOUT, delivery.start_courier(), resumed_at=0) as tracked:
        assert len(couriers(os.getpid())) == 1
        tracked.log(1, {"loss": 0.5})
    assert not couriers(os.getpid())
    run_id = run_id_of(run)
    assert run_id
    found = mlflow.MlflowClient(database).get_run(run_id)
    assert found.info.status == "FINISHED" and found.data.metrics == {"loss": 0.5}


def test_a_courier_that_is_killed_is_told_and_the_next_start_delivers(
    run: Path, database: str, capfd: pytest.CaptureFixture[str]
):
    with tracking(run, ABOUT, delivery.start_courier(), resumed_at=0) as tracked:
        (courier,) = couriers(os.getpid())
        courier.kill()
        tracked.log(1, {"loss": 0.5})
        tracked.tag("seen", "yes")
    told = capfd.readouterr().err
    assert "its courier ended (-9)" in told and "run the same command again" in told
    with tracking(run, ABOUT, delivery.start_courier(), resumed_at=1):
        pass
    assert [(step, value) for step, value in in_file(run)] == [(1, 0.5)]
    run_id = run_id_of(run)
    assert run_id and mlflow.MlflowClient(database).get_run(run_id).data.metrics == {"loss": 0.5}


def test_a_courier_whose_training_refuses_to_begin_ends_in_silence(
    a_real_courier: None, capfd: pytest.CaptureFixture[str]
):
    with delivery.start_courier() as process:
        assert process.stdin
        process.stdin.close()
        assert process.wait(60) == 0
    assert capfd.readouterr().err == ""


HANGING = """
import signal, sys
from pathlib import Path
from emojigan.trainer.tracking.about import About
from emojigan.trainer.tracking.delivery import start_courier
from emojigan.trainer.tracking.tracker import tracking
about = About({}, {}, "A training of a test.", "/data/shards", "5" * 64, 300)
with tracking(Path(sys.argv[1]), about, start_courier(), resumed_at=0):
    print("trains", flush=True)
    signal.pause()
"""


@pytest.mark.parametrize("fault", ["", "never answers"])
def test_a_courier_is_gone_soon_after_its_training_was_killed(run: Path, between: Proxy, fault: str):
    between.fault = fault
    command = [sys.executable, "-c", HANGING, str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as training:
        assert training.stdout and training.stdout.readline() == "trains\n"
        (courier,) = couriers(training.pid)
        until(lambda: between.asked)
        training.kill()
        courier.wait(5)


@pytest.mark.soak  # MLflow waits for 20 s before it says so
def test_a_locked_database_gets_every_metric_once_when_it_is_let_go(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setattr(delivery, "SEND_EVERY", 0.01)
    monkeypatch.setattr(delivery, "LONGEST_PAUSE", 0.01)
    with telling(tmp_path) as told, tracking(run, ABOUT, delivery.start_courier(), resumed_at=0) as tracker:
        tracker.log(1, {"loss": 0.5})
        other = sqlite3.connect(tmp_path / "mlflow.db")
        other.execute("BEGIN EXCLUSIVE")
        for step in range(2, 20):
            tracker.log(step, {"loss": step / 2})
        until(lambda: "locked" in told())
        other.rollback()
        other.close()
    run_id = run_id_of(run)
    assert run_id
    history = mlflow_client().get_metric_history(run_id, "loss")
    assert [(each.step, each.value) for each in history] == in_file(run)
    assert [line.endswith("answers again.") for line in told().splitlines()] == [False, True]


def test_a_new_database_may_be_opened_by_several_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'new.db'}")
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(mlflow_client().search_experiments())) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.db"]


@pytest.mark.soak
def test_a_server_that_is_killed_and_started_again_gets_every_metric_once(
    run: Path, server: MlflowServer, between: Proxy
):
    done = threading.Event()

    def attack() -> None:
        choose = random.Random(0)
        for _ in range(6):
            time.sleep(choose.uniform(0.1, 2))
            server.kill()
            time.sleep(choose.uniform(0, 3))
            server.start()
        done.set()

    attacker = threading.Thread(target=attack)
    attacker.start()
    with tracking(run, ABOUT, delivery.start_courier(), resumed_at=0) as tracker:
        step = 0
        while not done.is_set():
            step += 1
            tracker.log(step, {"loss": step / 2})
            time.sleep(0.01)
    attacker.join()
    assert in_mlflow(run, server) == in_file(run)
    assert status(run, server) == "FINISHED"


EAGER = """
from emojigan.launch.cli import main
from emojigan.trainer.tracking import delivery
delivery.SEND_EVERY = delivery.LONGEST_PAUSE = 0.2
main()
"""


def attacks(server: MlflowServer, between: Proxy) -> Iterator[None]:
    """One thing after another that servers do, for ever; yields when all is well again."""
    for turn in count():
        kind = ("killed", "frozen", "slow", *FAULTS)[turn % (3 + len(FAULTS))]
        if kind == "killed":
            server.kill()
            server.start()
        elif kind == "frozen":
            server.signal(signal.SIGSTOP)
            time.sleep(3)
            server.signal(signal.SIGCONT)
        elif kind == "slow":
            between.delay = 2.5
            time.sleep(6)
            between.delay = 0
        else:
            between.fault = kind
            time.sleep(1)
            between.fault = ""
        yield


@pytest.mark.soak
def test_a_training_whose_server_is_killed_frozen_slow_and_refuses_has_every_metric_there_once(
    server: MlflowServer, between: Proxy, run: Path, shards: Path, vectors_file: Path
):
    words = ["train", str(shards), "--vectors", str(vectors_file), "--out", str(run), *TINY_NETWORKS]
    with subprocess.Popen(
        [sys.executable, "-c", EAGER, *words, "--steps", "2000", "--snapshot-steps", "500"],
        env={**os.environ, "MLFLOW_HTTP_REQUEST_TIMEOUT": "2"},
        text=True,
        stderr=subprocess.PIPE,
    ) as process:
        bad_days = attacks(server, between)
        while process.poll() is None:
            next(bad_days)
            time.sleep(1)
        assert process.returncode == 0 and process.stderr
        lines = [line for line in process.stderr if line.startswith("MLflow at ")]
    assert [line.endswith(" answers again.\n") for line in lines] == [False, True] * (len(lines) // 2)
    assert len(lines) > 4 and "s3cret" not in "".join(lines)
    for name in ("train/nll", "val/nll"):
        assert in_mlflow(run, server, name) == in_file(run, name)
    assert len(in_file(run, "train/nll")) == 2000
    assert status(run, server) == "FINISHED"
