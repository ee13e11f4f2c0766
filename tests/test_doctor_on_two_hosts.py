"""`emojigan doctor` on two hosts: networks with faults that are real, and an end within its time."""

import json
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from .conftest import TINY_NETWORKS
from .trainings import ended
from .two_hosts import Host

pytestmark = pytest.mark.soak
WITHIN = 100.0  # seconds, with two hosts on two cores: those that wait for nothing take 20


Begin = Callable[..., list[subprocess.Popen[str]]]
Found = dict[str, tuple[str, str]]


@pytest.fixture
def begin(
    two_hosts: tuple[Host, Host],
    shards: Path,
    vectors_file: Path,
    environment: dict[str, str],
    tmp_path: Path,
) -> Begin:
    """Start it by torchrun on both; each has a working directory of its own, and variables, where told."""

    def processes(out: str | Path, variables: Sequence[dict[str, str]] = ({}, {})) -> list:
        words = ["doctor", shards, "--vectors", vectors_file, "--json", *TINY_NETWORKS, "--out", out]
        begun = []
        for host, more in zip(two_hosts, variables, strict=True):
            (tmp_path / host.name).mkdir()
            there = {"environment": {**environment, **more}, "folder": tmp_path / host.name}
            begun.append(host.launch(*words, **there))
        return begun

    return processes


@pytest.fixture
def examine(begin: Begin) -> Callable[..., Found]:
    """What each check finds; both hosts must end with a code."""

    def examined(out: str | Path, code: int, variables: Sequence[dict[str, str]] = ({}, {})) -> Found:
        (first, said), (other, _) = [ended(process, WITHIN) for process in begin(out, variables)]
        assert (first, other) == (code, code), said
        return found(said)

    return examined


def found(said: str) -> Found:
    lines = (json.loads(line) for line in said.splitlines() if line.startswith("{"))
    return {line["check"]: (line["state"], line["told"]) for line in lines}


def faults(told: Found) -> dict[str, str]:
    return {check: words for check, (state, words) in told.items() if state in ("failure", "warning")}


def test_where_all_is_well_it_says_so(examine, tmp_path: Path):
    told = examine(tmp_path / "run", 0)
    assert not faults(told)
    assert told["ranks"] == ("fine", "rank 0 on node0; rank 1 on node1")
    assert "GB/s between nodes" in told["network"][1]
    assert not (tmp_path / "run").exists()


def test_names_that_come_to_the_own_machine(examine, two_hosts: tuple[Host, Host], tmp_path: Path):
    with two_hosts[0].names("127.0.0.1"), two_hosts[1].names("127.0.0.1"):
        told = faults(examine(tmp_path / "run", 1))
    assert told.keys() == {"joining"}
    assert (
        "node0 resolves to 127.0.0.1, node1 resolves to 127.0.0.1: set GLOO_SOCKET_IFNAME" in told["joining"]
    )


def test_a_host_with_other_libraries_and_another_clock(examine, tmp_path: Path):
    libraries = tmp_path / "libraries"
    numpy = libraries / "numpy-1.0.dist-info" / "METADATA"
    numpy.parent.mkdir(parents=True)
    numpy.write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.0\n")
    ahead = "import time\nnow = time.time\ntime.time = lambda: now() + 60\n"
    (libraries / "sitecustomize.py").write_text(ahead)
    told = faults(examine(tmp_path / "run", 1, ({}, {"PYTHONPATH": str(libraries)})))
    assert told.keys() == {"software", "clocks"}
    assert "on rank 0, 1.0 on rank 1. Install the same." in told["software"]
    assert re.match(r"node1 is 60\.\d s ahead, beside node0\. Set the clocks", told["clocks"])


def test_a_slow_cable_and_folders_of_their_own(examine, two_hosts: tuple[Host, Host]):
    one, _ = two_hosts
    slow = ["tbf", "rate", "200mbit", "burst", "64kbit", "latency", "400ms"]
    device = ["tc", "-n", one.space, "qdisc", "add", "dev", one.cable, "root"]
    if subprocess.run([*device, *slow], capture_output=True).returncode:
        pytest.skip("this system has no slow cables (sch_tbf)")
    try:
        told = faults(examine("run", 1))
    finally:
        subprocess.run(["tc", "-n", one.space, "qdisc", "delete", "dev", one.cable, "root"], check=True)
    assert told.keys() == {"network", "folder"}
    assert told["network"].startswith("between node0 (rank 0) and node1 (rank 1) 0.0")
    assert "is not seen by rank 1 in node1:" in told["folder"]


def test_a_cable_that_is_pulled_meanwhile(begin: Begin, two_hosts: tuple[Host, Host], tmp_path: Path):
    """The first rank tells which one it lost, and the other ends itself."""
    first, other = begin(tmp_path / "run")
    assert first.stdout
    said = ""
    while '"check": "code"' not in said:
        line = first.stdout.readline()
        assert line, said
        said += line
    two_hosts[1].pull()
    try:
        ends = [ended(process, WITHIN) for process in (first, other)]
    finally:
        two_hosts[1].plug()
    assert [code for code, _ in ends] == [1, 1]
    told = found(said + ends[0][1])
    (lost,) = faults(told).values()
    assert "rank 1: does not answer" in lost
    assert told["steps"] == ("skipped", "not looked at: a rank was lost")
