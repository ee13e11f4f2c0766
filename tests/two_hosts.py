"""Two hosts on one machine: each has a network, a name and a list of names of its own; a cable joins them."""

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PORT = "29500"  # each network has all of its own
PROGRAM = [sys.executable, "-c", "from emojigan.launch.cli import main; main()"]


@dataclass(frozen=True)
class Host:
    """One of them."""

    name: str
    number: int
    address: str
    space: str  # the name of its network for `ip netns`
    cable: str  # its end of the cable

    def begin(
        self, *words: str | Path, environment: Mapping[str, str], folder: Path | None = None
    ) -> subprocess.Popen[str]:
        """Start a process there; both hosts see the same disks."""
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0"; exec "$@"', self.name]
        return subprocess.Popen(
            ["ip", "netns", "exec", self.space, *named, *map(str, words)],
            env=dict(environment),
            cwd=folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def launch(
        self, *words: str | Path, environment: Mapping[str, str], folder: Path | None = None
    ) -> subprocess.Popen[str]:
        """Start `emojigan` as this host's rank of two, by torchrun."""
        place = ["--nnodes", "2", "--node-rank", str(self.number), "--master-addr", "10.77.0.1"]
        launcher = [sys.executable, "-m", "torch.distributed.run", *place, "--master-port", PORT]
        return self.begin(
            *(*launcher, "--nproc-per-node", "1", "--no-python", *PROGRAM, *words),
            environment=environment,
            folder=folder,
        )

    def pull(self) -> None:
        """Pull the cable out of this host."""
        ip("-n", self.space, "link", "set", self.cable, "down")

    def plug(self) -> None:
        """Put it back."""
        ip("-n", self.space, "link", "set", self.cable, "up")

    @contextmanager
    def names(self, address: str) -> Iterator[None]:
        """Let the name of this host resolve to another address there."""
        path = Path("/etc/netns") / self.space / "hosts"
        before = path.read_text()
        path.write_text(before.replace(f"{self.address} {self.name}", f"{address} {self.name}"))
        try:
            yield
        finally:
            path.write_text(before)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextmanager
def joined_hosts() -> Iterator[tuple[Host, Host]]:
    """node0 and node1, on which nothing runs."""
    if os.geteuid() or shutil.which("ip") is None or shutil.which("unshare") is None:
        pytest.skip("networks of their own need root, iproute2 and util-linux")
    word = secrets.token_hex(3)
    hosts = tuple(
        Host(f"node{number}", number, f"10.77.0.{number + 1}", f"eg-{word}-{number}", f"eg{word}{number}")
        for number in (0, 1)
    )
    one, other = hosts
    lines = ["127.0.0.1 localhost", *(f"{host.address} {host.name}" for host in hosts)]
    folders = [Path("/etc/netns") / host.space for host in hosts]
    try:
        for host, folder in zip(hosts, folders, strict=True):
            if subprocess.run(["ip", "netns", "add", host.space]).returncode:
                pytest.skip("networks of their own are not allowed here")
            folder.mkdir(parents=True)
            (folder / "hosts").write_text("\n".join(lines) + "\n")
        ip("link", "add", one.cable, "type", "veth", "peer", "name", other.cable)
        for host in hosts:
            ip("link", "set", host.cable, "netns", host.space)
            ip("-n", host.space, "addr", "add", f"{host.address}/24", "dev", host.cable)
            for name in ("lo", host.cable):
                ip("-n", host.space, "link", "set", name, "up")
        yield one, other
    finally:
        for host, folder in zip(hosts, folders, strict=True):
            subprocess.run(["ip", "netns", "delete", host.space])
            shutil.rmtree(folder, ignore_errors=True)
