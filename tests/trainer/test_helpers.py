"""Who says nothing is given as many helpers as the cores of a node allow each of its ranks."""

import os

import pytest
import torch

from emojigan.trainer.config import Config
from emojigan.trainer.helpers import num_helpers


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)


def machine(patch: pytest.MonkeyPatch, cores: int, ranks: int | None, *, gpu: bool) -> None:
    patch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    patch.setattr(torch.cuda, "is_available", lambda: gpu)
    if ranks:
        patch.setenv("LOCAL_WORLD_SIZE", str(ranks))


@pytest.mark.parametrize(
    ("cores", "ranks", "helpers"),
    [
        (16, None, 4),
        (16, 8, 1),
        (16, 4, 3),
        (32, 8, 3),
        (96, 8, 4),
        (4, 1, 3),
        (2, 1, 1),
        (1, 1, 1),
        (3, 8, 1),
    ],
)
def test_with_gpus_the_cores_are_shared_by_the_ranks_of_the_node(
    monkeypatch: pytest.MonkeyPatch, cores: int, ranks: int | None, helpers: int
):
    machine(monkeypatch, cores, ranks, gpu=True)
    assert num_helpers(Config()) == helpers


@pytest.mark.parametrize(
    ("cores", "ranks", "helpers"), [(1, None, 1), (2, None, 1), (3, None, 2), (64, None, 2), (64, 32, 1)]
)
def test_on_cpus_few_help_because_the_cores_train(
    monkeypatch: pytest.MonkeyPatch, cores: int, ranks: int | None, helpers: int
):
    machine(monkeypatch, cores, ranks, gpu=False)
    assert num_helpers(Config()) == helpers


@pytest.mark.parametrize("helpers", [0, 1, 9])
def test_those_that_are_asked_for_are_those_that_there_are(monkeypatch: pytest.MonkeyPatch, helpers: int):
    machine(monkeypatch, 2, 8, gpu=True)
    assert num_helpers(Config.model_validate({"run": {"helpers": helpers}})) == helpers
