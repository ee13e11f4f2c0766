"""Real servers in processes of their own: moto's and Ceph's S3, PostgreSQL; skipped where one is missing.

And a proxy before one of S3, which answers as stores and networks do on bad days.
"""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest

# A monitor, a manager and one disk in memory, without authentication between them; the gateway has its own.
CEPH = """[global]
fsid = {fsid}
mon host = v1:127.0.0.1:{port}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr2 = false
auth cluster required = none
auth service required = none
auth client required = none
keyring = /dev/null
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon max pg per osd = 2000
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 4294967296
run dir = {folder}
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
mon data = {folder}/mon
mgr data = {folder}/mgr
osd data = {folder}/osd
rgw data = {folder}/rgw
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def moto_server(folder: Path) -> Iterator[tuple[subprocess.Popen, dict[str, str]]]:
    """Run moto's server, with the bucket `bucket`; yield it, and the environment variables of its clients."""
    url = f"http://127.0.0.1:{free_port()}"
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", url.rpartition(":")[2]]
    with _running(words, folder / "moto.log") as server:
        _wait(lambda: _answers(f"{url}/moto-api/"), server)
        yield server, _clients(url, "key", "secret")


class FaultyStore(ThreadingHTTPServer):
    """Passes requests on to a server of S3, and has its next fault at each writing with a condition.

    Args:
        url: of the server.
    """

    daemon_threads = True

    def __init__(self, url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Faulty)
        self.target = urlsplit(url).netloc
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.faults: Iterator[str | tuple[int, str]] = iter(())
        """"loses the answer"; "another is faster", who writes b"another"; or a status and its code, with
        which it answers instead of the server."""


@contextmanager
def faulty_store(url: str) -> Iterator[FaultyStore]:
    with FaultyStore(url) as server, answering(server):
        yield server


@contextmanager
def answering(server: ThreadingHTTPServer) -> Iterator[None]:
    """Let a server of this process answer, in a thread."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


class _Faulty(BaseHTTPRequestHandler):
    server: FaultyStore
    protocol_version = "HTTP/1.1"  # for clients that wait with what they send until they are told to go on

    def do_GET(self) -> None:
        self.close_connection = True
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        conditional = "If-Match" in self.headers or "If-None-Match" in self.headers
        fault = next(self.server.faults, None) if conditional else None
        if isinstance(fault, tuple):
            status, code = fault
            self._answer(status, {}, f"<Error><Code>{code}</Code></Error>".encode())
            return
        if fault == "another is faster":
            self._pass_on(b"another", {"Authorization": self.headers["Authorization"]})
        answer = self._pass_on(body, {**self.headers})
        if fault != "loses the answer":
            self._answer(*answer)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def _pass_on(self, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.server.target)
        connection.request(self.command, self.path, body, {**headers, "Expect": ""})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, dict(answer.getheaders()), content

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        left = {name: value for name, value in headers.items() if name not in ("Date", "Server")}
        for name, value in ({"Content-Length": str(len(content))} | left | {"Connection": "close"}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


@contextmanager
def rclone_server(folder: Path) -> Iterator[dict[str, str]]:
    """Run rclone's S3 server on a folder, which knows a wrong secret, but heeds no condition of a writing."""
    port = free_port()
    words = [
        str(Path(sys.executable).with_name("rclone")),
        "serve",
        "s3",
        "--addr",
        f"127.0.0.1:{port}",
        "--auth-key",
        "key,secret",
        "--config",
        "",
    ]
    with _running([*words, str(folder)], folder.parent / "rclone.log") as server:
        url = f"http://127.0.0.1:{port}"
        _wait(lambda: _answers(url), server)
        yield _clients(url, "key", "secret") | {"AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required"}


