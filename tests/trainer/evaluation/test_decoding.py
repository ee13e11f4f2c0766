"""Decoding free outputs: hubs are seen and corrected, and what is not a hub is left alone."""

import numpy as np

from emojigan.trainer.evaluation.decoding import csls, decode, frequencies, inverted_softmax


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def a_space(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors [V, d], the first of which lies in the middle of all others; outputs near the others; whose."""
    rng = np.random.default_rng(seed)
    middle = unit(rng.normal(size=40))
    vectors = unit(middle + 0.9 * unit(rng.normal(size=(30, 40))))
    vectors[0] = middle
    of = rng.integers(1, 30, size=3000)
    # outputs are drawn together, as a generator that is not yet sharp draws them
    return vectors, unit(vectors[of] + 0.8 * middle + 0.9 * unit(rng.normal(size=(3000, 40)))), of


def test_a_hub_takes_what_is_others_and_both_corrections_give_it_back():
    vectors, outputs, of = a_space()
    nearest = decode(outputs[:, None], vectors, np.zeros(30))[:, 0]
    assert (nearest == 0).mean() > 0.25
    for offsets in (csls(outputs, vectors), inverted_softmax(outputs, vectors)):
        corrected = decode(outputs[:, None], vectors, offsets)[:, 0]
        assert (corrected == 0).mean() < 0.6 * (nearest == 0).mean()
        assert (corrected == of).mean() > (nearest == of).mean() + 0.1


def test_offsets_by_hand():
    bank, vectors = np.eye(3), np.array([[1.0, 0, 0], [0.6, 0.8, 0]])
    assert np.allclose(csls(bank, vectors), [1 / 6, (0.6 + 0.8) / 6])
    assert np.allclose(inverted_softmax(bank, vectors)[0], np.log(np.exp(30) + 2) / 30)


def test_where_no_emoji_is_nearer_in_general_nothing_changes():
    vectors = np.eye(6)
    outputs = unit(np.eye(6)[np.tile(np.arange(6), 50)] + 0.1)
    nearest = decode(outputs[:, None], vectors, np.zeros(6))
    for offsets in (csls(outputs, vectors), inverted_softmax(outputs, vectors)):
        assert (decode(outputs[:, None], vectors, offsets) == nearest).all()


def test_frequencies_are_of_each_image():
    assert frequencies(np.array([[0, 2, 2, 2], [1, 1, 0, 0]]), 3).tolist() == [[0.25, 0, 0.75], [0.5, 0.5, 0]]
