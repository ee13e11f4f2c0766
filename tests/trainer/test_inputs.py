"""Vectors with which nothing can be learned are refused by name, before the first step."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from emojigan.datasets.emojis.vectors.word2vec import keyed, load_vectors, save_vectors
from emojigan.datasets.errors import InputError
from emojigan.datasets.store.folder import LocalFolder
from emojigan.trainer.config import Config
from emojigan.trainer.inputs import read_inputs


def one(value: float) -> Callable[[np.ndarray], None]:
    """Gives the second vector this number everywhere."""
    return lambda matrix: matrix[1].fill(value)


def every(value: float) -> Callable[[np.ndarray], None]:
    return lambda matrix: matrix.fill(value)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (one(0), "1 of 8 vectors are zero: {1}. Take them out of the file, and their tuples do not count"),
        (one(1e-30), "1 of 8 vectors are zero: {1}."),
        (every(0), "8 of 8 vectors are zero: {all}."),
        (one(1e20), "1 of 8 vectors are too large for float32: {1}."),
        (every(0.3), "the vectors of all 8 emojis are the same, so none can be told from another."),
        (one(float("nan")), "holds NaN or infinity for {1}: give a word2vec file of finite vectors"),
    ],
)
def test_vectors_that_cannot_train_are_refused_by_name(
    shards: Path, vectors_file: Path, tmp_path: Path, change, said: str, center: bool
):
    vectors = load_vectors(vectors_file)
    matrix = vectors.matrix.copy()
    change(matrix)
    path = tmp_path / "vectors.bin"
    save_vectors(keyed(list(vectors.emojis), matrix), path)
    config = Config.model_validate({"model": {"center_vectors": center}})
    with pytest.raises(InputError) as refused:
        read_inputs(config, LocalFolder(shards), path)
    message, second = str(refused.value), vectors.emojis[1]
    start, _, rest = said.partition("{")
    named = second if rest.startswith("1}") else ""
    assert start + named in message
    assert "\n" not in message
    if rest.startswith("all}"):
        assert all(emoji in message for emoji in vectors.emojis)


def test_vectors_of_any_size_that_float32_can_square_are_taken(
    shards: Path, vectors_file: Path, tmp_path: Path
):
    vectors = load_vectors(vectors_file)
    for factor in (1e-15, 1e15):
        path = tmp_path / f"{factor}.bin"
        save_vectors(keyed(list(vectors.emojis), (vectors.matrix * factor).astype(np.float32)), path)
        inputs = read_inputs(Config(), LocalFolder(shards), path)
        assert inputs.vectors.isfinite().all()
        assert inputs.vectors.std() == pytest.approx(1, rel=1e-2)
