"""A training is stopped by signals, ends with its launcher, is the only one of its run. Real processes."""

import os
import random
import re
import signal
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from emojigan.launch.cli import main

from .conftest import TINY_NETWORKS
from .trainings import TORCHRUN, Case, ended, gone, hears, metrics, ranks_of, wait

STEPS = 100_000  # nobody waits for the last
OPTIONS = [*TINY_NETWORKS, "--precision", "float32", "--steps", str(STEPS), "--snapshot-steps", str(STEPS)]


@pytest.fixture
def case(shards: Path, vectors_file: Path, environment: dict[str, str], tmp_path: Path) -> Case:
    run = tmp_path / "run"
    words = ["train", str(shards), "--vectors", str(vectors_file), "--out", str(run), *OPTIONS]
    return Case([*words, "--checkpoint-steps", str(STEPS)], run, environment)


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


@pytest.mark.soak
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGKILL])
def test_ranks_whose_launcher_dies_save_and_are_gone(case: Case, number: int):
    process = case.begin(*TORCHRUN)
    wait(lambda: case.lines() >= 3, process)
    ranks = [*ranks_of(process).values()]
    assert len(ranks) == 2
    process.send_signal(number)  # torchrun does not pass on either
    assert gone(ranks, seconds=60)
    code, output = ended(process)
    assert code == -number
    assert said_stopped(output) == [case.checkpoint()] and case.status() == "KILLED"


@pytest.mark.soak
@pytest.mark.parametrize("launcher", [[], TORCHRUN], ids=["alone", "two ranks"])
def test_ctrl_c_stops_a_training_whose_mlflow_hangs(case: Case, launcher: list[str]):
    """A terminal sends SIGINT to the launcher and to the ranks."""
    with socket.create_server(("127.0.0.1", 0)) as hangs:
        uri = f"http://127.0.0.1:{hangs.getsockname()[1]}"
        process = replace(case, environment={**case.environment, "MLFLOW_TRACKING_URI": uri}).begin(
            *launcher, as_of_a_terminal=True
        )
        wait(lambda: case.lines() >= 3, process)
        os.killpg(process.pid, signal.SIGINT)
        code, output = ended(process)
    assert code == (1 if launcher else 75), output
    assert said_stopped(output) == [case.checkpoint()] and case.checkpoint() >= 3


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
    number = rng.choice([signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
    for pid in {"launcher": [process.pid], "one rank": ranks[-1:]}.get(whom, ranks):
        os.kill(pid, number)
    code, output = ended(process)
    assert gone(ranks, seconds=1)
    assert len(re.findall("^stopped ", output, re.M)) == 1, output
    assert set(re.findall(r"exitcode  : (-?\d+)", output)) <= {"75"}, output
    if whom == "alone":
        assert code == 75, output
    else:  # SIGUSR1 ends torchrun, and the ranks notice that
        assert code == (-number if (whom, number) == ("launcher", signal.SIGUSR1) else 1), output
    for step in said_stopped(output) or [before]:
        assert before <= step == case.checkpoint(), output
    assert [line["step"] for line in metrics(case.run)] == [*range(1, case.checkpoint() + 1)]
    assert case.status() == "KILLED" or (case.status() is None and not case.checkpoint())


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
    assert metrics(stopped.run) == metrics(whole.run)
    assert len(metrics(whole.run)) == 301  # one is of the val split
