"""Runs beside each other: the better one is said, level ones are not, and others are refused."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from emojigan.datasets.errors import InputError
from emojigan.datasets.store.folder import LocalFolder
from emojigan.trainer.config import Config
from emojigan.trainer.evaluation import compare
from emojigan.trainer.evaluation.baselines.baseline import Candidate, chunked, values_of
from emojigan.trainer.evaluation.compare import DECIDES, Compared, compare_runs, verdicts
from emojigan.trainer.evaluation.evaluate import judge_all
from emojigan.trainer.evaluation.listing import list_runs
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
    return Compared(tuple(judge_all(models, scene)), {}, "by account")


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


@pytest.mark.parametrize("what", ["dataset", "vocabulary"])
def test_runs_that_were_not_asked_the_same_are_refused(monkeypatch: pytest.MonkeyPatch, what: str):
    def best_of(run: Path) -> tuple[Path, SimpleNamespace]:
        facts = {"dataset": "a", "vocabulary": ("😂",)} | ({what: "other"} if run.name == "two" else {})
        return run, SimpleNamespace(facts=SimpleNamespace(**facts))

    monkeypatch.setattr(compare, "best_of", best_of)
    with pytest.raises(InputError, match=f"two was trained on another {what} than one"):
        compare_runs([Path("one"), Path("two")])


def test_a_folder_without_runs_says_how_to_make_one(tmp_path: Path):
    with pytest.raises(InputError, match="has no run: `emojigan train"):
        list_runs(tmp_path)


def test_a_run_that_cannot_be_read_is_listed_with_its_trouble(tmp_path: Path):
    (tmp_path / "one" / "two").mkdir(parents=True)
    (tmp_path / "one" / "two" / "config.yaml").write_text("data: [")
    (found,) = list_runs(tmp_path)
    assert found.path == tmp_path / "one" / "two" and found.trouble and "config.yaml" in found.trouble
