"""A model's life where everything asks for a password: PostgreSQL, Ceph's gateway, MLflow's basic-auth."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import fsspec
import mlflow
import pytest

from emojigan.trainer.tracking.mlflow_run import run_id_of

from ...conftest import TINY_NETWORKS
from ...stores import postgresql
from ..tracking.faulty_server import mlflow_server
from .server.serving import serving
from .test_registry import changed, command, sharpened, told

TRAINING = ["--steps", "70", "--learning-rate", "0.01", *TINY_NETWORKS]
EVALUATION = ["--baseline-steps", "4", "--baselines", "classifier"]


@pytest.mark.soak
def test_a_model_lives_on_servers_with_passwords(
    shards: Path,
    vectors_file: Path,
    posts_folder: Path,
    ceph: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """Trained from a store, evaluated, judged, promoted, rolled back, asked, served; and a run goes away."""
    store = fsspec.filesystem("s3")
    store.put(f"{shards}/", "bucket/shards/", recursive=True)
    password = "a long password"
    monkeypatch.setenv("MLFLOW_FLASK_SERVER_SECRET_KEY", "secret")
    monkeypatch.setenv("MLFLOW_AUTH_ADMIN_PASSWORD", password)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    options = ["--app-name", "basic-auth"]
    photo = posts_folder / "images" / "0.png"
    with postgresql() as database, mlflow_server(tmp_path, database, "s3://bucket/mlflow", options) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
        mlflow.set_tracking_uri(server.address)
        good, little = tmp_path / "runs" / "good", tmp_path / "runs" / "little"
        words = ["train", "s3://bucket/shards", "--vectors", vectors_file, "--cache", tmp_path / "cache"]
        told(*words, "--out", good, *TRAINING)
        told("evaluate", good, *EVALUATION)
        worse, worst = changed(good, "worse", sharpened(0.5)), changed(good, "worst", sharpened(0.25))

        assert "it is the champion" in told("register", worse, "--name", "life")
        assert "it is the champion" in told("register", good, "--name", "life")
        assert "it stays challenger" in told("register", worst, "--name", "life")
        with serving("models:/life@champion", "--reload-seconds", "0.2", folder=tmp_path) as served:
            assert version_served(served.address) == "2"
            told("models", "rollback", "life", "--reason", "to see whether it can")
            wait_for(lambda: version_served(served.address) == "1")
            told("models", "promote", "life/2", "--reason", "it is the better one")
            wait_for(lambda: version_served(served.address) == "2")
        before = json.loads(told("predict", "models:/life@champion", photo, "--json"))

        told(*words, "--out", little, *TRAINING, "--seed", "1")
        run_id = run_id_of(little)
        mlflow.MlflowClient().delete_run(run_id)
        gc = ["gc", "--backend-store-uri", database, "--run-ids", run_id]
        subprocess.run([sys.executable, "-m", "mlflow", *gc], check=True, env={**os.environ})
        assert command("register", little, "--name", "life").exit_code == 2  # it was not evaluated
        assert json.loads(told("predict", "models:/life@champion", photo, "--json")) == before
        assert [row.split()[1] for row in told("models", "list", "life").splitlines()[1:]] == [
            "former",
            "champion",
            "challenger",
        ]


def version_served(address: str) -> str:
    with urllib.request.urlopen(f"{address}/v1/model", timeout=30) as answer:
        return json.load(answer)["version"]


def wait_for(holds) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)
