"""Operations are counted as the networks need them, and what a device can do is measured."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from emojigan.trainer.config import Config
from emojigan.trainer.runtime.ranks import start
from emojigan.trainer.training.speed import ceiling, operations_per_unit
from emojigan.trainer.training.step import Training, build

EMOJIS, VECTOR_DIM, SIZE = 40, 30, 32
FREE = {
    "model": {"output": "free", "critic": "concatenation", "center_vectors": False},
    "objective": {"nll_weight": 0},
}


def training(batch_size: int = 10**6, **config: Any) -> Training:
    """One of such a batch that what is done once in it does not count."""
    content = {"data": {"batch_size": batch_size}, "run": {"precision": "float32"}, **config}
    content["model"] = {"trunk_width": 8, "feature_dim": 16, "hidden_dim": 24, "latent_dim": 4} | content.get(
        "model", {}
    )
    inputs: Any = SimpleNamespace(
        train=SimpleNamespace(manifest=SimpleNamespace(image_size=SIZE)),
        vectors=torch.randn(EMOJIS, VECTOR_DIM),
        ids=torch.arange(EMOJIS),
        tuple_weights=torch.ones(EMOJIS),
    )
    parsed = Config.model_validate(content)
    return build(parsed, inputs, start(parsed))


def trunk() -> tuple[int, int]:
    """Operations of a trunk of width 8 and 16 features, forward and backward, by hand."""
    forward = [
        2 * 16 * 3 * 8 * 16**2,
        2 * 16 * 8 * 16 * 8**2,
        2 * 16 * 16 * 32 * 4**2,
        2 * 16 * 32 * 64 * 2**2,
        2 * 64 * 2**2 * 16,
    ]
    return sum(forward), 2 * sum(forward) - forward[0]  # by weights, and by all that came in but the images


def test_a_critic_tuple_costs_what_its_products_cost_by_hand():
    """Of the tied generator and the projection critic, with their closed penalty."""
    there, back = trunk()
    head_there = 2 * ((16 + 4) * 24 + 24 * 24 + 24 * VECTOR_DIM)  # of the generator
    vocabulary = 2 * VECTOR_DIM * EMOJIS
    fakes = there + head_there + vocabulary
    condition, first, second = 2 * 16 * 24, 2 * VECTOR_DIM * 24, 2 * 24 * 24
    score, score_back = first + second, first + 2 * second  # the vectors need no gradients
    slopes, closed, closed_back = first + second, second + first, 2 * (second + first)
    critic = there + back + condition * 3 + 2 * (score + score_back) + slopes + closed + closed_back
    generator = there + back + 3 * (head_there + vocabulary) - vocabulary  # of the vocabulary no gradients
    generator += there + condition + 2 * 24 * EMOJIS  # the critic, which scores each with every emoji
    counted = operations_per_unit(training())
    assert counted == pytest.approx(fakes + critic + generator / 5, rel=1e-4)


@pytest.mark.parametrize("config", [{}, FREE], ids=["tied", "free"])
def test_counting_leaves_nothing_behind(config: dict[str, Any]):
    here = training(**config)
    parameters = [*here.generator.parameters(), *here.critic.parameters()]
    before = [parameter.detach().clone() for parameter in parameters]
    assert operations_per_unit(here) > 1e6
    assert all(parameter.requires_grad for parameter in parameters)
    assert not any(guard.gradients.any() for guard in (here.critic_guard, here.generator_guard))
    assert all(torch.equal(*pair) for pair in zip(before, parameters, strict=True))


def test_what_is_done_once_for_the_vocabulary_is_shared_by_the_batch():
    small, large = (operations_per_unit(training(batch_size)) for batch_size in (1, 1000))
    once = 2 * (VECTOR_DIM * 24 + 24 * 24) * EMOJIS / 5  # the critic's hidden layers of every emoji
    assert small - large == pytest.approx(once * (1 - 1 / 1000))


def test_what_a_device_can_do_is_a_number_of_operations_a_second():
    assert 1e8 < ceiling(training()) < 1e17


def test_measuring_a_device_leaves_the_settings_by_which_compiled_code_is_kept():
    """So what the doctor compiled, who measures nothing, is found by a training."""
    torch.backends.cuda.matmul.fp32_precision = "none"  # as in a process that begins
    here = training()
    before = torch.backends.cuda.matmul.fp32_precision
    ceiling(here)
    assert torch.backends.cuda.matmul.fp32_precision == before
