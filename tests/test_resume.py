"""A training that was killed and started again ends like one that was not; anything else is refused."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from emojigan.datasets.emojis.vectors.word2vec import keyed, load_vectors, save_vectors
from emojigan.datasets.errors import InputError
from emojigan.datasets.shards.manifest import read_manifest, write_manifest
from emojigan.datasets.store.atomic import is_whole
from emojigan.datasets.store.folder import LocalFolder
from emojigan.launch.cli import main
from emojigan.trainer.model import sight
from emojigan.trainer.model.noise import uniform
from emojigan.trainer.training import loop, speed

from .trainings import Case, metrics, to_tell, told

STEPS = 40
RECIPES = ("tuples", "reactions")
OPTIONS = (
    "--trunk-width 4 --feature-dim 8 --hidden-dim 16 --latent-dim 4 --batch-size 16 --precision float32 "
    f"--num-critic-steps 2 --steps {STEPS} --log-steps 3 --checkpoint-steps 8 --snapshot-steps 20"
).split()


def command(shards: Path, vectors: Path, run: Path, *more: str) -> list[str]:
    return ["train", str(shards), "--vectors", str(vectors), "--out", str(run), *OPTIONS, *more]


# Of whole runs.


KILLED = """
import os, signal
from emojigan.launch.cli import main
from emojigan.trainer.training import loop

train_step, fsync, done = loop.train_step, os.fsync, []


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def counted(*given):
    done.append(given)
    if len(done) > {steps} and os.path.isdir({after!r}):
        die()
    return train_step(*given)


def watched(file):
    if {saving!r} in os.readlink(f"/proc/self/fd/{{file}}"):
        die()
    return fsync(file)


loop.train_step, os.fsync = counted, watched
main()
"""


@dataclass(frozen=True)
class Moment:
    """When a training is killed: at a step once a folder is there, or as soon as it writes into another."""

    steps: int
    after: str
    saving: str = "nothing"


@pytest.fixture(scope="module")
def invoke(environment: dict[str, str]) -> Iterator[Callable[..., Result]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", environment["MLFLOW_TRACKING_URI"])
        yield lambda *words: CliRunner().invoke(main, list(words))


@pytest.fixture(scope="module")
def whole(
    shards: Path,
    vectors_file: Path,
    invoke: Callable[..., Result],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """A run of each recipe that nothing interrupted."""
    runs = {recipe: tmp_path_factory.mktemp("runs") / "uninterrupted" for recipe in RECIPES}
    for recipe, run in runs.items():
        result = invoke(*command(shards, vectors_file, run, "--recipe", recipe))
        assert result.exit_code == 0, result.output
    return runs


@pytest.fixture
def uninterrupted(whole: dict[str, Path]) -> Path:
    return whole["reactions"]


@pytest.fixture(scope="module", params=[pytest.param("tuples", marks=pytest.mark.soak), "reactions"])
def recipe(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def killed(
    shards: Path,
    vectors_file: Path,
    recipe: str,
    environment: dict[str, str],
    invoke: Callable[..., Result],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A run that was killed between two checkpoints; of reactions also before the first, and while saving."""
    run = tmp_path_factory.mktemp("runs") / f"killed-{recipe}"
    words = command(shards, vectors_file, run, "--recipe", recipe)
    moments = (
        Moment(5, "checkpoints"),
        Moment(12, "checkpoints/step-00000008"),
        Moment(STEPS, "nothing", saving=".step-00000024."),
    )
    for moment in moments if recipe == "reactions" else moments[1:2]:
        program = KILLED.format(steps=moment.steps, after=str(run / moment.after), saving=moment.saving)
        done = subprocess.run(
            [sys.executable, "-c", program, *words], env=environment, text=True, capture_output=True
        )
        assert done.returncode == -9, done.stderr
    assert (run / "checkpoints" / "step-00000008").exists()
    assert any(run.glob("checkpoints/.step-00000024.*")) == (recipe == "reactions")
    result = invoke(*words)
    assert result.exit_code == 0 and "resumed at step" in result.output, result.output
    return run


