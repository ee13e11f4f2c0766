"""A training on two hosts is that of one process; when one refuses or is cut off, both end and say why."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import TINY_NETWORKS
from .trainings import PROGRAM, Case, ended, metrics, ranks_of, readings, wait
from .two_hosts import PORT, Host

pytestmark = pytest.mark.soak
OPTIONS = [*TINY_NETWORKS, "--precision", "float32", "--window", "2", "--timeout", "0.25"]
STATE = "checkpoints/step-00000006/state.safetensors"
Begin = Callable[..., list[subprocess.Popen[str]]]


@pytest.fixture
def words(shards: Path, vectors_file: Path) -> list[str | Path]:
    """Of a training without its --out."""
    return ["train", shards, "--vectors", vectors_file, *OPTIONS]


@pytest.fixture
def begin(two_hosts: tuple[Host, Host], environment: dict[str, str], tmp_path: Path) -> Begin:
    """Start the same command on both; each has a working directory of its own."""

    def start(*words: str | Path) -> list[subprocess.Popen[str]]:
        for host in two_hosts:
            (tmp_path / host.name).mkdir()
        return [
            host.launch(*words, environment=environment, folder=tmp_path / host.name) for host in two_hosts
        ]

    return start


def ends(processes: list[subprocess.Popen[str]]) -> list[str]:
    """What both said that failed."""
    codes, said = zip(*map(ended, processes), strict=True)
    assert codes == (1, 1), said  # torchrun's, whatever the ranks' was
    return list(said)


def ours(said: str) -> list[str]:
    return [
        line for line in said.splitlines() if line.startswith(("Error: ", "Rank ", "No step ", "The other"))
    ]


def test_they_train_as_one_process_does(
    begin: Begin, words: list[str | Path], environment: dict[str, str], tmp_path: Path
):
    """In order, bit for bit: the data and the noise of each step were the same."""
    words = [*words, "--steps", "6", "--deterministic-ranks", "2", "--lanes", "2"]
    hosts = begin(*words, "--world-size", "2", "--out", tmp_path / "two")
    assert [code for code, _ in map(ended, hosts)] == [0, 0]
    subprocess.run([*PROGRAM, *words, "--out", tmp_path / "one"], env=environment, check=True)
    assert (tmp_path / "one" / STATE).read_bytes() == (tmp_path / "two" / STATE).read_bytes()
    assert metrics(tmp_path / "one") == metrics(tmp_path / "two")


def test_accelerate_starts_them_too(
    two_hosts: tuple[Host, Host], words: list[str | Path], environment: dict[str, str], tmp_path: Path
):
    place = ["--num_machines", "2", "--num_processes", "2", "--main_process_ip", "10.77.0.1"]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", *place]
    hosts = [
        host.begin(
            *(*launcher, "--main_process_port", PORT, "--machine_rank", str(host.number), "--no_python"),
            *(*PROGRAM, *words, "--steps", "2", "--out", tmp_path / "run"),
            environment={**environment, "ACCELERATE_USE_CPU": "true"},
        )
        for host in two_hosts
    ]
    found = [*map(ended, hosts)]
    assert [code for code, _ in found] == [0, 0], found
    assert "2 rank(s) on cpu" in found[0][1]


def test_what_one_host_does_not_see_both_refuse_and_one_says_so(
    begin: Begin, words: list[str | Path], shards: Path, tmp_path: Path
):
    processes = begin(words[0], "shards", *words[2:], "--out", tmp_path / "run")
    (tmp_path / "node0" / "shards").symlink_to(shards)  # long before they have imported torch
    first, other = ends(processes)
    assert ours(first) == []
    (line,) = ours(other)
    assert line.startswith("Error: shards")
    assert not (tmp_path / "run").exists()


def test_hosts_whose_names_are_those_of_themselves_do_not_wait_without_end(
    two_hosts: tuple[Host, Host], begin: Begin, words: list[str | Path], tmp_path: Path
):
    """As many machines have it, whose name is in their /etc/hosts with 127.0.0.1."""
    with two_hosts[0].names("127.0.0.1"), two_hosts[1].names("127.0.0.1"):
        said = ends(begin(*words, "--timeout", "0.001", "--out", tmp_path / "run"))
    for each in said:
        (line,) = ours(each)
        assert line.startswith("Error: The 2 ranks did not meet: Gloo connectFullMesh failed")


def test_when_the_cable_is_pulled_both_end_and_say_so(
    two_hosts: tuple[Host, Host],
    begin: Begin,
    words: list[str | Path],
    environment: dict[str, str],
    tmp_path: Path,
):
    run = tmp_path / "run"
    processes = begin(*words, "--steps", "100000", "--out", run)
    case = Case([], run, environment)
    wait(lambda: case.lines() > 3, processes[0])
    two_hosts[1].pull()
    try:
        said = ends(processes)
    finally:
        two_hosts[1].plug()
    assert ours(said[0])[-1].startswith("No step for 15 s (--timeout). Rank 1 gives no sign of life: ")
    assert "cannot be reached from node1" in ours(said[1])[-1]


def test_an_elastic_training_goes_on_after_a_rank_was_killed(
    two_hosts: tuple[Host, Host], words: list[str | Path], environment: dict[str, str], tmp_path: Path
):
    """As docs/cluster.md has it: torchrun makes all ranks anew, which go on from the last checkpoint."""
    run, steps = tmp_path / "run", 400
    words = [*words, "--steps", str(steps), "--checkpoint-steps", "5", "--out", run]
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"node0:{PORT}", "--rdzv-id", "first"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "1:2", "--max-restarts", "3"]
    environment = {**environment, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    processes = [
        host.begin(*launcher, *meeting, "--no-python", *PROGRAM, *words, environment=environment)
        for host in two_hosts
    ]
    case = Case([], run, environment)
    wait(lambda: case.checkpoint() > 5, processes[0])
    (rank,) = ranks_of(processes[1]).values()
    os.kill(rank, signal.SIGKILL)
    found = [*map(ended, processes)]
    assert [code for code, _ in found] == [0, 0], found
    trained = [int(each["step"]) for each in readings(run) if "train/critic_loss" in each]
    assert trained == [*range(1, steps + 1)]
