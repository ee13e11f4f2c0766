"""The batch files of arrays: tasks together do what one command does; and what a batch file must be told."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from emojigan.datasets.shards.layout import MANIFEST

from ...conftest import TINY_NETWORKS
from ...trainings import PROGRAM, metrics
from .slurm import BATCH_FILES, Slurm, preempt

FILES = sorted(BATCH_FILES.iterdir())


def run(slurm: Slurm, name: str, *words: str, **given: str) -> str:
    """Run an array of two tasks to its end; what they printed."""
    path = str(BATCH_FILES / f"{name}.sbatch")
    job = slurm.submit("--array=0-1", "--cpus-per-task=1", path, *words, **given)
    tasks = [f"{job}_{task}" for task in (0, 1)]
    for task in tasks:
        assert slurm.ended(task) == "COMPLETED", slurm.log(task)
    return "".join(map(slurm.log, tasks))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_batch_file_that_was_not_told_something_says_what_in_a_line(path: Path):
    done = subprocess.run(["bash", path], env={}, capture_output=True, text=True)
    assert done.returncode and done.stderr.count("\n") == 1 and ": set it to " in done.stderr


def test_the_tasks_of_a_build_make_the_dataset_that_one_command_makes(
    slurm: Slurm, posts_folder: Path, shards: Path, tmp_path: Path
):
    out = tmp_path / "shards"
    given = {"POSTS": str(posts_folder / "posts.jsonl"), "OUT": str(out)}
    run(slurm, "build", "--images-per-shard=50", **given)
    assert (out / MANIFEST).read_bytes() == (shards / MANIFEST).read_bytes()


@pytest.mark.soak
def test_the_tasks_of_a_score_ask_about_every_image(
    slurm: Slurm, shards: Path, vectors_file: Path, environment: dict[str, str], tmp_path: Path
):
    trained, out = tmp_path / "run", tmp_path / "scores"
    words = [*PROGRAM, "train", shards, "--vectors", vectors_file, "--out", trained, *TINY_NETWORKS]
    subprocess.run([*words, "--steps", "1"], env=environment, check=True)
    run(slurm, "score", SHARDS=str(shards), MODEL=str(trained), OUT=str(out))
    whole = tmp_path / "whole"
    subprocess.run([*PROGRAM, "score", shards, trained, "--out", whole], env=environment, check=True)
    assert pq.read_table(out) == pq.read_table(whole)


Sweep = Callable[[int], tuple[Path, dict[str, str]]]


@pytest.fixture
def new_sweep(posts_folder: Path, vectors_file: Path, environment: dict[str, str], tmp_path: Path) -> Sweep:
    """Makes a sweep of four trials, of so many steps, and what its batch file is to be told."""

    def sweep(steps: int) -> tuple[Path, dict[str, str]]:
        shards, out = tmp_path / "shards", tmp_path / "sweep"
        build = ["build", posts_folder / "posts.jsonl", "--out", shards, "--folds", "2", "--workers", "1"]
        create = ["create", shards, "--vectors", vectors_file, "--out", out, "--grid", "dropout=0,.5"]
        options = [*TINY_NETWORKS, "--steps", str(steps), "--checkpoint-steps", "20"]
        for words in (["shards", *build], ["sweep", *create, *options]):
            subprocess.run([*PROGRAM, *words], env=environment, check=True)
        given = {name: value for name, value in environment.items() if name.startswith("MLFLOW_")}
        return out, {"SWEEP": str(out), **given}

    return sweep


@pytest.mark.soak
def test_the_workers_of_a_sweep_do_each_trial_once(slurm: Slurm, new_sweep: Sweep):
    log = run(slurm, "sweep", **new_sweep(4)[1])
    assert sorted(re.findall(r"^trial (\d) of 4", log, re.M)) == ["0", "1", "2", "3"], log
    assert "trials: 4 complete" in log


@pytest.mark.soak
def test_workers_of_a_sweep_go_on_after_their_limit_and_a_preemption(slurm: Slurm, new_sweep: Sweep):
    """The limit of the last task is its own, though its job has the number of the whole array."""
    sweep, given = new_sweep(400)
    job = slurm.submit("--array=0-1", "--cpus-per-task=1", str(BATCH_FILES / "sweep.sbatch"), **given)
    tasks = [f"{job}_{task}" for task in (0, 1)]

    def takes(task: str, times: int) -> None:
        """Wait until it has taken trials so often."""
        slurm.wait(lambda: len(re.findall(r"^trial \d of 4", slurm.log(task), re.M)) >= times, task)

    for task in tasks:
        takes(task, 1)
    (last,) = [task for task in tasks if slurm.facts(task)["JobId"] == job]
    (other,) = {*tasks} - {last}
    taken = slurm.log(last).count("trial ")
    slurm("scancel", "--signal=USR1", "--batch", last)
    slurm.wait(lambda: slurm.facts(last)["Restarts"] == "1", last)
    takes(last, taken + 1)
    assert slurm.facts(other)["Restarts"] == "0"
    preempt(slurm)
    for task in tasks:
        assert slurm.ended(task) == "COMPLETED", slurm.log(task)
    assert [slurm.facts(task)["Restarts"] for task in (last, other)] == ["2", "1"]
    log = "".join(map(slurm.log, tasks))
    assert "trials: 4 complete" in log
    steps = [
        [line["step"] for line in metrics(run) if "train/nll" in line] for run in sweep.glob("trials/*/*")
    ]
    assert steps == [[*range(1, 401)]] * 4, log