def test_a_killed_training_ends_with_the_weights_of_an_uninterrupted_one(
    whole: dict[str, Path], killed: Path, recipe: str
):
    name = f"checkpoints/step-{STEPS:08d}/state.safetensors"
    assert (killed / name).read_bytes() == (whole[recipe] / name).read_bytes()


def test_a_killed_training_has_every_metric_once_in_order(whole: dict[str, Path], killed: Path, recipe: str):
    lines = metrics(killed)
    assert [line["step"] for line in lines if "train/penalty" in line] == [*range(3, STEPS, 3), STEPS]
    assert [line["step"] for line in lines if "val/nll" in line] == [20, 40]
    assert lines == metrics(whole[recipe])


def test_a_killed_training_has_one_mlflow_run_with_every_metric_once(killed: Path, environment):
    assert told(killed, environment) == to_tell(killed)
    assert Case([], killed, environment).status() == "FINISHED"


def test_a_killed_training_leaves_two_checkpoints_and_nothing_half_written(killed: Path):
    assert sorted(path.name for path in (killed / "checkpoints").iterdir()) == [
        f"step-{STEPS - 8:08d}",
        f"step-{STEPS:08d}",
    ]


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_finished_run_started_again_does_nothing(
    uninterrupted: Path, shards: Path, vectors_file: Path, invoke: Callable[..., Result]
):
    before = content(uninterrupted)
    result = invoke(*command(shards, vectors_file, uninterrupted))
    assert result.exit_code == 0, result.output
    assert f"trained already, at its last step, {STEPS}." in result.output
    assert content(uninterrupted) == before


def test_what_is_of_the_run_alone_may_change(
    uninterrupted: Path, shards: Path, vectors_file: Path, invoke: Callable[..., Result]
):
    result = invoke(*command(shards, vectors_file, uninterrupted, "--checkpoint-steps", "7"))
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("option", "key"),
    [
        ("--learning-rate=0.001", "optimizer.learning_rate (0.002, now 0.001)"),
        ("--batch-size=8", "data.batch_size (16, now 8)"),
        ("--seed=1", "optimizer.seed (0, now 1)"),
        ("--hidden-dim=32", "model.hidden_dim (16, now 32)"),
    ],
)
def test_resuming_under_another_config_is_refused_by_the_name_of_the_key(
    uninterrupted: Path,
    shards: Path,
    vectors_file: Path,
    invoke: Callable[..., Result],
    option: str,
    key: str,
):
    before = content(uninterrupted)
    result = invoke(*command(shards, vectors_file, uninterrupted, option))
    assert result.exit_code == 2
    assert f"was made with another {key}." in result.stderr
    assert result.stderr.count("\n") == 1
    assert content(uninterrupted) == before


