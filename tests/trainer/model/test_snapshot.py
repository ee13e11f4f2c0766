"""A snapshot answers as the generator it was made of, and says where it comes from."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from emojigan.datasets.errors import InputError
from emojigan.trainer.config import resolve
from emojigan.trainer.facts import Facts, best_snapshot, keep_snapshots
from emojigan.trainer.model.augment import normalise
from emojigan.trainer.model.networks import Generator
from emojigan.trainer.model.noise import even_normal
from emojigan.trainer.model.snapshot import Snapshot, load_snapshot, save_snapshot
from emojigan.trainer.run import CHECKPOINTS, SNAPSHOTS, step_name, steps_in

RECIPES = ("tuples", "paper")
SIZE, VOCABULARY = 32, ("😍", "😂", "🔥", "🐶", "🌊")
WEIGHTS = np.array([0.5, 0.8, 1.0, 1.2, 2.0])
TINY = {"trunk_width": 4, "feature_dim": 8, "hidden_dim": 16, "latent_dim": 4}


def make(recipe: str = "tuples", step: int = 10, nll: float = 1.5, **options: bool) -> Snapshot:
    torch.manual_seed(0)
    config = resolve(recipe, None, TINY | options).model
    generator = Generator(config, torch.randn(len(VOCABULARY), 12), SIZE).requires_grad_(False)
    generator.output.weight.mul_(20)  # far from uniform
    generator.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    facts = Facts(
        step=step,
        image_size=SIZE,
        model=config.model_dump(),
        vocabulary=VOCABULARY,
        dataset="d" * 64,
        vectors="v" * 64,
        scores={"nll": nll},
    )
    return Snapshot(facts, generator, WEIGHTS)


def save(run: Path, snapshot: Snapshot) -> Path:
    path = run / SNAPSHOTS / step_name(snapshot.facts.step)
    save_snapshot(path, snapshot.facts, snapshot.generator, snapshot.weights)
    return path


def images(number: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (number, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)


def ask(snapshot: Snapshot, num_samples: int = 30, seed: int = 0, raw: bool = False) -> np.ndarray:
    return snapshot.distribution(images(), num_samples=num_samples, seed=seed, raw=raw)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_loaded_snapshot_answers_like_the_saved_one(tmp_path: Path, recipe: str):
    snapshot = make(recipe)
    assert np.allclose(ask(load_snapshot(save(tmp_path, snapshot))), ask(snapshot), rtol=1e-5, atol=1e-9)


def test_a_loaded_snapshot_says_what_the_saved_one_said(tmp_path: Path):
    snapshot = make()
    loaded = load_snapshot(save(tmp_path, snapshot))
    assert loaded.facts == snapshot.facts
    assert (loaded.weights == WEIGHTS).all() and loaded.weights.dtype == np.float64
    assert torch.equal(loaded.generator.vectors, snapshot.generator.vectors)


def kept(run: Path, last: int, *checkpoints: int) -> list[str]:
    """What is there after the last snapshot."""
    saved = [run / CHECKPOINTS / step_name(step) for step in checkpoints]
    keep_snapshots(steps_in(run / SNAPSHOTS), last, saved)
    return [path.name for path in (run / SNAPSHOTS).iterdir()]


def test_of_many_snapshots_the_last_are_kept_and_the_best(tmp_path: Path):
    for step, nll in enumerate((3.0, 1.0, 2.5, 2.0, 1.5)):
        save(tmp_path, make(step=step, nll=nll))
        kept(tmp_path, 2)
    assert sorted(kept(tmp_path, 2)) == [step_name(step) for step in (1, 3, 4)]


def test_the_best_is_kept_of_those_that_a_killed_training_keeps(tmp_path: Path):
    for step, nll in enumerate((3.0, 2.0, 2.5, 1.0, 1.5)):
        save(tmp_path, make(step=step, nll=nll))
    assert sorted(kept(tmp_path, 1, 0, 2)) == [step_name(step) for step in (1, 3, 4)]


def test_what_was_left_in_the_middle_of_a_removal_is_removed(tmp_path: Path):
    for step in (1, 2):
        save(tmp_path, make(step=step))
    (tmp_path / SNAPSHOTS / f".{step_name(0)}.tmp").mkdir()
    assert kept(tmp_path, 1) == [step_name(2)]


def test_beside_a_damaged_snapshot_none_is_removed(tmp_path: Path):
    damaged, *_ = [save(tmp_path, make(step=step)) for step in (1, 2, 3)]
    (damaged / "snapshot.json").write_text("{", encoding="utf-8")
    assert len(kept(tmp_path, 1)) == 3


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_row_sums_to_one(recipe: str, raw: bool):
    distribution = ask(make(recipe), raw=raw)
    assert distribution.shape == (6, len(VOCABULARY)) and distribution.dtype == np.float64
    assert (distribution >= 0).all()
    assert np.abs(distribution.sum(axis=1) - 1).max() < 1e-12


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_seed_decides_the_answer(recipe: str):
    snapshot = make(recipe)
    first = ask(snapshot, seed=1)
    torch.rand(3)
    assert (ask(snapshot, seed=1) == first).all()
    assert (ask(snapshot, seed=2) != first).any()


def test_the_answer_to_an_image_does_not_depend_on_the_others():
    snapshot = make()
    one = snapshot.distribution(images()[2:3], num_samples=30, seed=0)
    assert np.allclose(one[0], ask(snapshot)[2], rtol=1e-5)


def test_more_images_than_fit_at_once_all_get_an_answer():
    many = images(300)
    distribution = make().distribution(many, num_samples=2, seed=0)
    last = make().distribution(many[-1:], num_samples=2, seed=0)
    assert len(distribution) == 300 and np.allclose(distribution[-1], last[0], rtol=1e-5)


def test_the_training_weights_are_undone():
    snapshot = make()
    divided = ask(snapshot, raw=True) / WEIGHTS
    assert np.allclose(ask(snapshot), divided / divided.sum(axis=1, keepdims=True), rtol=1e-12)


def test_weights_of_one_leave_the_answer_alone():
    snapshot = replace(make(), weights=np.ones(len(VOCABULARY)))
    assert np.allclose(ask(snapshot), ask(snapshot, raw=True), rtol=1e-12)


def test_a_tied_answer_is_the_mean_of_q_over_the_latents():
    snapshot = make("tuples")
    latents = even_normal(30, 4, seed=0)
    generator, pictures = snapshot.generator, normalise(images())
    q = [generator.log_probabilities(generator(pictures, z.expand(6, -1))).exp() for z in latents]
    assert np.allclose(ask(snapshot, raw=True), torch.stack(q).mean(0).numpy(), atol=1e-6)


def test_the_answer_is_the_mean_of_those_of_its_latents():
    snapshot = make()
    of_each = snapshot.by_latent(images(300), num_samples=7, seed=3)
    whole = snapshot.distribution(images(300), num_samples=7, seed=3, raw=True)
    assert of_each.shape == (300, 7, len(VOCABULARY))
    np.testing.assert_allclose(of_each.mean(axis=1), whole, atol=1e-6)


def test_a_free_answer_counts_the_nearest_emojis():
    snapshot = make("paper")
    latents = even_normal(30, 4, seed=0)
    generator, pictures = snapshot.generator, normalise(images())
    nearest = torch.stack(
        [
            torch.cosine_similarity(output[:, None], generator.vectors[None], dim=2).argmax(dim=1)
            for output in (generator(pictures, z.expand(6, -1)) for z in latents)
        ]
    )
    counts = [[(row == emoji).sum().item() for emoji in range(len(VOCABULARY))] for row in nearest.T]
    assert np.allclose(ask(snapshot, raw=True), np.array(counts) / 30, atol=1e-12)


def test_the_best_snapshot_has_the_lowest_nll(tmp_path: Path):
    for step, nll in ((10, 1.9), (20, 1.2), (30, 1.4)):
        save(tmp_path, make(step=step, nll=nll))
    assert best_snapshot(steps_in(tmp_path / SNAPSHOTS)) == tmp_path / SNAPSHOTS / step_name(20)


def test_what_was_not_scored_comes_after_what_was_and_the_last_of_it_first(tmp_path: Path):
    for step in (10, 20, 30):
        snapshot = make(step=step, nll=1.9)
        if step != 10:
            snapshot.facts.scores.clear()
        save(tmp_path, snapshot)
    paths = steps_in(tmp_path / SNAPSHOTS)
    assert best_snapshot(paths) == paths[0]
    assert best_snapshot(paths[1:]) == paths[2]


@pytest.mark.parametrize("file", ["generator.safetensors", "snapshot.json"])
def test_a_damaged_best_snapshot_is_told_and_no_other_taken_in_silence(tmp_path: Path, file: str):
    for step, nll in ((10, 1.9), (20, 1.2)):
        path = save(tmp_path, make(step=step, nll=nll))
    os.truncate(path / file, 100)
    with pytest.raises(InputError, match=rf"{path.name} is .*damaged\. Remove it, and the best other"):
        best_snapshot(steps_in(tmp_path / SNAPSHOTS))


def test_of_no_snapshots_none_is_the_best(tmp_path: Path):
    assert best_snapshot(steps_in(tmp_path / SNAPSHOTS)) is None


@pytest.mark.parametrize("file", ["generator.safetensors", "vectors.safetensors", "snapshot.json"])
def test_a_snapshot_without_one_of_its_files_is_refused(tmp_path: Path, file: str):
    path = save(tmp_path, make())
    (path / file).unlink()
    with pytest.raises(InputError, match="is not a whole snapshot"):
        load_snapshot(path)


def test_a_missing_snapshot_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="nowhere is not a whole snapshot"):
        load_snapshot(tmp_path / "nowhere")


def test_a_snapshot_saved_again_replaces_the_old_one(tmp_path: Path):
    save(tmp_path, make(nll=1.5))
    path = save(tmp_path, make(nll=1.25))
    assert json.loads((path / "snapshot.json").read_text())["scores"] == {"nll": 1.25}
    assert [each.name for each in path.parent.iterdir()] == [path.name]
