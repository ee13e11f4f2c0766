"""A training that is no longer sane is told, and if asked ends with its best snapshot; no other is."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from emojigan.datasets.store.folder import LocalFolder
from emojigan.launch.cli import main
from emojigan.trainer.config import Config
from emojigan.trainer.facts import best_snapshot, read_facts
from emojigan.trainer.inputs import Inputs, read_inputs
from emojigan.trainer.tracking.mlflow_run import run_id_of
from emojigan.trainer.tracking.server import mlflow_client
from emojigan.trainer.tracking.tracker import SIGNS
from emojigan.trainer.watch import Watch

from ..conftest import TINY_NETWORKS

SANE = {"train/wasserstein": 2.0, "train/nll": 2.0, "train/score": -3.0, "train/emojis_said": 6.0}


@pytest.fixture
def train(
    shards: Path, vectors_file: Path, tmp_path: Path, environment: dict[str, str], monkeypatch
) -> Callable[..., Result]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", environment["MLFLOW_TRACKING_URI"])
    words = ["train", shards, "--vectors", vectors_file, "--out", tmp_path / "run", *TINY_NETWORKS]
    words += ["--precision", "float32", "--log-steps", "5", "--snapshot-steps", "3"]
    return lambda *more: CliRunner().invoke(main, [*map(str, words), *more])


def signs(run: Path) -> dict[int, float]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["train/signs"] for line in found if "train/signs" in line}


def test_a_learning_rate_at_which_it_diverges_is_told_once(train, tmp_path: Path):
    result = train("--learning-rate", "0.3", "--steps", "20")
    assert result.exit_code == 0, result.output
    assert result.output.count("it diverges: the critic tells real from drawn emojis by") == 1
    assert "DIVERGES" in result.output  # in the bar
    assert signs(tmp_path / "run")[5] >= 1
    assert "diverges" in mlflow_client().get_run(run_id_of(tmp_path / "run") or "").data.tags[SIGNS]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--learning-rate", "0.3"], "diverges"),
        (["--recipe", "paper", "--learning-rate", "1e-3"], "collapses"),
    ],
)
def test_it_ends_with_the_best_snapshot_when_it_is_asked_to_and_so_it_does_when_run_again(
    train, tmp_path: Path, options: list[str], word: str
):
    words = [*options, "--steps", "100", "--checkpoint-steps", "4", "--stop-on-collapse"]
    for _ in range(2):
        result = train(*words)
        assert result.exit_code == 0, result.output
        ended = re.search(r"stopped at step (\d+): it .*" + word, result.output)
        assert ended, result.output
        snapshots = sorted((tmp_path / "run/snapshots").iterdir())
        best = best_snapshot(snapshots)
        assert best is not None and f"The best snapshot is {best}." in result.output
        scores = {path: read_facts(path).scores["nll"] for path in snapshots}
        assert scores[best] == min(scores.values())
        assert int(snapshots[-1].name[-8:]) <= int(ended[1]) < 100


def test_without_a_snapshot_to_end_with_it_says_so(train):
    words = ["--learning-rate", "0.3", "--steps", "20", "--snapshot-steps", "20", "--stop-on-collapse"]
    result = train(*words)
    assert result.exit_code == 2
    assert "Error: --stop-on-collapse: training came to no snapshot before." in result.output


def test_a_training_that_goes_well_shows_no_sign(train, tmp_path: Path):
    result = train("--learning-rate", "1e-3", "--steps", "20", "--stop-on-collapse")
    assert "trained to step 20." in result.output
    assert set(signs(tmp_path / "run").values()) == {0}


@pytest.fixture
def inputs(shards: Path, vectors_file: Path) -> Inputs:
    return read_inputs(Config(), LocalFolder(shards), vectors_file)


@pytest.mark.parametrize(
    ("metric", "value", "word"),
    [
        ("train/wasserstein", -1e3, "diverges"),
        ("train/nll", 1e2, "diverges"),
        ("train/score", 1e5, "drifts"),
        ("train/emojis_said", 1.2, "collapses"),
    ],
)
def test_each_metric_that_is_out_of_bounds_is_one_sign_told_once(inputs: Inputs, metric, value, word):
    watch = Watch(Config(), inputs, rows=16)
    assert watch.look(10, SANE) is None
    told = watch.look(20, SANE | {metric: value})
    assert told is not None and told.startswith("Step 20: ")
    assert watch.signs == (word,)
    assert watch.look(30, SANE | {metric: value}) is None


def test_metrics_of_which_nothing_was_finite_are_no_sign(inputs: Inputs):
    assert Watch(Config(), inputs, rows=16).look(1000, dict.fromkeys(SANE, float("nan"))) is None


def test_a_generator_may_begin_with_few_emojis_but_not_stay_there(inputs: Inputs):
    few = SANE | {"train/emojis_said": 1.2}
    watch = Watch(Config.model_validate({"optimizer": {"steps": 100}}), inputs, rows=16)
    assert watch.look(10, few) is None
    assert "collapses" in str(watch.look(11, few))


def test_a_resumed_training_knows_that_it_said_enough_before(inputs: Inputs):
    few = SANE | {"train/emojis_said": 1.2}
    watch, resumed = Watch(Config(), inputs, rows=16), Watch(Config(), inputs, rows=16)
    watch.look(10, SANE)
    resumed.load_state_dict(watch.state_dict())
    assert "collapses" in str(resumed.look(11, few))


def test_what_was_seen_is_known_after_a_resume_and_not_told_again(inputs: Inputs):
    few = SANE | {"train/emojis_said": 1.2}
    watch, resumed = Watch(Config(), inputs, rows=16), Watch(Config(), inputs, rows=16)
    watch.look(10, SANE)
    watch.look(11, few)
    resumed.load_state_dict(watch.state_dict())
    assert resumed.signs == watch.signs == ("collapses",)
    assert resumed.look(12, few) is None