@contextmanager
def ceph_server(folder: Path) -> Iterator[dict[str, str]]:
    """Run Ceph's S3 gateway on a cluster in memory, with the bucket `bucket`. Starts in 20 s."""
    if shutil.which("radosgw") is None:
        pytest.skip("Ceph is missing: apt-get install radosgw ceph-mon ceph-osd ceph-mgr ceph-common")
    port, gateway, disk = free_port(), free_port(), str(uuid.uuid4())
    for name in ("mon", "mgr", "osd", "rgw"):
        (folder / name).mkdir(parents=True)
    config = str(folder / "ceph.conf")
    Path(config).write_text(CEPH.format(fsid=uuid.uuid4(), port=port, folder=folder))
    fsid = Path(config).read_text().split()[3]
    log = folder / "out.log"

    def run(*words: str) -> None:
        with open(log, "a") as file:
            subprocess.run(words, check=True, timeout=120, stdout=file, stderr=file)

    def start(*words: str) -> subprocess.Popen:
        return stack.enter_context(_running([*words, "-f"], log))

    with ExitStack() as stack:
        monitors = str(folder / "monitors")
        run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"v1:127.0.0.1:{port}", monitors)
        run("ceph-mon", "-c", config, "-i", "a", "--mkfs", "--monmap", monitors)
        start("ceph-mon", "-c", config, "-i", "a")
        run("ceph", "-c", config, "--connect-timeout", "60", "-s")
        start("ceph-mgr", "-c", config, "-i", "x")
        run("ceph", "-c", config, "osd", "new", disk)
        run("ceph-osd", "-c", config, "-i", "0", "--mkfs", "--osd-uuid", disk)
        disk_server = start("ceph-osd", "-c", config, "-i", "0")
        _wait(lambda: "1 up" in _output("ceph", "-c", config, "osd", "stat"), disk_server)
        user = ("--uid=u", "--display-name=u", "--access-key=key", "--secret=secretsecret")
        run("radosgw-admin", "-c", config, "user", "create", *user)
        words = ("-n", "client.rgw", f"--rgw-frontends=beast endpoint=127.0.0.1:{gateway}")
        server = start("radosgw", "-c", config, *words)
        url = f"http://127.0.0.1:{gateway}"
        _wait(lambda: _answers(url), server)
        yield _clients(url, "key", "secretsecret")


@contextmanager
def postgresql() -> Iterator[str]:
    """A PostgreSQL server that only this machine reaches; yields the address of its database."""
    programs = [*Path("/usr/lib/postgresql").glob("*/bin/initdb")] or [shutil.which("initdb")]
    if programs[-1] is None:
        pytest.skip("PostgreSQL is missing: apt-get install postgresql")
    programs = Path(programs[-1]).parent
    user = "postgres" if os.getuid() == 0 else None  # it does not run as root
    with tempfile.TemporaryDirectory(prefix="postgresql-") as folder:
        if user:
            shutil.chown(folder, user)
        begin = partial(subprocess.Popen, user=user, cwd=folder, stdout=subprocess.DEVNULL)
        words = ["--pgdata", f"{folder}/data", "--username", "mlflow", "--auth", "trust", "--no-sync"]
        assert begin([programs / "initdb", *words]).wait() == 0
        words = ["-D", f"{folder}/data", "-k", folder, "-c", "listen_addresses="]
        with begin([programs / "postgres", *words], stderr=subprocess.DEVNULL) as server:
            try:
                is_ready = [programs / "pg_isready", "--host", folder, "--username", "mlflow", "--quiet"]
                while begin(is_ready).wait():
                    assert server.poll() is None
                    time.sleep(0.1)
                yield f"postgresql+psycopg2://mlflow@/postgres?host={folder}"
            finally:
                server.send_signal(signal.SIGQUIT)


def _clients(url: str, key: str, secret: str) -> dict[str, str]:
    client = boto3.client(
        "s3", endpoint_url=url, aws_access_key_id=key, aws_secret_access_key=secret, region_name="us-east-1"
    )
    client.create_bucket(Bucket="bucket")
    return {
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": url,
    }


@contextmanager
def _running(words: list[str], log: Path) -> Iterator[subprocess.Popen]:
    with open(log, "a") as file:
        server = subprocess.Popen(words, stdout=file, stderr=file, env={**os.environ})
    try:
        yield server
    finally:
        server.kill()
        server.wait()


def _wait(is_up: Callable[[], bool], server: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not is_up():
        assert server.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)


def _output(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, timeout=120).stdout


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
