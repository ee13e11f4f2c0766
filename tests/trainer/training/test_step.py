"""What changes from step to step besides the gradients: the learning rate and the average."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from emojigan.trainer.config import Config
from emojigan.trainer.training.step import set_learning_rate, update_average


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
