"""When an alias moves, the other model answers, with no question lost; one that is damaged never does."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import pytest
import yaml
from mlflow import MlflowClient

from emojigan.trainer.serving.load import MLMODEL, PACKAGED

from ...model.test_snapshot import make, save
from .serving import Serving, photo, serving


def packaged(folder: Path, step: int) -> Path:
    """A model as MLflow keeps it, with a card."""
    snapshot = make(step=step)
    snapshot = replace(snapshot, weights=snapshot.weights + step)
    path = save(folder / PACKAGED, snapshot).relative_to(folder)
    (folder / PACKAGED / "README.md").write_text(f"# The model of step {step}", encoding="utf-8")
    artifacts = {"snapshot": {"path": str(path)}, "card": {"path": f"{PACKAGED}/README.md"}}
    flavour = {"artifacts": artifacts, "config": {"readings": 2}}
    (folder / MLMODEL).write_text(yaml.safe_dump({"flavors": {"python_function": flavour}}), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def registry(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> MlflowClient:
    """Of the model `m`: version 2 is another than 1, and 3 is damaged."""
    client = MlflowClient(environment["MLFLOW_TRACKING_URI"])
    client.create_registered_model("m")
    for step in (1, 2, 3):
        folder = packaged(tmp_path_factory.mktemp("version"), step)
        if step == 3:
            os.truncate(next(folder.rglob("generator.safetensors")), 500)
        client.create_model_version("m", str(folder))
    client.set_registered_model_alias("m", "champion", "1")
    return client


@pytest.fixture(scope="module")
def champion(
    registry: MlflowClient, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serving]:
    uri = environment["MLFLOW_TRACKING_URI"]
    words = ["models:/m@champion", "--reload-seconds", "0.2"]
    with serving(*words, folder=tmp_path_factory.mktemp("server"), MLFLOW_TRACKING_URI=uri) as found:
        yield found


def waits(server: Serving, **expected: object) -> dict:
    """What /ready says when it says that."""
    deadline = time.monotonic() + 60
    while True:
        ready = server.get("/ready").json
        ready["version"] = ready["model"]["version"]
        if all(ready[key] == value for key, value in expected.items()):
            return ready
        assert time.monotonic() < deadline, ready
        time.sleep(0.05)


def test_an_alias_moves_under_load_and_no_question_is_lost(registry: MlflowClient, champion: Serving):
    end, answers = Event(), []

    def keep_asking() -> None:
        while not end.is_set():
            answers.append(champion.ask(photo(), samples=20))

    threads = [Thread(target=keep_asking) for _ in range(3)]
    for each in threads:
        each.start()
    for version in ("2", "1", "2"):
        registry.set_registered_model_alias("m", "champion", version)
        waits(champion, version=version)
    end.set()
    for each in threads:
        each.join()
    assert {each.status for each in answers} == {200}
    said = {(each.json["model"]["version"], each.json["answers"][0]["emojis"][0]["p"]) for each in answers}
    assert {version for version, _ in said} == {"1", "2"} and len(said) == 2


def test_one_that_is_damaged_is_told_and_the_one_before_answers_on(registry: MlflowClient, champion: Serving):
    registry.set_registered_model_alias("m", "champion", "2")
    waits(champion, version="2")
    before = champion.ask(photo()).json
    registry.set_registered_model_alias("m", "champion", "3")
    while (trouble := champion.get("/ready").json["reload_error"]) is None:
        time.sleep(0.05)
    assert "generator.safetensors" in trouble or "not a whole snapshot" in trouble
    assert champion.ask(photo()).json == before
    assert "models:/m/2 answers on: " in champion.said.read_text(encoding="utf-8")
    registry.set_registered_model_alias("m", "champion", "2")
    waits(champion, version="2", reload_error=None)


def test_a_registered_model_shows_its_card(champion: Serving):
    facts = champion.get("/v1/model").json
    assert facts["card"] == f"# The model of step {facts['step']}" and facts["readings"] is True
    (answer,) = champion.ask(photo(), readings="true").json["answers"]
    assert 1 <= len(answer["readings"]) <= 2