def test_a_run_that_was_stopped_before_its_first_steps_keeps_its_config(
    shards: Path,
    vectors_file: Path,
    invoke: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    def stop(*_: object) -> None:
        raise InputError("stopped")

    with monkeypatch.context() as patched:
        patched.setattr(loop, "train_step", stop)
        assert invoke(*command(shards, vectors_file, tmp_path / "run")).exit_code == 2
    before = content(tmp_path / "run")
    result = invoke(*command(shards, vectors_file, tmp_path / "run", "--learning-rate", "0.001"))
    assert result.exit_code == 2
    assert "was made with another optimizer.learning_rate (0.002, now 0.001)." in result.stderr
    assert content(tmp_path / "run") == before


def test_a_finished_run_goes_on_when_it_is_given_more_steps(
    uninterrupted: Path, shards: Path, vectors_file: Path, invoke: Callable[..., Result], tmp_path: Path
):
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    result = invoke(*command(shards, vectors_file, run, "--steps", str(STEPS + 4)))
    assert result.exit_code == 0, result.output
    assert f"resumed at step {STEPS} of {STEPS + 4}" in result.output
    assert is_whole(run / "checkpoints" / f"step-{STEPS + 4:08d}")


def networks(run: Path, step: int) -> dict[str, torch.Tensor]:
    tensors = load_file(run / "checkpoints" / f"step-{step:08d}" / "state.safetensors")
    return {
        name: tensor
        for name, tensor in tensors.items()
        if name.partition(".")[0] in ("generator", "critic", "average")
    }


@pytest.mark.parametrize("source", ["run", "snapshot"])
def test_a_run_begins_with_the_networks_of_another(
    uninterrupted: Path,
    shards: Path,
    vectors_file: Path,
    invoke: Callable[..., Result],
    tmp_path: Path,
    source: str,
):
    of = uninterrupted if source == "run" else uninterrupted / "snapshots" / f"step-{STEPS:08d}"
    result = invoke(*command(shards, vectors_file, tmp_path / "run", "--steps", "1", "--init-from", str(of)))
    assert result.exit_code == 0, result.output
    begun, trained = networks(tmp_path / "run", 0), networks(uninterrupted, STEPS)
    for name, tensor in begun.items():
        if source == "run":
            assert torch.equal(tensor, trained[name]), name
        elif not name.startswith("critic"):  # of which a snapshot has none; both begin with the average
            assert torch.equal(tensor, trained[name.replace("generator.", "average.", 1)]), name


def test_networks_of_other_sizes_are_refused(
    uninterrupted: Path, shards: Path, vectors_file: Path, invoke: Callable[..., Result], tmp_path: Path
):
    words = command(shards, vectors_file, tmp_path / "run", "--init-from", str(uninterrupted))
    result = invoke(*words, "--hidden-dim", "8")
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert "its generator has other sizes: size mismatch for" in result.stderr
    assert not (tmp_path / "run").exists()


def test_resuming_with_other_vectors_is_refused(
    uninterrupted: Path, shards: Path, vectors_file: Path, invoke: Callable[..., Result], tmp_path: Path
):
    vectors = load_vectors(vectors_file)
    save_vectors(keyed(vectors.emojis, vectors.matrix + np.float32(0.1)), tmp_path / "other.bin")
    result = invoke(*command(shards, tmp_path / "other.bin", uninterrupted))
    assert result.exit_code == 2
    assert f"was made with another vectors ({vectors.sha256}, now " in result.stderr


def test_resuming_with_another_dataset_is_refused(
    uninterrupted: Path, shards: Path, vectors_file: Path, invoke: Callable[..., Result], tmp_path: Path
):
    other = tmp_path / "shards"
    shutil.copytree(shards, other)
    manifest = read_manifest(LocalFolder(shards))
    write_manifest(replace(manifest, shards=manifest.shards[1:]), LocalFolder(other), replaces=manifest)
    result = invoke(*command(other, vectors_file, uninterrupted))
    assert result.exit_code == 2
    assert f"was made with another dataset ({manifest.sha256()}, now " in result.stderr


def test_no_noise_is_drawn_twice(
    shards: Path,
    vectors_file: Path,
    invoke: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    drawn: list[int] = []

    def note(seed: int, place: torch.Tensor, *more: int) -> torch.Tensor:
        drawn.append(int(place[0]))
        return uniform(seed, place, *more)

    monkeypatch.setattr(sight, "uniform", note)
    monkeypatch.setattr(speed, "fastest", lambda _: 1.0)  # it counts the operations of an update
    result = invoke(*command(shards, vectors_file, tmp_path / "run", "--steps", "3"))
    assert result.exit_code == 0, result.output
    assert drawn == list(range(9))  # once for every update


@pytest.mark.parametrize("sees", ["nothing", "tuple"])
def test_a_training_in_which_the_critic_sees_less_goes_on(
    shards: Path, vectors_file: Path, invoke: Callable[..., Result], tmp_path: Path, sees: str
):
    words = command(shards, vectors_file, tmp_path / "run", "--recipe", "reactions", "--critic-sees", sees)
    result = invoke(*words, "--steps", "9")
    assert result.exit_code == 0, result.output
    result = invoke(*words, "--steps", "12")
    assert result.exit_code == 0 and "resumed at step 9 of 12" in result.output, result.output
    told = {name for line in metrics(tmp_path / "run") for name in line}
    assert ("train/wasserstein" in told) == (sees == "tuple") and "train/nll" in told
