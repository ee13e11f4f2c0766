"""What cannot be learned is refused by name, before the first step; what is denied is left out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from emojigan.datasets.emojis.vectors.word2vec import keyed, load_vectors, save_vectors
from emojigan.datasets.errors import InputError
from emojigan.datasets.store.folder import LocalFolder
from emojigan.trainer.config import Config
from emojigan.trainer.inputs import Inputs, read_inputs
from emojigan.trainer.model.sight import Sight


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


def denying(shards: Path, vectors: Path, *emojis: str) -> Inputs:
    return read_inputs(Config.model_validate({"data": {"deny": emojis}}), LocalFolder(shards), vectors)


def test_a_denied_emoji_is_in_no_vocabulary_and_its_tuples_weigh_nothing(shards: Path, vectors_file: Path):
    everything, inputs = denying(shards, vectors_file), denying(shards, vectors_file, "😂", "🌊")
    counts = everything.origin.vocabulary
    assert inputs.vocabulary == tuple(emoji for emoji in counts if emoji not in "😂🌊")
    weighs = dict(zip(counts, inputs.tuple_weights.tolist(), strict=True))
    assert {emoji for emoji, weight in weighs.items() if weight == 0} == {"😂", "🌊"}
    # All together they weigh as many as before, so that losses stay what they are.
    assert sum(weighs[emoji] * counts[emoji] for emoji in counts) == pytest.approx(sum(counts.values()))
    assert inputs.train.sizes == everything.train.sizes  # the order is of the manifest alone


def test_variants_cannot_be_denied_of_shards_that_have_none(shards: Path, vectors_file: Path):
    with pytest.raises(InputError, match=r"no variants such as 👍🏽\. Deny 👍"):
        denying(shards, vectors_file, "👍🏽")


def test_in_a_reaction_the_emojis_beside_a_denied_one_stay(shards: Path, vectors_file: Path):
    inputs = denying(shards, vectors_file, "😂")
    place = {emoji: number for number, emoji in enumerate(inputs.train.manifest.vocabulary)}
    sight = Sight(
        seed=0,
        augments=False,
        precision=torch.float32,
        ids=inputs.ids,
        tuple_weights=inputs.tuple_weights,
        latent_dim=4,
        feature_dim=4,
        dropout=0,
    )
    emoji = torch.tensor([[place["😂"], place["🔥"]], [place["😂"], -1]])
    seen = sight.see(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), emoji, torch.tensor([0, 0]), latents=1)
    assert seen.present.tolist() == [[1, 0], [0, 0]]
    assert inputs.vocabulary[int(seen.emoji[0, 0])] == "🔥"
    assert seen.weight[0] > 0 == seen.weight[1]


def test_tuples_that_are_denied_are_told_apart_from_those_without_vector(
    shards: Path, vectors_file: Path, tmp_path: Path
):
    vectors = load_vectors(vectors_file)
    rows = [row for row, emoji in enumerate(vectors.emojis) if emoji not in "🐶🌊"]
    save_vectors(keyed([vectors.emojis[row] for row in rows], vectors.matrix[rows]), tmp_path / "few.bin")
    inputs = denying(shards, tmp_path / "few.bin", "😂", "🌊")
    counts = inputs.train.manifest.vocabulary
    assert inputs.num_without_vector == counts["🐶"]
    assert inputs.num_denied == counts["😂"] + counts["🌊"]


def test_a_list_that_leaves_nothing_to_tell_apart_is_refused(shards: Path, vectors_file: Path):
    everything = denying(shards, vectors_file).vocabulary
    with pytest.raises(InputError, match=r"Of 8 emojis with a vector 1 are not denied, .*\. Shorten the"):
        denying(shards, vectors_file, *everything[1:])
