"""Runs beside each other: the better one is said, level ones are not, and others are refused."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from emojigan.datasets.errors import InputError
from emojigan.datasets.store.folder import LocalFolder
from emojigan.trainer.config import Config, resolve
from emojigan.trainer.evaluation import compare
from emojigan.trainer.evaluation.baselines.baseline import Candidate, chunked, values_of
from emojigan.trainer.evaluation.bootstrap import Resamples
from emojigan.trainer.evaluation.compare import DECIDES, Compared, by_seed, compare_runs, verdicts
from emojigan.trainer.evaluation.evaluate import METRIC, Scored, beside_first, judge_all
from emojigan.trainer.evaluation.listing import Listed, format_runs, list_runs
from emojigan.trainer.evaluation.metrics.metric import Floats
from emojigan.trainer.evaluation.metrics.scene import Scene, set_scene, spread
from emojigan.trainer.inputs import read_inputs


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
    return Compared(tuple(judge_all(models, scene)), {}, "by account", 0)


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


def test_without_two_runs_that_differ_in_the_seed_alone_nothing_is_known_of_seeds():
    assert by_seed([]) == {}
    one, two, three = (
        resolve("tuples", None, {"seed": seed, "dropout": d}) for seed, d in ((1, 0), (2, 0), (1, 0.5))
    )
    assert compare._alike([one, two, three]) == [[0, 1]]
    assert compare._alike([one, three]) == []


def test_of_two_as_good_as_each_other_hardly_one_is_called_better_and_a_worse_one_is(scene: Scene):
    equal, worse = [], []
    for seed in range(20):
        models = [model(str(n), scene, 10 * seed + n, 0.5) for n in range(3)]
        found = compared(scene, *models, model("bad", scene, 10 * seed + 3, 4.0)).models[1:]
        equal += [each.beside[DECIDES[0]].word for each in found[:2]]
        worse.append(found[2].beside[DECIDES[0]].word)
    assert equal.count("level") >= 34  # of 40 two are to be another word; seven are one time of 500
    assert worse == ["better"] * 20  # what the first is beside it


def test_a_verdict_is_one_sentence_about_what_decides_and_one_about_the_rest(scene: Scene):
    good, bad = model("good", scene, 0, 0.1), model("bad", scene, 1, 2.0)
    (line,) = verdicts(compared(scene, good, bad))
    assert line.startswith("good is better than bad: NLL of a reaction ")
    assert "other metrics it is better on " in line
    (line,) = verdicts(compared(scene, bad, good))
    assert line.startswith("bad is worse than good: ")
    (line,) = verdicts(compared(scene, good, good))
    assert line.startswith("good is level with good: ") and "difference [+0.000, +0.000]" in line


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
    one = Listed(Path("runs/a"), "tuple", 10, 10, "sha256:1", "recipe", {"nll": 2.0})
    two, other = replace(one, path=Path("runs/b"), scores={"nll": 2.2}), replace(one, recipe="another")
    *_, line = format_runs([one, two, other]).splitlines()
    assert line.split() == ["runs/a,", "2", "seeds", "tuples", "–", "2.100", "±", "0.141", "–"]
    assert len(format_runs([one, other]).splitlines()) == 3
