"""`train.sbatch` on a real Slurm of two nodes: a job that is stopped goes on, and loses nothing."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ...conftest import TINY_NETWORKS
from ...trainings import Case, metrics, to_tell, told
from .slurm import BATCH_FILES, Slurm, preempt

OPTIONS = [
    *(*TINY_NETWORKS, "--precision", "float32", "--num-critic-steps", "2", "--checkpoint-steps", "20"),
    *("--snapshot-steps", "1000"),
]
TINY_JOB = ("--gpus-per-node=1", "--cpus-per-task=2")


@dataclass(frozen=True)
class Training:
    """One that is submitted; of a case, whose words are those of `emojigan`."""

    slurm: Slurm
    case: Case
    steps: int

    def submit(self, *options: str) -> str:
        """Submit it, on two nodes with a rank each; the id of its job."""
        _, shards, _, vectors, _, run, *words = self.case.words
        given = {"SHARDS": shards, "VECTORS": vectors, "OUT": run}
        given |= {name: value for name, value in self.case.environment.items() if name.startswith("MLFLOW_")}
        return self.slurm.submit(*TINY_JOB, *options, str(BATCH_FILES / "train.sbatch"), *words, **given)

    def reach(self, job: str, steps: int) -> None:
        """Wait until so many steps are noted."""
        self.slurm.wait(lambda: self.case.lines() >= steps, job)

    def state(self) -> bytes:
        """That of its last checkpoint."""
        name = f"checkpoints/step-{self.steps:08d}/state.safetensors"
        return (self.case.run / name).read_bytes()


@pytest.fixture
def new(
    slurm: Slurm, shards: Path, vectors_file: Path, environment: dict[str, str], tmp_path: Path
) -> Callable[[str, int], Training]:
    """Makes a training of a name, which MLflow tells from others, of so many steps."""

    def training(name: str, steps: int) -> Training:
        words = ["train", str(shards), "--vectors", str(vectors_file), "--out", str(tmp_path / name)]
        words += [*OPTIONS, f"--steps={steps}"]
        return Training(slurm, Case(words, tmp_path / name, environment), steps)

    return training


def steps_of(training: Training) -> list[float]:
    """Those that are noted."""
    return [line["step"] for line in metrics(training.case.run) if "train/nll" in line]


def ends_like_one_that_nothing_ended(
    training: Training, job: str, whole: Training, requeues: list[str]
) -> None:
    """With the same weights, each step once in its metrics and in MLflow, after requeues for such reasons."""
    slurm, run = training.slurm, training.case.run
    log = slurm.log(job)
    assert re.findall("^requeued, for (.*)", log, re.M) == requeues, log
    assert training.state() == whole.state()
    assert metrics(run) == metrics(whole.case.run)
    assert steps_of(training) == [*range(1, training.steps + 1)]
    assert told(run, training.case.environment) == to_tell(run)
    assert training.case.status() == "FINISHED" and "was not told all" not in log


def trained_whole(new: Callable[[str, int], Training], name: str, steps: int) -> Training:
    """A training that nothing ends."""
    whole = new(name, steps)
    job = whole.submit()
    assert whole.slurm.ended(job) == "COMPLETED"
    assert whole.slurm.facts(job)["Restarts"] == "0"
    return whole


def test_a_training_that_is_preempted_goes_on_where_it_saved(new: Callable[[str, int], Training]):
    """On one node, for it is cheaper; the long tests have two, and compare with one that nothing ended."""
    training = new("preempted", 40)
    slurm, case, job = training.slurm, training.case, training.submit("--nodes=1")
    training.reach(job, 5)
    preempt(slurm)
    saved = case.checkpoint()
    assert case.status() == "KILLED" and 5 <= saved < 40
    assert slurm.ended(job) == "COMPLETED" and slurm.facts(job)["Restarts"] == "1"
    log = slurm.log(job)
    assert "requeued, for another job needs its nodes" in log and f"resumed at step {saved} of 40" in log
    assert steps_of(training) == [*range(1, 41)]
    assert case.status() == "FINISHED" and "was not told all" not in log


def test_a_training_that_ends_by_an_error_is_not_requeued(slurm: Slurm, tmp_path: Path):
    given = {"SHARDS": str(tmp_path / "none"), "VECTORS": "none", "OUT": str(tmp_path / "run")}
    job = slurm.submit("--nodes=1", *TINY_JOB, str(BATCH_FILES / "train.sbatch"), **given)
    assert slurm.ended(job) == "FAILED" and slurm.facts(job)["Restarts"] == "0"
    assert slurm.facts(job)["ExitCode"] == "1:0" and "is not a dataset" in slurm.log(job)


@pytest.mark.soak
def test_ten_preemptions(new: Callable[[str, int], Training]):
    steps = 900
    whole, training = trained_whole(new, "whole-10", steps), new("preempted-10", steps)
    job, saved = training.submit(), [0]
    for _ in range(10):
        training.reach(job, saved[-1] + 50)
        preempt(training.slurm)
        saved.append(training.case.checkpoint())
    print(f"preempted at steps {saved[1:]}")
    assert training.slurm.ended(job) == "COMPLETED"
    ends_like_one_that_nothing_ended(training, job, whole, ["another job needs its nodes"] * 10)


@pytest.mark.soak
def test_whatever_else_ends_a_job(new: Callable[[str, int], Training]):
    """One after the other, in one training: a limit, which is of whole minutes; an order; nodes that go."""
    steps = 900
    whole, training = trained_whole(new, "whole-4", steps), new("stopped-4", steps)
    slurm, job = training.slurm, training.submit("--time=1", "--signal=B:USR1@40")
    slurm.wait(lambda: "for it was told to stop" in slurm.log(job), job)
    slurm("scontrol", "update", f"JobId={job}", "TimeLimit=20")
    training.reach(job, training.case.checkpoint() + 50)
    slurm("scontrol", "requeue", job)
    for end in (slurm.kill_node, slurm.shut_down_node):
        slurm.wait(lambda: slurm.facts(job)["JobState"] == "PENDING", job)
        training.reach(job, training.case.checkpoint() + 50)
        end("n1")
        slurm.wait(lambda: slurm.facts(job)["JobState"] == "PENDING", job)
        slurm.kill_node("n1")
        slurm.wait(lambda: slurm.is_down("n1"), job)
        slurm.start_node("n1")
    assert slurm.ended(job) == "COMPLETED"
    ends_like_one_that_nothing_ended(training, job, whole, ["it was told to stop"])
    assert slurm.facts(job)["Restarts"] == "4"


@pytest.mark.soak
def test_a_training_that_is_cancelled_saves_and_is_not_requeued(new: Callable[[str, int], Training]):
    training = new("cancelled", 10_000)
    job = training.submit()
    training.reach(job, 5)
    training.slurm("scancel", job)
    assert training.slurm.ended(job) == "CANCELLED"
    assert training.case.checkpoint() == training.case.lines() >= 5
    assert training.slurm.facts(job)["Restarts"] == "0" and "requeued" not in training.slurm.log(job)
