"""Weights have mean 1, say what they do to the optimum, and can be undone or are refused."""

import json
from dataclasses import asdict
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import assume, given
from hypothesis import strategies as st

from emojigan.datasets.care.weights_report import Effect, Refusal, effects, k_worth
from emojigan.datasets.emojis.weights import (
    SCHEMES,
    effective_sample_size,
    samples_after_undoing,
    undo,
    undo_by_latent,
    undo_in_reactions,
    weights,
)
from emojigan.datasets.errors import InputError
from emojigan.datasets.shards.manifest import Manifest, ShardEntry, write_manifest
from emojigan.datasets.store.folder import LocalFolder
from emojigan.launch.cli import main

COUNTS = st.lists(st.integers(1, 10**6), min_size=1, max_size=40).map(np.array)
SKEWED = np.array([500_000, 90_000, 3000, 40, 5])


def of(scheme: str, counts: np.ndarray, k: float) -> np.ndarray:
    return weights(scheme, counts, k=k, num_posts=int(counts.sum()))


@given(COUNTS, st.sampled_from(SCHEMES), st.floats(0, 50))
def test_mean_over_the_tuples_is_1(counts, scheme, k):
    assert of(scheme, counts, k) @ counts / counts.sum() == pytest.approx(1, rel=1e-12)


def exact(scheme: str, counts: list[int], k: float, num_posts: int) -> list[Decimal]:
    """The weights to fifty digits, by the formulas as they are printed."""
    with localcontext() as context:
        context.prec = 50
        total = Decimal(sum(counts))
        frequency = [count / total for count in map(Decimal, counts)]
        inverse = [(Decimal(num_posts + 1) / count).ln() for count in map(Decimal, counts)]
        plain = {
            "none": [Decimal(1)] * len(counts),
            "exponential": [(-Decimal(k) * each).exp() for each in frequency],
            "tfidf": inverse,
            "tfidf-corpus": [tf * idf for tf, idf in zip(frequency, inverse, strict=True)],
        }[scheme]
        mean = sum(w * p for w, p in zip(plain, frequency, strict=True))
        return [w / mean for w in plain]


@given(COUNTS, st.sampled_from(SCHEMES), st.floats(0, 80), st.integers(0, 1000))
def test_weights_are_those_of_fifty_digits(counts, scheme, k, others):
    num_posts = int(counts.max()) + others
    found = weights(scheme, counts, k=k, num_posts=num_posts)
    truth = exact(scheme, counts.tolist(), k, num_posts)
    np.testing.assert_allclose(found, np.array([float(w) for w in truth]), rtol=1e-11)


@given(COUNTS)
def test_k_0_equals_none_bit_for_bit(counts):
    none = of("none", counts, 10.0)
    assert of("exponential", counts, 0.0).tobytes() == none.tobytes()
    assert (none == 1).all()


def test_exponential_is_equation_2():
    weight = of("exponential", SKEWED, 10.0)
    plain = np.exp(-10 * SKEWED / SKEWED.sum())
    np.testing.assert_allclose(weight / weight[0], plain / plain[0], rtol=1e-12)


def test_tfidf_is_the_log_of_the_inverse_document_frequency():
    weight = weights("tfidf", np.array([900, 90, 9]), k=10.0, num_posts=999)
    plain = np.log(1000 / np.array([900, 90, 9]))
    np.testing.assert_allclose(weight / weight[0], plain / plain[0], rtol=1e-12)


def test_tfidf_of_an_emoji_in_every_post_is_a_number():
    weight = weights("tfidf", np.array([100, 1]), k=10.0, num_posts=100)
    assert (weight > 0).all()


def test_corpus_tfidf_makes_the_skew_worse():
    counts = (10_000 / np.arange(1, 101)).astype(int)
    frequency = counts / counts.sum()
    shifted = frequency * of("tfidf-corpus", counts, 1.0)
    assert shifted[0] > 1.5 * frequency[0]
    assert (np.diff(shifted / frequency) <= 1e-12).all()


@pytest.mark.parametrize("scheme", ["tfidf", "tfidf-corpus"])
def test_an_emoji_in_more_tuples_than_posts_is_refused(scheme):
    with pytest.raises(InputError, match=r"one has 500,000 tuples in 9\..*--repeat once"):
        weights(scheme, SKEWED, k=1.0, num_posts=9)


