"""What is registered is what was scored, and who is champion changes for a reason that is kept."""

import base64
import io
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests
import torch
from click.testing import CliRunner, Result
from PIL import Image

from emojigan.datasets.store.atomic import SUMS, is_whole, sha256
from emojigan.launch.cli import main
from emojigan.trainer.model.snapshot import GENERATOR, load_snapshot, save_snapshot
from emojigan.trainer.run import EVALUATION, SNAPSHOTS, steps_in
from emojigan.trainer.serving import register as registering
from emojigan.trainer.serving.load import SNAPSHOT_TAG, finding
from emojigan.trainer.serving.registry import GATE_TAG, find

from ...conftest import TINY_NETWORKS
from ...stores import free_port
from ..tracking.faulty_server import mlflow_server

ELSEWHERE = "EMOJIGAN_TEST_TRACKING_URI"  # of a server that is there already, to try all of this on
TRAINING = ["--steps", "70", "--learning-rate", "0.01", *TINY_NETWORKS]


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real server, of which this process is told."""
    with ExitStack() as stack:
        address = (
            os.environ.get(ELSEWHERE)
            or stack.enter_context(mlflow_server(tmp_path_factory.mktemp("server"))).address
        )
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("MLFLOW_TRACKING_URI", address)
        mlflow.set_tracking_uri(address)
        yield address


def command(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def told(*words: str | Path) -> str:
    """What a command prints that does what it is to do."""
    result = command(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def good(tracking: str, shards: Path, vectors_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that learned something."""
    run = tmp_path_factory.mktemp("runs") / "good"
    told("train", shards, "--vectors", vectors_file, "--out", run, *TRAINING)
    told("evaluate", run, "--baseline-steps", "4", "--baselines", "classifier")
    return run


def changed(run: Path, name: str, change: Callable[[torch.nn.Module], None]) -> Path:
    """The same run with another generator in its snapshot, as if it had been evaluated to the same scores."""
    other = shutil.copytree(run, run.with_name(name))
    (path,) = steps_in(other / SNAPSHOTS)
    snapshot = load_snapshot(path)
    with torch.no_grad():
        change(snapshot.generator)
    save_snapshot(path, snapshot.facts, snapshot.generator, snapshot.weights)
    edit(other, digest=sha256(path / SUMS))
    return other


def sharpened(by: float) -> Callable[[torch.nn.Module], None]:
    """Its answers nearer to uniform, or further from it."""
    return lambda generator: generator.output.weight.mul_(by)  # pyright: ignore


@pytest.fixture(scope="module")
def runs(good: Path) -> dict[str, Path]:
    """Beside a good one, one that is worse for sure, and one that is as good."""
    worse, level = changed(good, "worse", sharpened(0.25)), changed(good, "level", sharpened(1.001))
    return {"good": good, "worse": worse, "level": level}


def new_name() -> str:
    return f"test-{secrets.token_hex(4)}"


@pytest.fixture(scope="module")
def registered(runs: dict[str, Path]) -> tuple[str, dict[str, str]]:
    """A registered model of versions good, worse and level; and what was said of each."""
    name = new_name()
    return name, {
        which: told("register", runs[which], "--name", name) for which in ("good", "worse", "level")
    }


@pytest.fixture
def name(registered: tuple[str, dict[str, str]]) -> str:
    """Another model of the same three versions, none of which is champion."""
    client, other = mlflow.MlflowClient(), new_name()
    client.create_registered_model(other)
    for number in "123":
        version = client.get_model_version(registered[0], number)
        tags, model_id = {SNAPSHOT_TAG: version.tags[SNAPSHOT_TAG]}, version.source.removeprefix("models:/")
        client.create_model_version(other, version.source, version.run_id, tags, model_id=model_id)
    return other


def champion(name: str) -> str:
    return mlflow.MlflowClient().get_registered_model(name).aliases["champion"]


def test_a_worse_second_model_stays_challenger_and_a_level_one_becomes_champion(
    registered: tuple[str, dict[str, str]],
):
    name, said = registered
    assert said["good"].startswith(f"registered models:/{name}/1: it is the champion: it is better than")
    assert said["worse"].startswith(f"registered models:/{name}/2: it stays challenger: NLL of a reaction ")
    assert "beside the champion's" in said["worse"] and ", worse by [" in said["worse"]
    assert "it is the champion: NLL of a reaction" in said["level"] and "level" in said["level"]
    assert all(line.count("\n") == 1 for line in said.values())
    assert find(f"{name}/2").tags[GATE_TAG].startswith("challenger: NLL of a reaction")


def test_registering_again_moves_nothing(registered: tuple[str, dict[str, str]], runs: dict[str, Path]):
    name, _ = registered
    for number, which, state in ((1, "good", "former champion"), (2, "worse", "challenger")):
        again = told("register", runs[which], "--name", name)
        assert again.startswith(f"registered models:/{name}/{number}: ") and "nothing moves" in again
        assert find(f"{name}/{number}").state == state
    assert str(champion(name)) == "3"


