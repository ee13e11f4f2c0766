"""Runs beside each other: the better one is said, level ones are not, and others are refused."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from emojigan.datasets.errors import InputError
from emojigan.datasets.store.folder import LocalFolder
from emojigan.trainer.config import Config, resolve
from emojigan.trainer.evaluation import compare
from emojigan.trainer.evaluation.baselines.baseline import Candidate, chunked, values_of
from emojigan.trainer.evaluation.bootstrap import DRAWS, Resamples
from emojigan.trainer.evaluation.compare import Compared, compare_models, compare_runs, verdicts
from emojigan.trainer.evaluation.judge import METRIC, Scored, beside_first, by_seed, score_all
from emojigan.trainer.evaluation.listing import Listed, format_runs, list_runs
from emojigan.trainer.evaluation.metrics.metric import Floats
from emojigan.trainer.evaluation.metrics.scene import Scene, set_scene, spread
from emojigan.trainer.facts import Facts
from emojigan.trainer.inputs import Inputs, read_inputs
from emojigan.trainer.model.networks import Generator
from emojigan.trainer.model.snapshot import Snapshot

from ..model.test_snapshot import TINY


@pytest.fixture(scope="module")
def scene(shards: Path, vectors_file: Path) -> Scene:
    return set_scene(read_inputs(Config(), LocalFolder(shards), vectors_file), vectors_file, None)


def model(label: str, scene: Scene, seed: int, off: float) -> Candidate:
    """One that is off by as much under each image, by chance in another direction."""
    rng = np.random.default_rng(seed)
    logits = np.log(scene.shares + 0.02) + off * rng.normal(
        size=(len(scene.held_out.images), len(scene.shares))
    )
    q: Floats = np.exp(logits)
    q /= q.sum(axis=1, keepdims=True)
    return Candidate(label, "as good as it is", spread(q, scene), values_of(chunked(q[:, None]), scene))


def compared(scene: Scene, *models: Candidate) -> Compared:
    return Compared(tuple(beside_first([*score_all(models, scene)])), {}, "by account")


def seeds(rng: np.random.Generator, mean: float, posts: np.ndarray) -> list[Scored]:
    """Three trainings of a recipe, each of which is off by chance, on the same posts."""
    resamples = Resamples.of(len(posts))
    found = []
    for name in "abc":
        values = posts + mean + 0.1 * rng.normal() + 0.3 * rng.normal(size=len(posts))
        drawn = resamples.scores(METRIC["nll"], values, np.arange(len(posts)))
        found.append(Scored(name, "", {"nll": values.mean()}, {"nll": drawn}))
    return found


def test_seeds_of_a_recipe_are_level_and_recipes_that_differ_by_more_are_not():
    rng, words = np.random.default_rng(0), {"same": [], "other": [], "without": []}
    for _ in range(60):
        posts = rng.exponential(size=300)
        one, other = seeds(rng, 0.0, posts), seeds(rng, 1.5, posts)
        chance = by_seed([one, other])
        words["same"] += [each.beside["nll"].word for each in beside_first(one, chance)[1:]]
        words["without"] += [each.beside["nll"].word for each in beside_first(one)[1:]]
        words["other"] += [each.beside["nll"].word for each in beside_first([one[0], *other], chance)[1:]]
    assert words["same"].count("level") >= 0.9 * 120
    assert words["without"].count("level") < 0.7 * 120  # by posts alone they differ, and rightly
    assert words["other"] == ["better"] * 180


def test_beside_what_has_no_seeds_a_difference_is_off_by_those_of_one_training():
    rng = np.random.default_rng(1)
    group = seeds(rng, 0.0, rng.exponential(size=300))
    one, both = by_seed([group], trainings=1)["nll"], by_seed([group])["nll"]
    np.testing.assert_allclose(both, np.sqrt(2) * one)


def test_only_several_seeds_of_one_recipe_vectors_and_dataset_tell_of_seeds():
    assert by_seed([]) == {}

    def groups(*runs: tuple[int, float, str]) -> list[list[int]]:
        """Of runs by seed, dropout and vectors."""
        keys = [{"seed": seed, "dropout": dropout} for seed, dropout, _ in runs]
        configs = [resolve("tuples", None, each) for each in keys]
        snapshots: Any = [SimpleNamespace(facts=SimpleNamespace(vectors=v, dataset="d")) for *_, v in runs]
        return compare._alike(configs, snapshots)

    assert groups((1, 0, "v"), (2, 0, "v"), (1, 0.5, "v")) == [[0, 1]]
    assert groups((1, 0, "v"), (1, 0, "v"), (2, 0, "other")) == []


def test_what_only_some_runs_have_is_told_by_those():
    def scored(**scores: float) -> Scored:
        return Scored("", "", scores, dict.fromkeys(scores, np.zeros(DRAWS)))

    free = [scored(nll=1.0), scored(nll=1.2)]
    tied = [scored(nll=2.0, reaction_nll=3.0), scored(nll=2.0, reaction_nll=3.5)]
    for groups in ([free, tied], [tied, free]):
        found = by_seed(groups)
        assert found.keys() == {"nll", "reaction_nll"}
        assert np.median(np.abs(found["reaction_nll"])) > np.median(np.abs(found["nll"])) > 0
    assert by_seed([[tied[0], free[0]]]).keys() == {"nll"}


def test_a_training_that_began_with_the_weights_of_another_is_of_another_recipe():
    cold, warm = (Config.model_validate({"run": {"init_from": path}}) for path in (None, "runs/first"))
    assert cold.but_seed() != warm.but_seed()
    assert cold.but_seed() == Config.model_validate({"optimizer": {"seed": 7}}).but_seed()


def test_with_weights_single_emojis_decide(scene: Scene):
    good, bad = model("good", scene, 0, 0.1), model("bad", scene, 1, 2.0)
    (line,) = verdicts(replace(compared(scene, good, bad), weighted=True))
    assert line.startswith("good is better than bad: Negative log-likelihood ")


@pytest.fixture(scope="module")
def inputs(shards: Path, vectors_file: Path) -> Inputs:
    return read_inputs(Config(), LocalFolder(shards), vectors_file)


def knowing(emojis: Sequence[str], size: int = 64) -> Snapshot:
    """A model that says the same of an emoji, whichever others it knows, and in whatever order."""
    torch.manual_seed(0)
    config = resolve("tuples", None, TINY).model
    of_each = (torch.Generator().manual_seed(ord(emoji[0])) for emoji in emojis)
    vectors = torch.stack([torch.randn(12, generator=each) for each in of_each])
    generator = Generator(config, vectors, size).requires_grad_(False)
    facts = Facts(1, size, config.model_dump(), tuple(emojis), "another", "v" * 64, {})
    return Snapshot(facts, generator, np.ones(len(emojis)))


def test_a_model_is_judged_alike_whatever_the_order_of_its_emojis(inputs: Inputs, vectors_file: Path):
    models = {"one": knowing(inputs.vocabulary), "other": knowing(inputs.vocabulary[::-1])}
    found = compare_models(models, inputs, vectors_file)
    one, other = found.models
    assert found.shared is None and found.elsewhere == ("one", "other")
    assert "reaction_nll" in one.scores
    drawn = {"mode_stability", "tv_50"}  # by samples, which the order deals
    assert {key: other.scores[key] for key in one.scores.keys() - drawn} == pytest.approx(
        {key: one.scores[key] for key in one.scores.keys() - drawn}, abs=1e-5
    )


def test_models_of_other_emojis_are_judged_by_what_both_say_of_those_that_both_know(
    inputs: Inputs, vectors_file: Path
):
    most = inputs.vocabulary[:-1]
    models = {"one": knowing(inputs.vocabulary), "other": knowing([*most, "🦄"])}
    found = compare_models(models, inputs, vectors_file)
    one, other = found.models
    assert found.shared == len(most) and "reaction_nll" not in one.scores
    # The share of the one that only one knows is another under each latent.
    assert other.scores["nll"] == pytest.approx(one.scores["nll"], abs=1e-3)


@pytest.mark.parametrize(
    ("emojis", "size", "told"),
    [(3, 64, "held-out tuples are of emojis that they all know"), (8, 32, "other wants images of 32 pixels")],
)
def test_models_that_cannot_be_asked_the_same_are_refused(
    inputs: Inputs, vectors_file: Path, emojis: int, size: int, told: str
):
    models = {"one": knowing(inputs.vocabulary), "other": knowing(inputs.vocabulary[:emojis], size)}
    with pytest.raises(InputError, match=told):
        compare_models(models, inputs, vectors_file)


def test_runs_that_know_other_emojis_are_refused(monkeypatch: pytest.MonkeyPatch):
    def best_of(run: Path) -> tuple[Path, SimpleNamespace]:
        return run, SimpleNamespace(facts=SimpleNamespace(vocabulary=("😂", run.name)))

    monkeypatch.setattr(compare, "best_of", best_of)
    monkeypatch.setattr(compare, "read_beginning", lambda run: (None, "shards", None))
    monkeypatch.setattr(compare, "reopen", lambda *_: (None, None, None))
    with pytest.raises(InputError, match="two says other emojis than one"):
        compare_runs([Path("one"), Path("two")])


def test_a_folder_without_runs_says_how_to_make_one(tmp_path: Path):
    with pytest.raises(InputError, match="has no run: `emojigan train"):
        list_runs(tmp_path)


def test_a_run_that_cannot_be_read_is_listed_with_its_trouble(tmp_path: Path):
    (tmp_path / "one" / "two").mkdir(parents=True)
    (tmp_path / "one" / "two" / "config.yaml").write_text("data: [")
    (found,) = list_runs(tmp_path)
    assert found.path == tmp_path / "one" / "two" and found.trouble and "config.yaml" in found.trouble


def test_seeds_of_one_recipe_are_told_together():
    one = Listed(Path("runs/a"), "tuple", 10, 10, "sha256:1", "recipe", 0, {"nll": 2.0})
    two, other = (
        replace(one, path=Path("runs/b"), seed=1, scores={"nll": 2.2}),
        replace(one, recipe="another"),
    )
    *_, line = format_runs([one, two, other]).splitlines()
    assert line.split() == ["runs/a,", "2", "seeds", "tuples", "–", "2.100", "±", "0.141", "–"]
    assert len(format_runs([one, other]).splitlines()) == 3