@given(COUNTS, st.floats(0.01, 50))
def test_rarer_emojis_never_weigh_less(counts, k):
    for scheme in ("exponential", "tfidf"):
        weight = of(scheme, counts, k)[np.argsort(counts)]
        assert (np.diff(weight) <= 1e-12 * weight[:-1]).all()


@pytest.mark.parametrize("k", [1e3, 1e4, 1e300])
def test_k_beyond_the_range_of_numbers_is_refused(k):
    with pytest.raises(InputError, match=r"Choose a smaller --k"):
        of("exponential", SKEWED, k)


def test_large_k_overflows_nothing_while_it_can_be_held():
    weight = of("exponential", np.full(1000, 7), 1e4)
    np.testing.assert_allclose(weight, 1)


@given(COUNTS, st.floats(0, 1e5))
def test_weights_are_numbers_that_float32_holds(counts, k):
    try:
        weight = of("exponential", counts, k).astype(np.float32)
    except InputError:
        return
    assert np.isfinite(weight).all() and (weight > 0).all()


def test_unknown_scheme_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="none, exponential, tfidf"):
        of("inverse", SKEWED, 1.0)


@given(COUNTS, st.sampled_from(SCHEMES), st.floats(0, 80))
def test_effective_sample_size_is_a_share(counts, scheme, k):
    assert 0 < effective_sample_size(of(scheme, counts, k), counts) <= 1 + 1e-12


def test_effective_sample_size_without_weights_is_1():
    assert effective_sample_size(np.ones(5), SKEWED) == 1


def test_effective_sample_size_is_that_of_the_tuples_one_by_one():
    counts = np.array([6, 3, 1])
    weight = of("exponential", counts, 5.0)
    each = np.repeat(weight, counts)
    assert effective_sample_size(weight, counts) == pytest.approx(each.sum() ** 2 / (10 * (each**2).sum()))


@given(COUNTS, st.floats(0, 40), st.sampled_from(SCHEMES), st.integers(0, 2**32))
def test_undoing_gives_the_unweighted_distribution_back(counts, k, scheme, seed):
    weight = of(scheme, counts, k)
    truth = np.random.default_rng(seed).dirichlet(np.ones(len(counts)), 3)
    shifted = truth * weight
    shifted /= shifted.sum(axis=1, keepdims=True)
    try:
        found = undo(shifted, weight)
    except InputError:
        assume(False)
    np.testing.assert_allclose(found, truth, rtol=1e-9, atol=1e-15)


@given(COUNTS, st.floats(0, 1e4), st.integers(0, 2**32))
def test_undoing_gives_distributions_or_is_refused(counts, k, seed):
    try:
        weight = of("exponential", counts, k)
        found = undo(np.random.default_rng(seed).dirichlet(np.ones(len(counts)), 3), weight)
    except InputError:
        return
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_zeros_stay_zeros():
    found = undo(np.array([[0.5, 0.5, 0.0]]), np.array([1.0, 1.5, 0.1]))
    np.testing.assert_allclose(found, [[0.6, 0.4, 0]])


def test_hopeless_weights_are_refused():
    weight = of("exponential", SKEWED, 20.0)
    with pytest.raises(InputError, match=r"50 samples are worth 5\.0"):
        undo(np.array([[0.1, 0.3, 0.2, 0.2, 0.2]]), weight)


def test_the_smallest_weights_are_refused_not_divided_by():
    weight = of("exponential", SKEWED, 90.0)
    assert weight.max() / weight.min() > 1e30
    with pytest.raises(InputError, match="cannot be undone"):
        undo(np.array([[0.1, 0.3, 0.2, 0.2, 0.2]]), weight)


MANY = st.lists(st.integers(1, 10**4), min_size=2, max_size=20)


def dataset(counts: list[int]) -> Manifest:
    """A manifest whose emojis have these counts."""
    vocabulary = {chr(ord("😀") + rank): count for rank, count in enumerate(sorted(counts)[::-1])}
    shard = ShardEntry("0.tar", "0.index", "train", sum(counts), sum(counts), 1, "", "")
    return Manifest(64, "npy", "", {}, vocabulary, {}, {"used": sum(counts)}, (shard,))


