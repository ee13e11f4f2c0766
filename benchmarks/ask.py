"""Answers a second over the net, beside stock `mlflow models serve` of the same model.

    python benchmarks/ask.py models:/emojigan@champion photo.jpg --exported demo/onnx

Prints JSON lines: for each server, how long until it answered and the memory that it holds in the end; with
1 and 16 clients the answers a second and their times, medians of rounds in which the servers take turns. Each
client keeps its connection and asks again when it is answered.
"""

import base64
import http.client
import json
import os
import re
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import click
import psutil

STOCK = "mlflow models serve"
CLIENTS = (1, 16)
PATIENCE = 300  # seconds until a server is up


@dataclass(frozen=True)
class Server:
    """One that runs, and how it is asked."""

    name: str
    process: subprocess.Popen
    port: int
    up: float  # seconds from nothing to its first answer
    ask: tuple[str, bytes, dict[str, str]]  # path, body, headers

    def answer(self, connection: http.client.HTTPConnection) -> None:
        path, body, headers = self.ask
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        said = response.read()
        assert response.status == 200, said[:200]

    @property
    def request(self) -> bytes:
        """The same as the bytes of a connection that is kept."""
        path, body, headers = self.ask
        head = {"Host": "127.0.0.1", "Content-Length": len(body), **headers}
        lines = [f"POST {path} HTTP/1.1", *(f"{key}: {value}" for key, value in head.items()), "", ""]
        return "\r\n".join(lines).encode() + body

    @property
    def cpu(self) -> float:
        """Seconds of a core that it took, and the processes that it started."""
        process = psutil.Process(self.process.pid)
        return sum(sum(each.cpu_times()[:2]) for each in (process, *process.children(recursive=True)))

    @property
    def megabytes(self) -> float:
        """What it and the processes that it started hold."""
        process = psutil.Process(self.process.pid)
        return sum(each.memory_info().rss for each in (process, *process.children(recursive=True))) / 2**20


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def running(
    name: str, words: Callable[[int], list[str]], ask: tuple[str, bytes, dict[str, str]]
) -> Iterator[Server]:
    """A server from its command to its end."""
    port, begin = free_port(), time.perf_counter()
    process = subprocess.Popen(
        words(port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        while True:
            try:
                Server(name, process, port, 0, ask).answer(http.client.HTTPConnection("127.0.0.1", port))
                break
            except OSError:
                assert process.poll() is None and time.perf_counter() - begin < PATIENCE, f"{name} is not up"
                time.sleep(0.02)
        yield Server(name, process, port, time.perf_counter() - begin, ask)
    finally:
        os.killpg(process.pid, 9)
        process.wait()


@dataclass(frozen=True)
class Round:
    """What a server did for a few seconds."""

    speed: float  # answers a second
    took: list[float]  # seconds of each
    cpu: float  # seconds of a core, of each


def measured(server: Server, clients: int, seconds: float) -> Round:
    """Ask with so many clients, in one thread, which takes little of what the server needs."""
    took: list[float] = []
    begun: dict[socket.socket, float] = {}
    with ExitStack() as stack, selectors.DefaultSelector() as ready:
        for _ in range(clients):
            each = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ready.register(each, selectors.EVENT_READ)
        before, begin = server.cpu, time.perf_counter()
        for each in ready.get_map().values():
            begun[each.fileobj] = time.perf_counter()
            each.fileobj.sendall(server.request)
        while begun:
            for key, _ in ready.select():
                read_answer(key.fileobj)
                now = time.perf_counter()
                took.append(now - begun.pop(key.fileobj))
                if now < begin + seconds:
                    begun[key.fileobj] = now
                    key.fileobj.sendall(server.request)
        passed = time.perf_counter() - begin
        return Round(len(took) / passed, took, (server.cpu - before) / len(took))


def read_answer(connection: socket.socket) -> None:
    """All of an answer that has begun; its length is told."""
    said = connection.recv(2**16)
    while b"\r\n\r\n" not in said:
        said += connection.recv(2**16)
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.split(maxsplit=2)[1] == b"200", said[:400]
    length = int(re.search(rb"(?i)content-length: *(\d+)", head)[1])
    while len(body) < length:
        body += connection.recv(2**16)


@click.command()
@click.argument("model")
@click.argument("photo", type=click.Path(exists=True, path_type=Path))
@click.option("--exported", help="The same model as `emojigan export --to onnx` wrote it.")
@click.option("--samples", default=50, help="Latents of a photo.")
@click.option("--rounds", default=5)
@click.option("--seconds", default=3.0, help="Of each server in a round, with each number of clients.")
def main(model: str, photo: Path, exported: str | None, samples: int, rounds: int, seconds: float) -> None:
    content = photo.read_bytes()
    rows = {"columns": ["image"], "data": [[base64.b64encode(content).decode()]]}
    body = json.dumps({"dataframe_split": rows, "params": {"n_samples": samples}}).encode()
    stock = ("/invocations", body, {"Content-Type": "application/json"})
    ours = (f"/v1/ask?samples={samples}", content, {"Content-Type": "image/jpeg"})
    python = [sys.executable, "-m"]
    program = [sys.executable, "-c", "from emojigan.launch.cli import main; main()", "serve"]

    def of_mlflow(port: int) -> list[str]:
        return [*python, "mlflow", "models", "serve", "-m", model, "--env-manager", "local", "-p", str(port)]

    with ExitStack() as stack:
        servers = [stack.enter_context(running(STOCK, of_mlflow, stock))]
        for name, address in (("emojigan serve", model), ("emojigan serve, ONNX Runtime", exported)):
            if address:
                words = [*program, address, "--port"]
                servers.append(
                    stack.enter_context(running(name, lambda port, w=words: [*w, str(port)], ours))
                )
        found = {(server.name, clients): [] for server in servers for clients in CLIENTS}
        for _ in range(rounds):
            for server in servers:
                for clients in CLIENTS:
                    found[server.name, clients].append(measured(server, clients, seconds))
        for server in servers:
            told = {"server": server.name, "up_s": round(server.up, 2), "memory_mb": round(server.megabytes)}
            print(json.dumps(told))
        for server in servers:
            for clients in CLIENTS:
                print(json.dumps(row(server.name, clients, found)))


def row(name: str, clients: int, found: dict[tuple[str, int], list[Round]]) -> dict:
    """Medians of all rounds, and how they are beside those of MLflow."""
    rounds = found[name, clients]
    speed, cpu = (median(getattr(each, key) for each in rounds) for key in ("speed", "cpu"))
    took = sorted(each for one in rounds for each in one.took)
    return {
        "server": name,
        "clients": clients,
        "answers_per_s": round(speed, 1),
        "p50_ms": round(1000 * median(took), 1),
        "p99_ms": round(1000 * took[int(0.99 * len(took))], 1),
        "cpu_ms": round(1000 * cpu, 1),
        "beside_mlflow": round(speed / median(each.speed for each in found[STOCK, clients]), 2),
    }


if __name__ == "__main__":
    main()
