"""A training that was killed and started again ends like one that was not; anything else is refused."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from emojigan.datasets.emojis.vectors.word2vec import keyed, load_vectors, save_vectors
from emojigan.datasets.errors import InputError
from emojigan.datasets.shards.manifest import read_manifest, write_manifest
from emojigan.datasets.store.atomic import is_whole
from emojigan.datasets.store.folder import LocalFolder
from emojigan.launch.cli import main
from emojigan.trainer.config import Config
from emojigan.trainer.tracking.mlflow_run import run_id_of
from emojigan.trainer.training import step
from emojigan.trainer.training.checkpoint import (
    Identity,
    TrainState,
    copied,
    load_checkpoint,
    save_checkpoint,
)
from emojigan.trainer.training.noise import uniform

STEPS = 40
OPTIONS = (
    "--trunk-width 4 --feature-dim 8 --hidden-dim 16 --latent-dim 4 --batch-size 16 --precision float32 "
    f"--num-critic-steps 2 --steps {STEPS} --log-steps 1 --checkpoint-steps 8 --snapshot-steps 20"
).split()


def command(shards: Path, vectors: Path, run: Path, *more: str) -> list[str]:
    return ["train", str(shards), "--vectors", str(vectors), "--out", str(run), *OPTIONS, *more]


# Of whole runs.


def begin(words: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    program = [sys.executable, "-c", "from emojigan.launch.cli import main; main()"]
    return subprocess.Popen(
        [*program, *words],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def kill_when(words: list[str], environment: dict[str, str], reached: Callable[[], bool]) -> None:
    """Start training and kill it with signal 9 as soon as something has happened."""
    process = begin(words, environment)
    deadline = time.monotonic() + 60
    while not reached():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.001)
    process.kill()
    process.communicate()
    assert process.returncode == -9


@pytest.fixture(scope="module")
def uninterrupted(
    shards: Path, vectors_file: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    run = tmp_path_factory.mktemp("runs") / "uninterrupted"
    process = begin(command(shards, vectors_file, run), environment)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    return run


@pytest.fixture(scope="module")
def killed(
    shards: Path, vectors_file: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run that was killed before its first checkpoint, between two, and in the middle of saving one."""
    run = tmp_path_factory.mktemp("runs") / "killed"
    words, metrics, checkpoints = (
        command(shards, vectors_file, run),
        run / "metrics.jsonl",
        run / "checkpoints",
    )
    moments = (
        lambda: metrics.exists() and metrics.read_bytes().count(b"\n") >= 3,
        lambda: metrics.read_bytes().count(b"\n") >= 13,
        lambda: any(checkpoints.glob(".step-00000024.*.tmp")) or is_whole(checkpoints / "step-00000024"),
    )
    for reached in moments:
        kill_when(words, environment, reached)
    process = begin(words, environment)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "resumed at step" in output
    return run


def test_a_killed_training_ends_with_the_weights_of_an_uninterrupted_one(uninterrupted: Path, killed: Path):
    name = f"checkpoints/step-{STEPS:08d}/state.safetensors"
    assert (killed / name).read_bytes() == (uninterrupted / name).read_bytes()


def without_speed(line: dict[str, float]) -> dict[str, float]:
    speed = ("time", "train/tuples_per_second", "train/utilisation", "train/data_wait")
    return {name: value for name, value in line.items() if name not in speed}


