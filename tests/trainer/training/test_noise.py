"""Noise depends on its key alone, and ranks share it out."""

import pytest
import torch

from emojigan.trainer.training.noise import Noise, initial_weights

BATCH, COLUMNS = 12, 5
DRAWS = ("normal", "uniform")


def rows(draw: str, purpose: str = "latent", number: int = 3, seed: int = 0, rank: int = 0, ranks: int = 1):
    noise = Noise(seed, BATCH, rank, ranks, torch.device("cpu"))
    return getattr(noise, draw)(purpose, number, COLUMNS)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("ranks", [2, 3, 12])
def test_rows_of_the_ranks_make_those_of_one_process(draw: str, ranks: int):
    parts = [rows(draw, rank=rank, ranks=ranks) for rank in range(ranks)]
    assert torch.equal(torch.cat(parts), rows(draw))


@pytest.mark.parametrize("draw", DRAWS)
def test_the_same_key_gives_the_same_rows_whatever_was_drawn_before(draw: str):
    first = rows(draw)
    torch.rand(7)
    rows(draw, "critic")
    assert torch.equal(rows(draw), first)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("change", [{"purpose": "critic"}, {"number": 4}, {"seed": 1}], ids=str)
def test_another_purpose_number_or_seed_gives_other_rows(draw: str, change: dict):
    assert not (rows(draw, **change) == rows(draw)).any()


def test_purpose_and_number_do_not_run_together():
    assert not torch.equal(rows("normal", "latent1", 1), rows("normal", "latent", 11))


def test_drawing_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    rows("normal")
    rows("uniform")
    assert torch.equal(torch.get_rng_state(), before)


def test_no_two_rows_are_equal():
    assert len(rows("normal").unique(dim=0)) == BATCH


def test_normal_rows_have_mean_0_and_deviation_1():
    drawn = Noise(0, 10_000, 0, 1, torch.device("cpu")).normal("latent", 0, 10)
    assert abs(drawn.mean()) < 0.02 and abs(drawn.std() - 1) < 0.02


def test_uniform_rows_fill_0_to_1():
    drawn = Noise(0, 10_000, 0, 1, torch.device("cpu")).uniform("critic", 0, 10)
    assert 0 <= drawn.min() < 0.001 and 0.999 < drawn.max() < 1
    assert abs(drawn.mean() - 0.5) < 0.01


def test_initial_weights_depend_on_the_seed_alone_and_disturb_nobody():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    drawn = []
    for seed in (0, 0, 1):
        with initial_weights(seed):
            drawn.append(torch.nn.Linear(2, 2).weight)
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert torch.equal(torch.rand(3), expected)
