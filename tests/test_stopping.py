"""A training is stopped by signals, ends with its launcher, is the only one of its run. Real processes."""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner

from emojigan.datasets.store.atomic import is_whole
from emojigan.launch.cli import main
from emojigan.trainer.tracking.mlflow_run import run_id_of

from .conftest import TINY_NETWORKS

STEPS = 100_000  # nobody waits for the last
OPTIONS = [*TINY_NETWORKS, "--precision", "float32", "--steps", str(STEPS), "--snapshot-steps", str(STEPS)]
PROGRAM = [sys.executable, "-c", "from emojigan.launch.cli import main; main()"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


@dataclass(frozen=True)
class Case:
    """A training that is begun again and again."""

    words: list[str]
    run: Path
    environment: dict[str, str]

    def begin(self, *launcher: str) -> subprocess.Popen[str]:
        program = [*launcher, "--no-python", *PROGRAM] if launcher else PROGRAM
        return subprocess.Popen(
            [*program, *self.words],
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def lines(self) -> int:
        """How many lines of metrics there are."""
        path = self.run / "metrics.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def checkpoint(self) -> int:
        """The step of the newest whole checkpoint."""
        whole = [path for path in (self.run / "checkpoints").glob("step-*") if is_whole(path)]
        return max((int(path.name.removeprefix("step-")) for path in whole), default=0)

    def status(self) -> str:
        """What MLflow takes the run for."""
        run_id = run_id_of(self.run)
        assert run_id is not None
        return mlflow.MlflowClient(self.environment["MLFLOW_TRACKING_URI"]).get_run(run_id).info.status


@pytest.fixture
def case(shards: Path, vectors_file: Path, environment: dict[str, str], tmp_path: Path) -> Case:
    run = tmp_path / "run"
    words = ["train", str(shards), "--vectors", str(vectors_file), "--out", str(run), *OPTIONS]
    return Case([*words, "--checkpoint-steps", str(STEPS)], run, environment)


def wait(reached: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.01)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code and what was said. Whoever still writes there is waited for, too."""
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


def ranks_of(launcher: subprocess.Popen[str]) -> dict[int, int]:
    """The process ids of the ranks, by their numbers."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            if int((path / "stat").read_text().rsplit(")", 1)[1].split()[1]) == launcher.pid:
                variables = (path / "environ").read_bytes().split(b"\0")
                found |= {int(each[5:]): int(path.name) for each in variables if each.startswith(b"RANK=")}
    return found


def live(pids: list[int]) -> list[int]:
    def state(pid: int) -> str:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return "gone"

    return [pid for pid in pids if state(pid) not in ("gone", "Z")]


def said_stopped(output: str) -> list[int]:
    return [int(step.replace(",", "")) for step in re.findall(r"^stopped at step ([\d,]+) of ", output, re.M)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_while_it_starts_ends_it_in_one_line_and_nothing_is_there(case: Case, number: int):
    process = case.begin()
    wait(lambda: hears(process.pid), process)
    process.send_signal(number)
    code, output = ended(process)
    assert (code, output.count("\n")) == (75, 1), output
    assert output.startswith("stopped before the first step. Run the same command again")
    assert not case.run.exists()


def hears(pid: int) -> bool:
    """Whether a process has a handler of SIGUSR1."""
    (caught,) = re.findall(r"^SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.M)
    return bool(int(caught, 16) & 1 << signal.SIGUSR1 - 1)


def test_one_rank_that_is_told_to_stop_stops_all_at_one_step_that_is_saved(case: Case):
    """And beside it no other training begins in its folder, by one process."""
    process = case.begin(*TORCHRUN)
    wait(lambda: case.lines() >= 3, process)
    second = CliRunner().invoke(main, case.words)
    os.kill(ranks_of(process)[1], signal.SIGTERM)
    code, output = ended(process)
    assert code == 1 and re.findall(r"exitcode  : (-?\d+)", output) == ["75", "75"], output
    (step,) = said_stopped(output)
    assert case.checkpoint() == step >= 3 and case.status() == "KILLED"
    assert "emojigan/" not in output  # no traceback of ours

    assert second.exit_code == 2
    assert re.fullmatch(r"Error: .* is being written by `emojigan train`, process \d+ on .*\n", second.stderr)


@pytest.mark.parametrize("number", [signal.SIGUSR1, pytest.param(signal.SIGKILL, marks=pytest.mark.soak)])
def test_ranks_whose_launcher_dies_save_and_are_gone_in_five_seconds(case: Case, number: int):
    process = case.begin(*TORCHRUN)
    wait(lambda: case.lines() >= 3, process)
    ranks = [*ranks_of(process).values()]
    assert len(ranks) == 2
    process.send_signal(number)  # torchrun does not pass on either
    deadline = time.monotonic() + 5
    while live(ranks):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    code, output = ended(process)
    assert code == -number
    assert said_stopped(output) == [case.checkpoint()] and case.status() == "KILLED"


@pytest.mark.soak
@pytest.mark.parametrize("whom", ["launcher", "one rank", "all ranks", "alone"])
def test_fifty_signals_at_random_times_lose_no_step(case: Case, whom: str):
    """Each start is told to stop; it goes on where the one before had stopped."""
    rng = random.Random(whom)
    for _ in range(50):
        stop_once(case, whom, rng)


def stop_once(case: Case, whom: str, rng: random.Random) -> None:
    before, lines = case.checkpoint(), case.lines()
    process = case.begin(*([] if whom == "alone" else TORCHRUN))
    if whom == "alone":
        ranks = [process.pid]
    else:
        wait(lambda: len(ranks_of(process)) == 2, process)
        ranks = [*ranks_of(process).values()]
    wait(lambda: all(hears(pid) for pid in ranks), process)
    if rng.random() < 0.5:
        time.sleep(rng.uniform(0, 12))
    else:
        wait(lambda: case.lines() > lines + 2, process)
    number = rng.choice([signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    for pid in {"launcher": [process.pid], "one rank": ranks[-1:]}.get(whom, ranks):
        os.kill(pid, number)
    code, output = ended(process)
    assert not live(ranks)
    assert len(re.findall("^stopped ", output, re.M)) == 1, output
    assert set(re.findall(r"exitcode  : (-?\d+)", output)) <= {"75"}, output
    assert code == 75 if whom == "alone" else code != 0, output
    if steps := said_stopped(output):
        assert steps[0] >= before and steps[0] in (0, case.checkpoint())
        assert case.status() == "KILLED"
    else:
        assert case.checkpoint() == before


@pytest.mark.soak
def test_a_training_that_was_stopped_ends_like_one_that_was_not(case: Case, tmp_path: Path):
    stopped = replace(case, words=[*case.words, "--steps", "300"])
    words = [str(tmp_path / "whole") if word == str(case.run) else word for word in stopped.words]
    whole = replace(stopped, words=words, run=tmp_path / "whole")
    assert ended(whole.begin())[0] == 0
    for _ in range(3):
        process, lines = stopped.begin(), stopped.lines()
        wait(lambda lines=lines: stopped.lines() > lines + 2, process)
        process.terminate()
        assert ended(process)[0] == 75
    assert 0 < stopped.checkpoint() < 300
    assert ended(stopped.begin())[0] == 0
    name = "checkpoints/step-00000300/state.safetensors"
    assert (stopped.run / name).read_bytes() == (whole.run / name).read_bytes()
    losses = [read_losses(each.run / "metrics.jsonl") for each in (stopped, whole)]
    assert losses[0] == losses[1] and len(losses[0]) == 301  # one is of the val split


def read_losses(path: Path) -> list[dict[str, float]]:
    """The metrics that no clock has a part in."""
    speed = ("train/tuples_per_second", "train/utilisation", "train/data_wait")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        {key: value for key, value in line.items() if key not in speed and not key.startswith("system/")}
        for line in lines
    ]
