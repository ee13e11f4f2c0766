"""emoji2vec's file: no junk, one row of twins, the untrained are found, and the missing filled."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from emojigan.datasets.emojis.text import all_canonical
from emojigan.datasets.emojis.vectors.emoji2vec import clean, fill, never_trained
from emojigan.datasets.emojis.vectors.names import build_vectors
from emojigan.datasets.emojis.vectors.word2vec import keyed, load_vectors, match, unit
from emojigan.launch.cli import main

JUNK = ("🇺", "\u200d", "\ue50a")
UNTRAINED = ("📸", "👍🏽", "👩‍👩‍👧‍👦")
RNG = np.random.default_rng(0)


def untrained() -> np.ndarray:
    row = RNG.uniform(-0.1, 0.1, 300)
    return row / np.linalg.norm(row)


@pytest.fixture(scope="module")
def world() -> dict[str, np.ndarray]:
    """Every canonical emoji's true vector: the default table's, turned, about a common part, with noise."""
    table = build_vectors()
    emojis = all_canonical()
    turned = np.stack([table[e] for e in emojis]) @ np.linalg.qr(RNG.normal(size=(300, 300)))[0]
    rows = unit(0.5 * untrained() + turned + RNG.normal(size=turned.shape) * 0.02)
    return dict(zip(emojis, rows, strict=True))


@pytest.fixture(scope="module")
def file(world, tmp_path_factory) -> Path:
    """Like emoji2vec.bin: every second emoji, twins, junk and rows that were never trained."""
    rows = {e: world[e] for e in all_canonical()[::2]} | {e: world[e] for e in ("📷", "❤")}
    rows = {e: row for e, row in rows.items() if e not in UNTRAINED and e not in "⚾📹"}
    rows |= {e: untrained() for e in (*JUNK, *UNTRAINED)}
    rows["❤️"] = unit(world["❤"][None] + 0.02 * RNG.normal(size=(1, 300)))[0]  # the qualified twin
    rows |= {"⚾️": world["⚾"], "⚾": untrained()}  # only the over-qualified twin was trained
    rows |= {"✌": untrained(), "✌️": untrained()}
    path = tmp_path_factory.mktemp("emoji2vec") / "emoji2vec.bin"
    table = keyed(list(rows), np.stack(list(rows.values())).astype(np.float32))
    table.save_word2vec_format(str(path), binary=True)
    return path


@pytest.fixture(scope="module")
def completed(file, tmp_path_factory):
    out = tmp_path_factory.mktemp("completed") / "vectors.bin"
    result = CliRunner().invoke(main, ["vectors", "build", "--from", str(file), "--out", str(out)])
    assert result.exit_code == 0, result.output
    return load_vectors(out), result.stdout


def test_keys_that_are_no_emojis_are_dropped(file):
    cleaned = clean(file)
    assert set(cleaned.junk) == set(JUNK)
    assert not {*JUNK, "️"} & cleaned.rows.keys()


def test_of_twins_the_trained_key_wins_then_the_qualified(file, world):
    cleaned = clean(file)
    assert {"❤", "⚾", "✌"} == set(cleaned.twins)
    np.testing.assert_allclose(cleaned.rows["⚾"], world["⚾"], atol=1e-6)
    assert np.abs(cleaned.rows["❤"] - world["❤"]).max() > 1e-3  # the row of ❤️, not of ❤


def test_rows_that_were_never_trained_are_found_and_no_others(file):
    assert set(clean(file).untrained) == {*UNTRAINED, "✌"}


def test_a_row_trained_for_a_few_steps_is_not_taken_for_untrained():
    isolated = np.sign(RNG.normal(size=(20, 300))) + 0.05 * RNG.normal(size=(20, 300))  # as Adam leaves them
    initial = RNG.uniform(-0.1, 0.1, (20, 300))
    found = never_trained(np.concatenate([isolated, initial]))
    assert found.tolist() == [False] * 20 + [True] * 20


def test_a_row_near_another_was_trained():
    row = untrained()
    assert not never_trained(np.stack([row, row + 0.01 * untrained()])).any()


def test_every_canonical_emoji_has_a_vector_of_its_own(completed):
    vectors, _ = completed
    assert set(all_canonical()) <= set(vectors.emojis)
    np.testing.assert_allclose(np.linalg.norm(vectors.matrix, axis=1), 1, atol=1e-5)


def test_what_was_trained_stays_as_it_was_and_what_was_filled_is_marked(completed, file):
    vectors, _ = completed
    rows = clean(file).rows
    assert set(vectors.origin.filled) == set(all_canonical()) - rows.keys()
    assert {"📸", "✌", "📹"} <= set(vectors.origin.filled)
    for e, row in zip(vectors.emojis, vectors.matrix, strict=True):
        assert e in vectors.origin.filled or np.array_equal(row, rows[e])


def test_an_untrained_variant_is_left_to_its_emoji(completed):
    vectors, _ = completed
    assert "👍🏽" not in vectors.emojis
    np.testing.assert_array_equal(match(vectors, ["👍🏽"])[0], match(vectors, ["👍"])[0])


def test_the_filled_are_nearer_to_the_truth_than_the_mean_is(completed, world):
    vectors, _ = completed
    filled = [e for e in vectors.origin.filled if e in world]
    rows, _ = match(vectors, filled)
    truth = np.stack([world[e] for e in filled])
    mean = unit(np.stack(list(world.values())).mean(axis=0, keepdims=True))
    assert (rows * truth).sum(axis=1).mean() > (truth @ mean.T).mean() + 0.15
    facts = vectors.origin.facts
    assert facts["held-out cosine"] > facts["held-out cosine of the mean vector"] + 0.15


def test_a_repaired_emoji_has_sensible_neighbours(completed):
    vectors, _ = completed
    rows, _ = match(vectors, all_canonical())
    nearest = np.argsort(-(rows @ match(vectors, ["📸"])[0][0]))[:6]
    assert "📷" in [all_canonical()[i] for i in nearest]


def test_building_tells_what_it_did(completed, file):
    vectors, output = completed
    assert vectors.origin.sources.keys() == {file.name}
    assert "junk: 3\n" in output
    assert "twins: 3\n" in output
    assert "📸" in next(line for line in output.splitlines() if line.startswith("never trained: "))
    assert f"{len(vectors.origin.filled)} of them filled" in output


def test_building_twice_gives_the_same_bytes(completed, file, tmp_path):
    out = tmp_path / "again.bin"
    assert (
        CliRunner().invoke(main, ["vectors", "build", "--from", str(file), "--out", str(out)]).exit_code == 0
    )
    assert load_vectors(out).sha256 == completed[0].sha256


def test_a_linear_world_is_filled_almost_exactly():
    features = RNG.normal(size=(400, 20))
    rows = np.concatenate([np.ones((400, 5)), features @ RNG.normal(size=(20, 60))], axis=1)
    rows = unit(rows)
    estimates, fit = fill(features[:300] @ features[:300].T, rows[:300], features[300:] @ features[:300].T)
    assert fit.cosine > 0.97 > 0.5 > fit.cosine_of_mean
    assert fit.median_rank == 1
    assert (estimates * rows[300:]).sum(axis=1).mean() > 0.97


def test_the_filled_are_as_long_as_the_trained_and_no_closer_to_their_mean():
    features = RNG.normal(size=(300, 30))
    rows = 3 * unit(0.5 + features @ RNG.normal(size=(30, 50)) + 8 * RNG.normal(size=(300, 50)))
    estimates, _ = fill(features[:200] @ features[:200].T, rows[:200], features[200:] @ features[:200].T)
    np.testing.assert_allclose(np.linalg.norm(estimates, axis=1), 3)
    mean = unit(rows[:200].mean(axis=0, keepdims=True))[0]
    assert abs((estimates @ mean).mean() - (rows @ mean).mean()) < 0.3


def test_an_emoji_like_no_other_takes_the_mean():
    rows = unit(1 + RNG.normal(size=(60, 10)))
    features = RNG.normal(size=(60, 4))
    estimates, _ = fill(features @ features.T, rows, np.zeros((1, 60)))
    np.testing.assert_allclose(estimates[0], rows.mean(axis=0), atol=1e-6)
