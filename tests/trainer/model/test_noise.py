"""Noise depends on its key alone, and ranks share it out."""

import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from emojigan.trainer.model.noise import WORD, even_normal, initial_weights, kept, normal, philox, uniform

BATCH, COLUMNS = 12, 6
DRAWS = ("normal", "uniform")


def rows(
    draw: str, number: int = 3, seed: int = 0, first: int = 0, rows: int = BATCH, device: str = "cpu"
) -> torch.Tensor:
    drawn = uniform(seed, torch.tensor([number, first], device=device), rows, COLUMNS)
    return normal(drawn) if draw == "normal" else drawn


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((WORD,) * 4, (WORD, WORD), "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_gives_the_words_that_its_authors_published(counter, key, expected):
    """Random123's kat_vectors, philox4x32 of 10 rounds."""
    found = philox(tuple(torch.tensor(word) for word in counter), key)
    assert " ".join(f"{word.item():08x}" for word in found) == expected


@given(st.lists(st.integers(0, WORD), min_size=6, max_size=6))
def test_philox_is_that_of_whole_numbers(words: list[int]):
    """Written out with Python's own numbers, which do not overflow."""
    a, b, c, d, *key = words
    for turn in range(10):
        one, other = 0xD2511F53 * a, 0xCD9E8D57 * c
        keys = [(key[n] + turn * bump) & WORD for n, bump in enumerate((0x9E3779B9, 0xBB67AE85))]
        a, b, c, d = (other >> 32) ^ b ^ keys[0], other & WORD, (one >> 32) ^ d ^ keys[1], one & WORD
    found = philox(tuple(torch.tensor(word) for word in words[:4]), (words[4], words[5]))
    assert [word.item() for word in found] == [a, b, c, d]


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("ranks", [2, 3, 12])
def test_rows_of_the_ranks_make_those_of_one_process(draw: str, ranks: int):
    each = BATCH // ranks
    parts = [rows(draw, first=rank * each, rows=each) for rank in range(ranks)]
    assert torch.equal(torch.cat(parts), rows(draw))


@pytest.mark.soak
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a compiler (g++)")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, as it compiles
def test_compiled_numbers_are_the_same():
    """No product leaves an int64: what C++ makes of one that does is not defined."""
    place = torch.tensor([3, 0])
    assert torch.equal(torch.compile(uniform)(0, place, 64, 39), uniform(0, place, 64, 39))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("draw", DRAWS)
def test_a_gpu_draws_what_a_cpu_draws(draw: str):
    """Uniform numbers to the bit; logarithm, sine and cosine have their own last bit on each."""
    found, expected = rows(draw, device="cuda").cpu(), rows(draw)
    assert torch.equal(found, expected) if draw == "uniform" else torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("draw", DRAWS)
def test_the_same_key_gives_the_same_rows_whatever_was_drawn_before(draw: str):
    first = rows(draw)
    torch.rand(7)
    rows(draw, number=4)
    assert torch.equal(rows(draw), first)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("change", [{"number": 4}, {"seed": 1}, {"first": BATCH}], ids=str)
def test_another_number_seed_or_place_gives_other_rows(draw: str, change: dict):
    assert not (rows(draw, **change) == rows(draw)).any()


def test_fewer_columns_are_the_first_of_more():
    place = torch.tensor([3, 0])
    assert torch.equal(uniform(0, place, BATCH, 5), uniform(0, place, BATCH, 13)[:, :5])


def test_numbers_beyond_32_bits_are_others():
    assert not (rows("uniform", number=3) == rows("uniform", number=3 + 2**32)).any()


def test_drawing_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    rows("normal")
    rows("uniform")
    assert torch.equal(torch.get_rng_state(), before)


def test_no_two_rows_are_equal():
    assert len(rows("normal").unique(dim=0)) == BATCH


def many(draw: str, number: int = 0) -> np.ndarray:
    drawn = uniform(0, torch.tensor([number, 0]), 20_000, 10)
    return (normal(drawn) if draw == "normal" else drawn).double().numpy()


def test_normal_rows_are_normal():
    assert kstest(many("normal").ravel(), "norm").pvalue > 1e-3


def test_uniform_rows_are_uniform_below_1():
    drawn = many("uniform")
    assert drawn.min() >= 0 and drawn.max() < 1
    assert kstest(drawn.ravel(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("dropout", [0.0, 0.3, 0.5])
def test_a_share_of_the_features_is_left_out_and_in_the_mean_nothing_changes(dropout: float):
    factors = kept(rows("uniform", rows=20_000), dropout)
    assert abs((factors == 0).float().mean().item() - dropout) < 0.005
    assert abs(factors.mean().item() - 1) < 0.02


@pytest.mark.parametrize("draw", DRAWS)
def test_columns_rows_and_numbers_are_independent(draw: str):
    """Of 200,000 pairs a correlation has the standard deviation 0.0022 to 0.0071, by how many each has."""
    drawn = many(draw)
    columns = np.corrcoef(drawn.T) - np.eye(10)
    assert np.abs(columns).max() < 4.5 / np.sqrt(len(drawn))
    for other in (np.roll(drawn, 1, axis=0), many(draw, number=1)):
        assert abs(np.corrcoef(drawn.ravel(), other.ravel())[0, 1]) < 4.5 / np.sqrt(drawn.size)


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


def test_normal_numbers_that_are_spread_evenly_are_normal_and_tell_means_better():
    """Of the parts of a space that three random directions make, as latents make readings."""
    directions = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))

    def shares(latents: torch.Tensor) -> torch.Tensor:
        return torch.bincount((latents @ directions.T).argmax(dim=1), minlength=3) / len(latents)

    true = shares(torch.randn(400_000, 32, generator=torch.Generator().manual_seed(1)))
    errors = {"even": [], "drawn": []}
    for seed in range(40):
        even = even_normal(512, 32, seed)
        drawn = torch.randn(512, 32, generator=torch.Generator().manual_seed(seed))
        assert even.isfinite().all()
        assert even.mean(dim=0).abs().max() < 0.01 and (even.var(dim=0) - 1).abs().max() < 0.05
        errors["even"].append((shares(even) - true).abs().sum())
        errors["drawn"].append((shares(drawn) - true).abs().sum())
    even, drawn = (torch.stack(each).mean() for each in errors.values())
    assert even < 0.75 * drawn