@given(MANY, st.lists(st.floats(0, 200), min_size=1, max_size=3))
def test_the_report_tells_what_the_functions_give(counts, ks):
    manifest = dataset(counts)
    counts = np.array(sorted(counts)[::-1])
    found = effects(manifest, ks)
    assert [(each.scheme, each.k) for each in found] == [
        ("none", None),
        *(("exponential", k) for k in ks),
        ("tfidf", None),
        ("tfidf-corpus", None),
    ]
    for each in found:
        try:
            weight = of(each.scheme, counts, each.k or 0.0)
        except InputError as error:
            assert each == Refusal(each.scheme, each.k, str(error))
            continue
        assert isinstance(each, Effect)
        assert each.largest_over_smallest == weight.max() / weight.min()
        assert each.effective_share == effective_sample_size(weight, counts)
        assert each.effective_tuples == pytest.approx(each.effective_share * counts.sum())
        shifted = (counts / counts.sum() * weight)[None]
        assert each.samples_left == samples_after_undoing(shifted, weight)[0]
        try:
            undo(shifted, weight)
            assert each.can_be_undone
        except InputError:
            assert not each.can_be_undone


@given(MANY, st.floats(0, 60))
def test_the_reports_numbers_are_those_of_exact_fractions(counts, k):
    manifest = dataset(counts)
    counts = sorted(counts)[::-1]
    _, each, *_ = effects(manifest, [k])
    assert isinstance(each, Effect)
    p = [Fraction(count, sum(counts)) for count in counts]
    w = [Fraction(value) for value in exact("exponential", counts, k, sum(counts))]
    q = [a * b for a, b in zip(p, w, strict=True)]
    shift = [float(a - b) for a, b in zip(q, p, strict=True)]
    again = [a / b for a, b in zip(q, w, strict=True)]
    twice = sum(a / b for a, b in zip(again, w, strict=True))
    assert each.largest_over_smallest == pytest.approx(float(max(w) / min(w)), rel=1e-10)
    assert each.effective_share == pytest.approx(float(1 / sum(a * b for a, b in zip(q, w, strict=True))))
    assert each.total_variation == pytest.approx(sum(map(abs, shift)) / 2, rel=1e-9, abs=1e-12)
    assert each.samples_left == pytest.approx(float(50 * sum(again) ** 2 / twice), rel=1e-10)
    told = {**each.gain, **each.lose}
    for emoji, truth in zip(manifest.vocabulary, shift, strict=True):
        if emoji in told:
            assert told[emoji] == pytest.approx(truth, rel=1e-9, abs=1e-12)
    for side, sign in ((each.gain, 1), (each.lose, -1)):
        largest = sorted((sign * each for each in shift if sign * each > 1e-12), reverse=True)[:10]
        assert [sign * each for each in side.values() if abs(each) > 1e-12] == pytest.approx(largest)


@given(MANY, st.floats(0, 40), st.floats(0, 40))
def test_a_larger_k_shifts_more_and_leaves_less(counts, one, other):
    less, more = sorted((one, other))
    _, before, after, *_ = effects(dataset(counts), [less, more])
    assert isinstance(before, Effect) and isinstance(after, Effect)
    slack = 1 + 1e-9
    assert before.largest_over_smallest <= after.largest_over_smallest * slack
    assert before.total_variation <= after.total_variation * slack + 1e-12
    assert before.effective_share * slack >= after.effective_share
    assert before.samples_left * slack >= after.samples_left


def test_no_weights_and_k_0_shift_nothing():
    none, zero, *_ = effects(dataset(SKEWED.tolist()), [0.0])
    for each in (none, zero):
        assert isinstance(each, Effect)
        assert (each.total_variation, each.gain, each.lose) == (0, {}, {})
        assert (each.effective_share, each.samples_left) == pytest.approx((1, 50))


@given(MANY, st.floats(0.05, 0.95))
def test_the_k_of_a_share_has_that_share_or_none_has(counts, share):
    counts = np.array(counts)
    k = k_worth(share, counts)
    p = counts / counts.sum()
    if k is None:
        assert p[p == p.min()].sum() >= share - 1e-6  # what is left at any k
    else:
        found, lower = (effective_sample_size(np.exp(each * (p.min() - p)), counts) for each in (k, 0.98 * k))
        assert found <= share + 0.02 and lower >= share - 0.02