def test_a_list_tells_versions_aliases_scores_and_states(registered: tuple[str, dict[str, str]]):
    name, _ = registered
    head, *lines = told("models", "list", name).splitlines()
    assert head.split() == ["version", "state", "aliases", "reaction_nll", "nll", "tv", "registered"]
    assert [line.split()[0] for line in lines] == [f"{name}/{number}" for number in (1, 2, 3)]
    assert "former champion" in lines[0] and "challenger" in lines[1] and "@champion" in lines[2]
    first, *_ = map(json.loads, told("models", "list", name, "--json").splitlines())
    assert first["scores"]["nll"]["low"] < first["scores"]["nll"]["score"] < first["scores"]["nll"]["high"]


def test_a_version_has_a_card_beside_its_snapshot(
    registered: tuple[str, dict[str, str]], runs: dict[str, Path]
):
    """And the snapshot is the one of the run, byte for byte."""
    version = find(f"{registered[0]}@champion")
    for title in ("What it learned from", "How good it is", "What it cannot do", "How to make it again"):
        assert f"## {title}" in version.card
    assert "| NLL of a reaction ↓ |" in version.card and "Licence" in version.card
    with finding(version.address) as found:
        readme = found.snapshot.with_name("README.md")
        assert readme.read_text("utf-8") == version.card
        (ours,) = steps_in(runs["level"] / SNAPSHOTS)
        assert is_whole(found.snapshot) and sha256(found.snapshot / SUMS) == sha256(ours / SUMS)
    assert version.card in told("models", "show", version.address)
    assert mlflow.MlflowClient().get_registered_model(version.name).description


def test_versions_are_judged_on_the_posts_of_a_run(registered: tuple[str, dict[str, str]], good: Path):
    one, other = (f"{registered[0]}/{number}" for number in (2, 1))
    page = told("models", "compare", one, other, "--on", good)
    assert f"models:/{one} is worse than models:/{other}: NLL of a reaction" in page


@pytest.mark.soak
def test_stock_models_serve_says_the_same_to_sixteen_at_once(registered: tuple[str, dict[str, str]]):
    version, port = f"models:/{registered[0]}@champion", free_port()
    rows = {"columns": ["image"], "data": [[base64.b64encode(photo(number)).decode()] for number in range(3)]}
    params = {"n_samples": 50, "seed": 2}
    expected = mlflow.pyfunc.load_model(version).predict(
        pd.DataFrame(rows["data"], columns=rows["columns"]), params=params
    )
    words = ["models", "serve", "-m", version, "--env-manager", "local", "-p", str(port)]
    server = subprocess.Popen([sys.executable, "-m", "mlflow", *words], start_new_session=True)

    def ask(_: int) -> requests.Response:
        body = {"dataframe_split": rows, "params": params}
        return requests.post(f"http://127.0.0.1:{port}/invocations", json=body, timeout=60)

    try:
        while not is_up(port):
            assert server.poll() is None
            time.sleep(0.2)
        with ThreadPoolExecutor(16) as pool:
            answers = [*pool.map(ask, range(160))]
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    assert {each.status_code for each in answers} == {200}
    assert len({each.content for each in answers}) == 1
    said = answers[0].json()["predictions"]
    assert [[row["emoji"] for row in each] for each in said] == [
        [row["emoji"] for row in each] for each in expected
    ]
    assert [row["p"] for each in said for row in each] == pytest.approx(
        [row["p"] for each in expected for row in each], abs=1e-9
    )


