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
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from threading import Thread

import click
import psutil

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


def measured(server: Server, clients: int, seconds: float) -> tuple[float, list[float]]:
    """Answers a second, and the seconds of each."""
    took: list[float] = []
    end = time.perf_counter() + seconds

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        while (begin := time.perf_counter()) < end:
            server.answer(connection)
            took.append(time.perf_counter() - begin)
        connection.close()

    threads = [Thread(target=ask) for _ in range(clients)]
    begin = time.perf_counter()
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return len(took) / (time.perf_counter() - begin), sorted(took)


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
        servers = [stack.enter_context(running("mlflow models serve", of_mlflow, stock))]
        for name, address in (("emojigan serve", model), ("emojigan serve, ONNX Runtime", exported)):
            if address:
                words = [*program, address, "--port"]
                servers.append(
                    stack.enter_context(running(name, lambda port, w=words: [*w, str(port)], ours))
                )
        found = {
            (server.name, clients): [] for server in servers for clients in CLIENTS
        }  # answers a second, and the seconds of each answer, of each round
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


def row(name: str, clients: int, found: dict) -> dict:
    """Medians of all rounds, and how they are beside those of MLflow."""
    speed = median(speed for speed, _ in found[name, clients])
    stock = median(speed for speed, _ in found["mlflow models serve", clients])
    took = sorted(each for _, times in found[name, clients] for each in times)
    return {
        "server": name,
        "clients": clients,
        "answers_per_s": round(speed, 1),
        "p50_ms": round(1000 * median(took), 1),
        "p99_ms": round(1000 * took[int(0.99 * len(took))], 1),
        "beside_mlflow": round(speed / stock, 2),
    }


if __name__ == "__main__":
    main()
