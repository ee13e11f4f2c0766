"""Two hosts lose each other while they train. Real processes, in two namespaces of the network."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import TINY_NETWORKS
from .trainings import TORCHRUN, Case, ended, wait

ADDRESSES = ("10.77.0.1", "10.77.0.2")
OPTIONS = [*TINY_NETWORKS, "--precision", "float32", "--steps", "100000", "--snapshot-steps", "100000"]


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, text=True, capture_output=True).stdout


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """The names of two namespaces with a network card each, and a cable between them."""
    if not shutil.which("ip"):
        pytest.skip("there is no `ip`, of iproute2")
    names = [f"emojigan-{os.getpid()}-{number}" for number in range(2)]
    try:
        for name in names:
            made = subprocess.run(["ip", "netns", "add", name], text=True, capture_output=True)
            if made.returncode:
                pytest.skip(f"no namespace of the network can be made here: {made.stderr.strip()}")
        ip("-n", names[0], "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", names[1])
        for name, address in zip(names, ADDRESSES, strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            for card in ("lo", "eth0"):
                ip("-n", name, "link", "set", card, "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


@pytest.mark.soak
def test_a_link_that_goes_down_ends_the_ranks_of_both_hosts_which_say_what_they_saw(
    hosts: list[str], shards: Path, vectors_file: Path, environment: dict[str, str], tmp_path: Path
):
    run = tmp_path / "run"
    words = ["train", str(shards), "--vectors", str(vectors_file), "--out", str(run), *OPTIONS]
    case = Case([*words, "--timeout", "0.2"], run, {**environment, "GLOO_SOCKET_IFNAME": "eth0"})
    torchrun = f"-m torch.distributed.run --nnodes 2 --nproc_per_node 1 --master_addr {ADDRESSES[0]}".split()
    first, second = (
        case.begin("ip", "netns", "exec", host, *TORCHRUN[:1], *torchrun, "--node_rank", str(number))
        for number, host in enumerate(hosts)
    )
    wait(lambda: case.lines() >= 3, first)
    ip("-n", hosts[0], "link", "set", "eth0", "down")
    seen = {
        first: "Rank 1 gives no sign of life: killed, frozen or cut off.",
        second: f"The other ranks cannot be reached from {socket.gethostname()}.",
    }
    for process, line in seen.items():
        code, output = ended(process)
        assert code == 1 and f"No step for 12 s (--timeout). {line}" in output, output
    for host in hosts:
        assert not ip("netns", "pids", host)