def test_a_killed_training_has_every_metric_once_in_order(uninterrupted: Path, killed: Path):
    lines = [json.loads(line) for line in (killed / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train/penalty" in line] == list(range(1, STEPS + 1))
    assert [line["step"] for line in lines if "val/nll" in line] == [20, 40]
    assert [without_speed(line) for line in lines] == [
        without_speed(json.loads(line)) for line in (uninterrupted / "metrics.jsonl").read_text().splitlines()
    ]


def test_a_killed_training_has_one_mlflow_run_with_every_metric_once(killed: Path, environment):
    client = mlflow.MlflowClient(environment["MLFLOW_TRACKING_URI"])
    experiments = [each.experiment_id for each in client.search_experiments()]
    (run,) = client.search_runs(experiments, filter_string="attributes.run_name = 'killed'")
    assert run.info.run_id == run_id_of(killed)
    assert run.info.status == "FINISHED"
    lines = [json.loads(line) for line in (killed / "metrics.jsonl").read_text().splitlines()]
    for name in run.data.metrics:
        history = client.get_metric_history(run.info.run_id, name)
        assert sorted((each.step, each.value) for each in history) == [
            (line["step"], line[name]) for line in lines if name in line
        ]


def test_a_killed_training_leaves_two_checkpoints_and_nothing_half_written(killed: Path):
    assert sorted(path.name for path in (killed / "checkpoints").iterdir()) == [
        f"step-{STEPS - 8:08d}",
        f"step-{STEPS:08d}",
    ]


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> Callable[..., Result]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", environment["MLFLOW_TRACKING_URI"])
    return lambda *words: CliRunner().invoke(main, list(words))


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_finished_run_started_again_does_nothing(
    uninterrupted: Path, shards: Path, vectors_file: Path, invoke: Callable[..., Result]
):
    before = content(uninterrupted)
    result = invoke(*command(shards, vectors_file, uninterrupted))
    assert result.exit_code == 0, result.output
    assert f"resumed at step {STEPS}" in result.output
    assert content(uninterrupted) == before


def test_what_is_of_the_run_alone_may_change(
    uninterrupted: Path, shards: Path, vectors_file: Path, invoke: Callable[..., Result]
):
    result = invoke(*command(shards, vectors_file, uninterrupted, "--checkpoint-steps", "7"))
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("option", "key"),
    [
        ("--learning-rate=0.001", "optimizer.learning_rate (0.0005, now 0.001)"),
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

    monkeypatch.setattr(step, "uniform", note)
    result = invoke(*command(shards, vectors_file, tmp_path / "run", "--steps", "3"))
    assert result.exit_code == 0, result.output
    assert drawn == list(range(9))  # once for every update


# Of checkpoints alone.


IDENTITY = Identity.of(Config(), "dataset", "vectors")


def trained(updates: int) -> TrainState:
    """A network after some updates by Adam."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2), torch.nn.Flatten(), torch.nn.Linear(4, 1))
    optimizer = torch.optim.Adam(network.parameters(), 0.1)
    for _ in range(updates):
        optimizer.zero_grad()
        network(torch.randn(5, 3, 2, 2)).sum().backward()
        optimizer.step()
    return TrainState({"network": network}, {"adam": optimizer})


def tensors(state: TrainState) -> dict[str, torch.Tensor]:
    moments = state.optimizers["adam"].state_dict()["state"]
    return state.modules["network"].state_dict() | {
        f"{number}.{slot}": tensor for number, slots in moments.items() for slot, tensor in slots.items()
    }


def equal(one: TrainState, other: TrainState) -> bool:
    mine, theirs = tensors(one), tensors(other)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)


def test_a_checkpoint_gives_back_weights_and_moments(tmp_path: Path):
    save_checkpoint(tmp_path, 3, copied(trained(3)), IDENTITY)
    state = trained(0)
    assert load_checkpoint(tmp_path, state, IDENTITY) == 3
    assert equal(state, trained(3))


def test_a_checkpoint_before_the_first_update_has_no_moments(tmp_path: Path):
    save_checkpoint(tmp_path, 0, copied(trained(0)), IDENTITY)
    state = trained(0)
    assert load_checkpoint(tmp_path, state, IDENTITY) == 0
    assert equal(state, trained(0))


def test_a_checkpoint_holds_the_state_of_its_step_though_training_goes_on_before_it_is_written(
    tmp_path: Path,
):
    state = trained(3)
    there = copied(state)
    for tensor in tensors(state).values():
        tensor.zero_()
    save_checkpoint(tmp_path, 3, there, IDENTITY)
    load_checkpoint(tmp_path, state, IDENTITY)
    assert equal(state, trained(3))


def test_without_a_checkpoint_training_starts_at_step_0(tmp_path: Path):
    assert load_checkpoint(tmp_path / "none", trained(0), IDENTITY) == 0


def test_the_newest_two_checkpoints_are_kept(tmp_path: Path):
    for number in (1, 2, 3):
        save_checkpoint(tmp_path, number, copied(trained(0)), IDENTITY)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("file", ["state.safetensors", "state.json", "SHA256SUMS"])
@pytest.mark.parametrize("damage", [flip_a_bit, Path.unlink, lambda path: os.truncate(path, 30)])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, damage: Callable[[Path], None]
):
    save_checkpoint(tmp_path, 1, copied(trained(1)), IDENTITY)
    save_checkpoint(tmp_path, 2, copied(trained(2)), IDENTITY)
    damage(tmp_path / "step-00000002" / file)
    state = trained(0)
    assert load_checkpoint(tmp_path, state, IDENTITY) == 1
    assert equal(state, trained(1))
    assert "step-00000002 is damaged" in capsys.readouterr().out


def test_when_every_checkpoint_is_damaged_nothing_is_begun_again(tmp_path: Path):
    save_checkpoint(tmp_path, 1, copied(trained(1)), IDENTITY)
    flip_a_bit(tmp_path / "step-00000001" / "state.safetensors")
    with pytest.raises(InputError, match="Every checkpoint"):
        load_checkpoint(tmp_path, trained(0), IDENTITY)


def test_a_half_written_checkpoint_is_not_seen(tmp_path: Path):
    save_checkpoint(tmp_path, 1, copied(trained(1)), IDENTITY)
    shutil.copytree(tmp_path / "step-00000001", tmp_path / ".step-00000002.123.tmp")
    assert load_checkpoint(tmp_path, trained(0), IDENTITY) == 1


def test_half_written_checkpoints_are_removed_with_the_next_save(tmp_path: Path):
    (tmp_path / ".step-00000002.123.tmp").mkdir()
    save_checkpoint(tmp_path, 3, copied(trained(1)), IDENTITY)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]


def test_a_checkpoint_saved_after_falling_back_stays_though_a_damaged_one_has_a_later_step(tmp_path: Path):
    for number in (4, 8):
        save_checkpoint(tmp_path, number, copied(trained(number)), IDENTITY)
    flip_a_bit(tmp_path / "step-00000008" / "state.safetensors")
    assert load_checkpoint(tmp_path, trained(0), IDENTITY) == 4
    save_checkpoint(tmp_path, 6, copied(trained(2)), IDENTITY)
    assert load_checkpoint(tmp_path, trained(0), IDENTITY) == 6


@pytest.mark.parametrize("key", ["dataset", "vectors"])
def test_a_checkpoint_of_other_inputs_is_refused_by_name(tmp_path: Path, key: str):
    save_checkpoint(tmp_path, 1, copied(trained(1)), IDENTITY)
    with pytest.raises(InputError, match=rf"another {key} \({key}, now other\)"):
        load_checkpoint(tmp_path, trained(0), replace(IDENTITY, **{key: "other"}))


def test_a_checkpoint_holds_no_pickle(tmp_path: Path):
    save_checkpoint(tmp_path, 1, copied(trained(1)), IDENTITY)
    names = {path.name for path in (tmp_path / "step-00000001").iterdir()}
    assert names == {"state.safetensors", "state.json", "SHA256SUMS"}