def is_up(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/ping", timeout=5).ok
    except requests.ConnectionError:
        return False


def photo(number: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_a_rollback_goes_to_the_one_before_and_says_why(name: str):
    for number in "123":
        told("models", "promote", f"{name}/{number}", "--reason", f"it is {number}")
    for number in "21":
        line = told("models", "rollback", name, "--reason", "a complaint")
        assert line.startswith(f"models:/{name}/{number} is the champion again")
        assert str(champion(name)) == number
        by_hand, back = (how for _, how in sorted(find(f"{name}/{number}").became.items()))
        assert by_hand == f"by hand: it is {number}"
        assert back == f"rollback from version {int(number) + 1}: a complaint"
    result = command("models", "rollback", name, "--reason", "once more")
    assert result.exit_code == 2 and "has no version that was champion before" in result.stderr
    mlflow.MlflowClient().set_registered_model_alias(name, "champion", "2")  # otherwise than by us
    told("models", "rollback", name, "--reason", "it was not")
    assert str(champion(name)) == "1"


def test_what_an_alias_names_is_not_archived_and_what_is_archived_becomes_no_champion(name: str):
    told("models", "promote", f"{name}/1", "--reason", "why")
    result = command("models", "archive", f"{name}@champion", "--reason", "old")
    assert result.exit_code == 2 and f"models:/{name}/1 is @champion" in result.stderr
    told("models", "archive", f"{name}/2", "--reason", "worse")
    assert f"{name}/2" not in told("models", "list", name)
    assert ": worse" in told("models", "list", name, "--all", "--json").splitlines()[1]
    result = command("models", "promote", f"{name}/2", "--reason", "all the same")
    assert result.exit_code == 2 and "is archived" in result.stderr
    assert str(champion(name)) == "1"


def test_weights_that_were_altered_in_the_registry_become_no_champion(name: str, tmp_path: Path):
    """Though their sums are right, they are not the ones that were registered."""
    told("models", "promote", f"{name}/1", "--reason", "why")
    client = mlflow.MlflowClient()
    client.set_model_version_tag(name, "3", SNAPSHOT_TAG, "0" * 64)
    result = command("models", "promote", f"{name}/3", "--reason", "why")
    assert result.exit_code == 2 and "is not what was registered" in result.stderr
    assert str(champion(name)) == "1" and not find(f"{name}/3").became


@pytest.mark.skipif(ELSEWHERE in os.environ, reason="its files are not here")
def test_a_flipped_bit_in_the_registry_is_refused_when_it_is_loaded(
    runs: dict[str, Path], tracking: str, posts_folder: Path, tmp_path_factory: pytest.TempPathFactory
):
    name, photo = new_name(), posts_folder / "images" / "0.png"
    told("register", runs["good"], "--name", name, "--promote", "to break it")
    before = {*tmp_path_factory.getbasetemp().glob("server*/artifacts/**/generator.safetensors")}
    flip(max(before, key=lambda path: path.stat().st_mtime))
    result = command("predict", f"models:/{name}@champion", photo)
    assert result.exit_code == 2, result.output
    result = command("models", "promote", f"{name}/1", "--reason", "again")
    assert result.exit_code == 2


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_what_is_not_what_was_scored_is_not_registered(runs: dict[str, Path], tmp_path: Path):
    name = new_name()

    def refused(change: Callable[[Path, Path], object], reason: str) -> None:
        run = shutil.copytree(runs["good"], tmp_path / secrets.token_hex(4))
        (path,) = steps_in(run / SNAPSHOTS)
        change(run, path)
        result = command("register", run, "--name", name)
        assert result.exit_code == 2 and reason in result.stderr, result.output
        assert result.stderr.count("\n") == 1

    refused(lambda run, path: flip(path / GENERATOR), "is not a whole snapshot")
    other = runs["worse"] / EVALUATION
    refused(lambda run, path: shutil.copy(other, run / EVALUATION), "is of another snapshot")
    refused(lambda run, path: edit(run, digest=None), "or by an earlier version")
    refused(lambda run, path: edit(run, manifest="0" * 64), "was evaluated on another manifest")
    assert command("models", "list", name).exit_code == 2  # there is none


def edit(run: Path, **changes: str | None) -> None:
    content = json.loads((run / EVALUATION).read_text("utf-8")) | changes
    content = {
        key: value for key, value in content.items() if value is not None or key in ("harm", "readings")
    }
    (run / EVALUATION).write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(("weight", "reason"), [(float("nan"), "NaN or infinity"), (1e38, "is no number")])
def test_a_model_that_diverged_is_not_registered(
    good: Path, tmp_path: Path, weight: float, reason: str, monkeypatch: pytest.MonkeyPatch
):
    """Though its sums are right, and an evaluation speaks for it."""
    monkeypatch.setattr("emojigan.trainer.model.snapshot.refuse_not_finite", lambda *_: None)
    run = changed(good, f"diverged-{weight}", lambda generator: generator.output.weight.fill_(weight))  # pyright: ignore
    result = command("register", run, "--name", new_name())
    assert result.exit_code == 2 and reason in result.stderr and result.stderr.count("\n") == 1


def test_one_is_registered_and_promoted_by_hand_or_not_at_all(runs: dict[str, Path]):
    name = new_name()
    assert "stays challenger\n" in told("register", runs["good"], "--name", name, "--no-promote")
    line = told("register", runs["worse"], "--name", name, "--promote", "signed by Ann")
    assert line == f"registered models:/{name}/2: it is the champion: by hand: signed by Ann\n"
    (how,) = find(f"{name}@champion").became.values()
    assert how == "by hand: signed by Ann"
    result = command("register", runs["good"], "--promote", "why", "--no-promote")
    assert result.exit_code == 2 and "not both" in result.stderr


def test_a_champion_that_comes_meanwhile_is_judged_beside_too(
    runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
):
    """Of two registrations at once: there is none when the first is judged, and then there is."""
    name, try_out, others = new_name(), registering.try_out, [runs["good"]]

    def meanwhile(version: registering.Version) -> None:
        try_out(version)
        if others:
            registering.register(others.pop(), name)

    monkeypatch.setattr(registering, "try_out", meanwhile)
    assert "it stays challenger: NLL of a reaction" in told("register", runs["worse"], "--name", name)
    assert str(champion(name)) == "2"


def test_a_model_that_is_not_there_is_a_one_line_error(tracking: str):
    for words in (["show", "nobody/1"], ["list", "nobody"], ["show", "nobody"]):
        result = command("models", *words)
        assert result.exit_code == 2 and result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1
