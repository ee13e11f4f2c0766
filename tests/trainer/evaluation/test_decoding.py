"""Decoding free outputs: hubs are seen and corrected, and what is not a hub is left alone."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from emojigan.datasets.emojis.weights import undo
from emojigan.datasets.store.folder import LocalFolder
from emojigan.trainer.config import Config
from emojigan.trainer.evaluation.baselines.neighbours import counts
from emojigan.trainer.evaluation.decoding import csls, decode, decodings, frequencies, inverted_softmax
from emojigan.trainer.evaluation.metrics.scene import set_scene, spread
from emojigan.trainer.inputs import read_inputs
from emojigan.trainer.validation import read_val


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


def test_a_free_output_is_judged_as_decoded_otherwise_and_beside_what_geometry_alone_does(
    shards: Path, vectors_file: Path
):
    inputs = read_inputs(Config(), LocalFolder(shards), vectors_file)
    scene, val = set_scene(inputs, vectors_file, None), read_val(inputs)
    known = np.eye(len(inputs.vocabulary))

    def outputs(images: torch.Tensor, *, num_samples: int, seed: int) -> np.ndarray:
        emojis = np.random.default_rng(seed).integers(len(known), size=(len(images), num_samples))
        return known[emojis].astype(np.float32)

    snapshot: Any = SimpleNamespace(
        is_tied=False,
        is_weighted=True,
        weights=np.linspace(1, 2, len(known)),
        outputs=outputs,
        facts=SimpleNamespace(vocabulary=inputs.vocabulary),
        generator=SimpleNamespace(vectors=torch.from_numpy(known)),
    )
    given: Any = SimpleNamespace(val=val, scene=scene)
    csls_, inverted, alone = decodings(snapshot, given)
    for each in (csls_, inverted, alone):
        assert each.q is not None and each.q.sum(axis=1) == pytest.approx(1)
    expected = undo(outputs(scene.held_out.images, num_samples=50, seed=0).mean(axis=1), snapshot.weights)
    assert csls_.q == pytest.approx(spread(expected, scene))
    said = counts(scene.held_out, inputs.vocabulary)
    assert ((alone.q[scene.first_tuple][:, : len(known)] > 0) <= (said > 0)).all()  # nothing lies off
    without_val: Any = SimpleNamespace(val=None, scene=scene)
    assert [*decodings(snapshot, without_val)] == []
