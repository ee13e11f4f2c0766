"""What changes from step to step besides the gradients, the learning rate and the average; and what waits."""

from itertools import repeat
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from emojigan.datasets.stream.reader import Batch
from emojigan.trainer.config import Config
from emojigan.trainer.runtime.captured import WARM_UP
from emojigan.trainer.runtime.ranks import start
from emojigan.trainer.training.step import build, set_learning_rate, train_step, update_average

SIZES = {"trunk_width": 8, "feature_dim": 16, "hidden_dim": 16, "latent_dim": 4}


def training(**optimizer: float) -> Any:
    """What both functions look at."""
    generator, average = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1).requires_grad_(False)
    return SimpleNamespace(
        config=Config.model_validate({"optimizer": optimizer}),
        generator=generator,
        average=average,
        generator_optimizer=torch.optim.Adam(generator.parameters(), torch.tensor(1.0)),
        critic_optimizer=torch.optim.Adam(average.parameters(), torch.tensor(1.0)),
    )


@pytest.mark.parametrize(("step", "rate"), [(0, 0.4), (50, 0.25), (100, 0.1)])
def test_the_learning_rates_fall_linearly(step: int, rate: float):
    state = training(steps=100, learning_rate=0.4, final_learning_rate=0.25)
    set_learning_rate(state, step)
    for optimizer in (state.generator_optimizer, state.critic_optimizer):
        assert [group["lr"].item() for group in optimizer.param_groups] == [pytest.approx(rate)]


@pytest.mark.parametrize(("step", "decay"), [(0, 0.1), (8, 0.5), (80, 0.9), (10**6, 0.9)])
def test_the_average_moves_by_a_decay_that_warms_up(step: int, decay: float):
    state = training(ema_decay=0.9)
    state.average.weight.fill_(1)
    state.generator.weight.data.fill_(3)
    update_average(state, step)
    assert state.average.weight.item() == pytest.approx(decay * 1 + (1 - decay) * 3)


def test_without_a_decay_the_average_is_the_generator():
    state = training(ema_decay=0)
    update_average(state, 7)
    assert torch.equal(state.average.weight, state.generator.weight)
    assert torch.equal(state.average.bias, state.generator.bias)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_a_step_does_not_wait_for_the_gpu():
    config = Config.model_validate({"data": {"batch_size": 16}, "model": SIZES, "run": {"compile": "off"}})
    inputs: Any = SimpleNamespace(
        train=SimpleNamespace(manifest=SimpleNamespace(image_size=16)),
        vectors=torch.randn(7, 5),
        ids=torch.arange(7),
        tuple_weights=torch.ones(7),
    )
    training = build(config, inputs, start(config))
    images = torch.zeros(16, 3, 16, 16, dtype=torch.uint8, device="cuda")
    batches = repeat(Batch(images, torch.zeros(16, 1, dtype=torch.int64, device="cuda")))
    try:
        for step in range(WARM_UP + 2):
            torch.cuda.set_sync_debug_mode("error" if step > WARM_UP else "default")
            set_learning_rate(training, step)
            train_step(training, batches, 6 * step)
            update_average(training, step)
    finally:
        torch.cuda.set_sync_debug_mode("default")
