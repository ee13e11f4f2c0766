"""The batch files of arrays: tasks together do what one command does; and what a batch file must be told."""

import re
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from emojigan.datasets.shards.layout import MANIFEST

from ...conftest import TINY_NETWORKS
from ...trainings import PROGRAM
from .slurm import BATCH_FILES, Slurm

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


@pytest.mark.soak
def test_the_workers_of_a_sweep_do_each_trial_once(
    slurm: Slurm, posts_folder: Path, vectors_file: Path, environment: dict[str, str], tmp_path: Path
):
    out, sweep = tmp_path / "shards", tmp_path / "sweep"
    build = ["build", posts_folder / "posts.jsonl", "--out", out, "--folds", "2", "--workers", "1"]
    create = ["create", out, "--vectors", vectors_file, "--out", sweep, "--grid", "dropout=0,.5"]
    for words in (["shards", *build], ["sweep", *create, *TINY_NETWORKS, "--steps", "4"]):
        subprocess.run([*PROGRAM, *words], env=environment, check=True)
    given = {name: value for name, value in environment.items() if name.startswith("MLFLOW_")}
    log = run(slurm, "sweep", SWEEP=str(sweep), **given)
    assert sorted(re.findall(r"^trial (\d) of 4", log, re.M)) == ["0", "1", "2", "3"], log
    assert "trials: 4 complete" in log
