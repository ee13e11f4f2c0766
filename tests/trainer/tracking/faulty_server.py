"""A real `mlflow server`, and before it a proxy that does what servers and networks do on bad days."""

import http.client
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ...stores import answering, free_port

PAGE = b"<html><body><h1>Down for maintenance</h1></body></html>"
ERROR = b'{"error_code": "INTERNAL_ERROR", "message": "no"}'
REFUSALS = {  # what it answers: status, type, content
    "400": (400, "application/json", ERROR),
    "401": (401, "text/plain", b"You are not authenticated."),
    "429": (429, "application/json", ERROR),
    "500": (500, "application/json", ERROR),
    "html": (200, "text/html", PAGE),
    "html 503": (503, "text/html", PAGE),
}
FAULTS = (*REFUSALS, "closes", "never answers")


class MlflowServer:
    """A process group of its own, of which a test is free to stop, kill and start it again.

    Args:
        store: the address of its database.
        artifacts: where it keeps these; in the folder by default.
        options: more words of its command.
    """

    def __init__(self, folder: Path, store: str, artifacts: str, options: Sequence[str]) -> None:
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._folder, self._store = folder, store
        self._artifacts, self._options = artifacts or str(folder / "artifacts"), options
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        words = ["--backend-store-uri", self._store, "--artifacts-destination", self._artifacts]
        words += ["--port", str(self.port), "--workers", "1", *self._options]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *words],
            cwd=self._folder,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{self.address}/health", timeout=5).close()
                return
            except OSError:
                assert self._process.poll() is None and time.monotonic() < deadline
                time.sleep(0.1)

    def signal(self, number: int) -> None:
        assert self._process
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        assert self._process
        self.signal(signal.SIGKILL)
        self._process.wait()


@contextmanager
def mlflow_server(
    folder: Path, store: str = "", artifacts: str = "", options: Sequence[str] = ()
) -> Iterator[MlflowServer]:
    server = MlflowServer(folder, store or f"sqlite:///{folder / 'server.db'}", artifacts, options)
    server.start()
    try:
        yield server
    finally:
        server.kill()


class Proxy(ThreadingHTTPServer):
    """Passes requests on, after a while, or has the fault that it is given.

    `loses answers` passes them on, and closes the connection before the answer.
    """

    daemon_threads = True

    def __init__(self, target: MlflowServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target
        self.fault = ""
        self.delay = 0.0  # seconds
        self.asked = 0
        self.address = f"http://ann:s3cret@127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is nothing to tell."""


@contextmanager
def proxy(target: MlflowServer) -> Iterator[Proxy]:
    with Proxy(target) as server, answering(server):
        yield server


class _Handler(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.server.asked += 1
        self.close_connection = True
        fault = self.server.fault
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if fault in REFUSALS:
            self._answer(*REFUSALS[fault])
        elif fault == "never answers":
            while self.server.fault == fault:
                time.sleep(0.01)
        elif fault != "closes":
            time.sleep(self.server.delay)
            status, kind, content = self._pass_on(body)
            if fault != "loses answers":
                self._answer(status, kind, content)

    do_GET = do_PATCH = do_POST

    def _pass_on(self, body: bytes) -> tuple[int, str, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.target.port)
        headers = {"Content-Type": self.headers.get("Content-Type", "application/json")}
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, answer.getheader("Content-Type", ""), content

    def _answer(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""
