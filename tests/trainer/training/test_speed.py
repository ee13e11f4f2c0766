"""A training tells how long it will be and how fast it is."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from emojigan.datasets.store.folder import LocalFolder
from emojigan.datasets.work.progress import TELLING, Bar
from emojigan.trainer.config import Config
from emojigan.trainer.inputs import Inputs, read_inputs
from emojigan.trainer.training import speed
from emojigan.trainer.training.dry_run import estimate
from emojigan.trainer.training.speed import Meter, Pace, Waited, about, bar_text

CPU = torch.device("cpu")


class Clock:
    """Time that passes when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_steps_time_is_known_once_after_four_and_the_first_does_not_count():
    clock, known = Clock(), []
    timer = Pace(CPU, clock)
    for clock.now in (60, 70, 80, 100, 150, 300):
        known.append(timer.step())
    assert known == [None, None, None, pytest.approx((100 - 60) / 3), None, None]


@pytest.mark.parametrize(
    ("ranks", "device", "said"),
    [
        (1, "cpu", "about 3 h 20 min on this machine"),
        (2, "cpu", "about 3 h 20 min on this machine"),
        (1, "cuda", "about 3 h 20 min on this GPU"),
        (8, "cuda", "about 3 h 20 min on these 8 GPUs"),
    ],
)
def test_a_time_is_told_with_what_it_is_the_time_of(ranks: int, device: str, said: str):
    here: Any = SimpleNamespace(num_processes=ranks, device=torch.device(device))
    assert about(12_000, here) == said


@pytest.fixture
def inputs(shards: Path, vectors_file: Path) -> Inputs:
    return read_inputs(Config(), LocalFolder(shards), vectors_file)


def test_a_dry_run_estimates_by_real_steps_and_writes_nothing(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    tiny = {"trunk_width": 4, "feature_dim": 8, "hidden_dim": 16, "latent_dim": 4}
    config = {"model": tiny, "data": {"batch_size": 16}, "optimizer": {"steps": 10**9}}
    said = estimate(Config.model_validate(config), inputs)
    assert said.startswith("about ") and said.endswith(" min on this machine")
    assert not list(tmp_path.iterdir())


def delayed(clock: Clock, *seconds: float) -> Iterator[Any]:
    for each in seconds:
        clock.now += each
        yield "batch"


def meter(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, waited: Waited, of_ranks: torch.Tensor | None = None
) -> Meter:
    """Of a training at step 70, two critic updates a step, on devices that can do 1,000 tuples/s."""
    monkeypatch.setattr(speed, "fastest", lambda _: 1000.0)
    config = Config.model_validate({"data": {"batch_size": 100}, "optimizer": {"num_critic_steps": 2}})
    training: Any = SimpleNamespace(
        config=config,
        inputs=SimpleNamespace(train=SimpleNamespace(num_tuples=500, num_units=500)),
        accelerator=SimpleNamespace(device=CPU, gather=lambda mine: mine if of_ranks is None else of_ranks),
    )
    return Meter(training, waited, 70, clock)


def test_the_speed_is_that_since_it_was_last_asked(monkeypatch: pytest.MonkeyPatch):
    clock = Clock()
    waited = Waited(delayed(clock, 0.5, 1.5, 4), clock)
    read = meter(monkeypatch, clock, waited)
    next(waited)
    clock.now += 2
    next(waited)
    clock.now = 8  # a checkpoint, say
    assert read.read(80)() == {
        "train/tuples_per_second": 250,
        "train/utilisation": 0.25,
        "train/data_wait": 0.25,
    }
    next(waited)
    clock.now = 16
    again = read.read(100)()
    assert (again["train/tuples_per_second"], again["train/data_wait"]) == (500, 0.5)


def test_the_rank_that_waits_most_is_told_and_the_one_that_takes_most(monkeypatch: pytest.MonkeyPatch):
    clock = Clock()
    of_ranks = torch.tensor([[1, 2.0**30], [6, 0.0], [0, 3 * 2.0**30]])
    read = meter(monkeypatch, clock, Waited(iter(()), clock), of_ranks)
    clock.now = 10
    metrics = read.read(71)()
    assert metrics["train/data_wait"] == pytest.approx(0.6)
    assert metrics["train/device_memory_gib"] == 3


METRICS = {
    "train/nll": 2.2154,
    "train/wasserstein": -0.5312,
    "train/tuples_per_second": 130_123.4,
    "train/utilisation": 0.331,
    "train/data_wait": 0.0212,
    "train/device_memory_gib": 12.3,
}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("n", "total"), [(1, 50), (2600, 2600), (123_456, 400_000), (399_999, 400_000)])
@pytest.mark.parametrize("elapsed", [1, 3600 * 20])
def test_all_that_a_bar_tells_fits_80_columns(n: int, total: int, elapsed: float, tied: bool):
    said = bar_text(METRICS, 2.301, tied=tied)
    line = Bar.format_meter(
        n, total, elapsed, ncols=80, prefix="train", unit="steps", postfix=said, bar_format=TELLING
    )
    loss = "nll 2.22" if tied else "W1 -0.53"
    assert said == f"130k/s {loss} val 2.30 mfu 33% wait 2% 12G"
    assert line.endswith(said) and len(line) <= 80


def test_a_bar_tells_little_memory_with_a_digit_more():
    said = bar_text({**METRICS, "train/device_memory_gib": 0.48}, None, tied=True)
    assert said.endswith(" 0.5G")


def test_a_bar_tells_nothing_that_is_not_known():
    on_cpu = {name: value for name, value in METRICS.items() if name != "train/device_memory_gib"}
    assert bar_text(on_cpu, None, tied=True) == "130k/s nll 2.22 mfu 33% wait 2%"