def test_without_k_the_grid_has_those_worth_a_half_and_a_tenth():
    counts = [1000, *range(399, 99, -1)]
    ks = [each.k for each in effects(dataset(counts)) if each.scheme == "exponential"]
    assert ks == sorted({1.0, 10.0, 100.0, *(k_worth(share, np.array(counts)) for share in (0.5, 0.1))})
    assert len(ks) == 5


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["weights", "report", *map(str, words)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_manifest(dataset([900, 300, 200, 100, 50, 7]), LocalFolder(tmp_path))
    return tmp_path


def test_the_command_prints_a_line_for_each_and_the_same_as_json(folder: Path):
    words = run(folder, "--k", "0,10,1e9").output.splitlines()
    found = json.loads(run(folder, "--k", "0,10,1e9", "--json").output)
    assert [line.split()[0] for line in words[1:7]] == [each["scheme"] for each in found]
    assert "Choose a smaller --k" in words[4] and "Choose a smaller --k" in found[3]["refused"]
    _, _, ten, *_ = effects(dataset([900, 300, 200, 100, 50, 7]), [0.0, 10.0])
    assert isinstance(ten, Effect)
    assert found[2] == asdict(ten)
    assert f"{ten.effective_share:.1%}" in words[3] and f"{ten.samples_left:.1f}" in words[3]


@pytest.mark.parametrize("ks", ["a", "", "1,,2", "-1", "nan", "inf", "1 2"])
def test_a_wrong_k_is_refused_in_one_line(folder: Path, ks: str):
    result = run(folder, "--k", ks)
    assert result.exit_code == 2
    assert result.output == (
        f"Error: --k takes numbers from 0 up, separated by commas, such as 0,1,10; not {ks!r}.\n"
    )


def test_no_dataset_and_no_vocabulary_are_told_in_one_line(tmp_path: Path):
    result = run(tmp_path)
    assert result.exit_code == 2
    assert result.output.startswith("Error: ") and "emojigan shards build" in result.output
    with pytest.raises(InputError, match="smaller --min-count"):
        effects(dataset([]))


@pytest.mark.parametrize("ratio", [1.0, 3.0, 200.0])
def test_of_reactions_the_weights_are_undone_as_by_going_through_all_of_them(ratio: float):
    """Two latents, four emojis, reactions of one to three, each counted as often as it has emojis."""
    rng = np.random.default_rng(0)
    q = rng.dirichlet(np.ones(4), size=(2, 1))  # [latents, 1, V]
    weight, sizes = np.geomspace(1, ratio, 4)[[2, 0, 3, 1]], np.array([0.5, 0.2, 0.3])
    expected = np.zeros(4)
    for number, size in enumerate(sizes, start=1):
        of_size = np.zeros(4)
        for reaction in product(range(4), repeat=number):
            shifted = np.prod(q[:, 0, list(reaction)], axis=1).sum()
            np.add.at(of_size, list(reaction), shifted / weight[list(reaction)].mean())
        expected += size * number * of_size / of_size.sum()
    found = undo_in_reactions(q, weight, sizes)[0]
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-9)
    of_tuples = undo_in_reactions(q, weight, np.array([1.0]))
    np.testing.assert_allclose(of_tuples, undo(q.mean(axis=0), weight), rtol=1e-9)


SIZES = st.sampled_from([np.array([]), np.array([1.0]), np.array([0.5, 0.0, 0.5])])


@given(st.integers(0, 2**32 - 1), SIZES)
def test_what_latents_say_together_is_the_same_by_latent(seed: int, sizes: np.ndarray):
    q = np.random.default_rng(seed).dirichlet(np.ones(4), 6)
    weight = np.array([0.6, 0.9, 1.1, 1.5])
    whole = undo_in_reactions(q[:, None], weight, sizes if len(sizes) else np.array([1.0]))[0]
    np.testing.assert_allclose(undo_by_latent(q, weight, sizes)[0], whole, rtol=1e-8)


@given(st.integers(0, 2**32 - 1), SIZES)
def test_a_latent_that_counts_once_more_moves_what_is_said_as_far_as_told(seed: int, sizes: np.ndarray):
    q = np.random.default_rng(seed).dirichlet(np.ones(4), 6)
    weight, often = np.array([0.6, 0.9, 1.1, 1.5]), 2000
    p, moved = undo_by_latent(q, weight, sizes)
    more, _ = undo_by_latent(np.concatenate([np.tile(q, (often, 1)), q[:1]]), weight, sizes)
    np.testing.assert_allclose((more - p) * len(q) * often, moved[0], atol=1e-3)
    np.testing.assert_allclose(moved.mean(axis=0), 0, atol=1e-12)
