"""Trouble of this machine or of a store is tried again, then named; it never counts as damage of the data."""

import builtins
import errno
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path

import boto3
import fsspec
import pytest
import torch
from s3fs import S3FileSystem

from emojigan.datasets.errors import InputError
from emojigan.datasets.shards.manifest import read_manifest
from emojigan.datasets.store import trouble
from emojigan.datasets.store.cache import ShardCache
from emojigan.datasets.store.folder import LocalFolder, StoreFolder, open_folder
from emojigan.datasets.store.trouble import patiently
from emojigan.datasets.stream.order import Order
from emojigan.datasets.stream.quarantine import Quarantine, Quarantined
from emojigan.datasets.stream.reader import Reader, Reading
from emojigan.datasets.stream.split import Split
from emojigan.datasets.stream.stream import stream
from emojigan.datasets.stream.unchanged import Unchanged

from ...conftest import TINY_NETWORKS, TRAIN_ON_TWO_RANKS
from ...tiny_dataset import write_dataset
from ...trainings import metrics

SIZES = (9, 4, 12, 7, 5, 8)


@pytest.fixture(autouse=True)
def between_tries(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """What is done before each further try, instead of waiting; of several threads one after the other."""
    actions: list[Callable[[], object]] = []
    turn = threading.Lock()

    def act(_: float) -> None:
        with turn:
            if actions:
                actions.pop(0)()

    monkeypatch.setattr(trouble, "WAITS", (1, 1))
    monkeypatch.setattr(trouble, "sleep", act)
    monkeypatch.setattr(trouble, "_told", set())
    return actions


def failing(*errors: Exception) -> Callable[[], str]:
    """Raises each of the errors once, then gives "done"."""
    left = list(errors)

    def attempt() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return attempt


NAMES = (
    "ENOSPC",
    "EDQUOT",
    "EIO",
    "EMFILE",
    "ENFILE",
    "ESTALE",
    "ENOMEM",
    "EACCES",
    "ETIMEDOUT",
    "ECONNRESET",
)


@pytest.mark.parametrize("name", NAMES)
def test_passing_trouble_is_tried_again_and_told_once(name, capsys):
    error = OSError(getattr(errno, name), os.strerror(getattr(errno, name)))
    assert patiently(failing(error, error), "here") == "done"
    assert capsys.readouterr().err == f"here: {error.strerror}. Trying again for a while.\n"


@pytest.mark.parametrize("name", NAMES)
def test_lasting_trouble_ends_with_its_cause_and_its_place(name):
    error = OSError(getattr(errno, name), os.strerror(getattr(errno, name)), "/there/file")
    with pytest.raises(InputError, match=f"/there/file: {error.strerror}. "):
        patiently(failing(*[error] * 9), "here")


def test_damage_is_not_tried_again():
    attempt = failing(ValueError("damaged"))
    with pytest.raises(ValueError, match="damaged"):
        patiently(attempt, "here")
    assert attempt() == "done"


@pytest.fixture
def local(tmp_path: Path) -> Split:
    return write_dataset(tmp_path / "local", SIZES)


def behind(url: str, local: Split, cache: Path) -> Split:
    """The dataset as it lies on a store."""
    return Split(open_folder(url), local.manifest, "train", ShardCache(cache, 1 << 30))


def read(split: Split, between: Callable[[], object] = lambda: None) -> list[torch.Tensor]:
    """All images of two epochs, and what is done between them. Nothing may be quarantined."""
    quarantined: list[Quarantined] = []
    with closing(
        stream(
            split,
            seed=1,
            window=2,
            batch_size=4,
            start=0,
            max_quarantined=1,
            tell_quarantined=quarantined.append,
        )
    ) as batches:
        images = [batch.images for batch in islice(batches, split.num_tuples // 4)]
        between()
        images += [batch.images for batch in islice(batches, split.num_tuples // 4)]
    assert quarantined == []
    return images


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def break_calls(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    call: str,
    code: int,
    breaks: Callable[[Counter[str], str], bool],
) -> None:
    """Let calls about files of a folder fail: those that `breaks` picks, by how many there were of each."""
    counts: Counter[str] = Counter()
    original = os.stat if call == "stat" else open

    class Unreadable(io.BufferedReader):
        def read(self, *_: object) -> bytes:
            raise OSError(code, os.strerror(code))

    def broken(path, *args, **options):
        name = str(path)
        if not name.startswith(f"{folder}/"):
            return original(path, *args, **options)
        counts[name] += 1
        if not breaks(counts, name):
            return original(path, *args, **options)
        if call == "read":
            return Unreadable(io.FileIO(name))
        raise OSError(code, os.strerror(code), name)

    if call == "stat":
        monkeypatch.setattr(os, "stat", broken)
    else:
        monkeypatch.setattr(builtins, "open", broken)
        monkeypatch.setattr(io, "open", broken)


@pytest.mark.parametrize("name", ["ESTALE", "EIO", "EMFILE", "EACCES"])
@pytest.mark.parametrize("call", ["open", "stat", "read"])
def test_a_local_file_that_fails_twice_whenever_it_is_wanted_costs_nothing(local, call, name, monkeypatch):
    """From the manifest on. In the second epoch all shards look as if they were others, and are compared."""
    expected, folder = read(local), local.folder.path
    break_calls(monkeypatch, folder, call, getattr(errno, name), lambda counts, path: counts[path] % 3 > 0)
    split = Split(local.folder, read_manifest(local.folder), "train")
    assert same(read(split, lambda: [(folder / shard.name).touch() for shard in split.shards]), expected)


def test_a_local_window_that_cannot_be_looked_at_ahead_is_opened_when_it_is_wanted(local, monkeypatch):
    """The third tar, of the second window, can be mapped; then all tries of the look at its identity fail."""
    failed: list[str] = []

    def breaks(counts: Counter[str], path: str) -> bool:
        tars = [each for each in counts if each.endswith(".tar")]
        if path not in tars[2:3] or counts[path] not in (2, 3, 4):
            return False
        failed.append(path)
        return True

    with closing(stream(local, seed=1, window=2, batch_size=1, start=0, helpers=0)) as batches:
        expected = [batch.images for batch in islice(batches, local.num_tuples)]
    with closing(stream(local, seed=1, window=2, batch_size=1, start=0, helpers=0)) as batches:
        break_calls(monkeypatch, local.folder.path, "stat", errno.ESTALE, breaks)
        images = [next(batches).images]
        deadline = time.monotonic() + 20
        while len(failed) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        images += [batch.images for batch in islice(batches, local.num_tuples - 1)]
    assert same(images, expected)


def test_a_window_that_fails_late_does_not_drop_the_one_that_was_begun_since(local, monkeypatch):
    original, begun, first = Reader._open, [], (0, 0, 0)

    def open_window(self: Reader, *key: int):
        begun.append(key)
        if key == first and begun.count(first) == 1:
            raise InputError("late")
        return original(self, *key)

    monkeypatch.setattr(Reader, "_open", open_window)
    with ThreadPoolExecutor(1) as opener:
        order = Order(1, local.sizes, window=1, lanes=1)
        quarantine, unchanged = Quarantine(local, 0, print), Unchanged(local)
        reader = Reader(local, Reading(order, 1, 0, 1), quarantine, opener, unchanged)
        wait = threading.Event()
        opener.submit(wait.wait)
        for window in (0, 1, 2):
            reader._begin([(0, 0, window)])
        (since,) = reader._begin([first])  # it was dropped for the others
        wait.set()
        opener.submit(bool).result()
        assert begun.count(first) == 2
        assert reader._begin([first]) == [since]


def with_a_folder_for_a_manifest(path: Path) -> None:
    (path / "manifest.json").mkdir(parents=True)


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, with_a_folder_for_a_manifest])
def test_what_is_no_dataset_is_told_at_once(tmp_path, make, between_tries):
    between_tries.append(lambda: pytest.fail("it was tried again"))
    make(tmp_path / "none")
    with pytest.raises(InputError, match=r"none is not a dataset \(no manifest.json\)"):
        read_manifest(LocalFolder(tmp_path / "none"))


@pytest.fixture
def on_s3(store, local: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Split:
    """The dataset on a real server, whose client soon gives up."""
    client = boto3.client("s3")
    assert local.folder.path is not None
    for path in local.folder.path.iterdir():
        client.put_object(Bucket="bucket", Key=f"{tmp_path.name}/{path.name}", Body=path.read_bytes())
    impatient = {"read_timeout": 0.5, "connect_timeout": 0.5, "retries": {"max_attempts": 0}}
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": impatient})
    monkeypatch.setattr(S3FileSystem, "retries", 1)
    S3FileSystem.clear_instance_cache()
    return behind(f"s3://bucket/{tmp_path.name}", local, tmp_path / "cache")


def test_a_store_that_stops_to_answer_for_a_while_costs_nothing(server, on_s3, local, between_tries):
    between_tries[:] = [lambda: None, lambda: server.send_signal(signal.SIGCONT)]
    server.send_signal(signal.SIGSTOP)
    assert same(read(on_s3), read(local))


def test_a_store_that_does_not_answer_any_more_is_named(server, on_s3):
    server.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(InputError, match=r"^s3://bucket/\S+: .*[Tt]imeout.*\. Mend that"):
            read(on_s3)
    finally:
        server.send_signal(signal.SIGCONT)


def test_a_store_that_refuses_is_named(on_s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"^s3://bucket/\S+: Could not connect"):
        read(on_s3)


def test_a_shard_that_a_store_has_lost_is_damage(on_s3):
    root = str(on_s3.folder).removeprefix("s3://bucket/")
    boto3.client("s3").delete_object(Bucket="bucket", Key=f"{root}/000001.tar")
    with pytest.raises(AssertionError, match="cannot be read: the store has no such file"):
        read(on_s3)


@pytest.fixture
def overloaded(local: Split) -> Iterator[tuple[str, list[int]]]:
    """A web server, and the answers that it gives before it gives the files."""
    answers: list[int] = []

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            try:  # at once: files are asked for by several threads
                answer = answers.pop() if self.path.endswith(".tar") else None
            except IndexError:
                answer = None
            super().do_GET() if answer is None else self.send_error(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(local.folder.path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", answers
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("answer", [500, 503, 429, 403])
def test_a_server_that_is_overloaded_is_asked_again(overloaded, local, tmp_path, answer):
    url, answers = overloaded
    answers += [answer] * 2  # as many as a thread has patience for: it may be one that gets all
    assert same(read(behind(url, local, tmp_path / "cache")), read(local))
    assert answers == []


@pytest.fixture
def on_full_disk(disk: Path, local: Split, tmp_path: Path) -> tuple[Split, Path]:
    """The dataset behind a cache on a disk that a file fills."""
    store = fsspec.filesystem("memory")
    assert local.folder.path is not None
    for path in local.folder.path.iterdir():
        store.pipe_file(f"/{tmp_path.name}/{path.name}", path.read_bytes())
    ballast = disk / "ballast"
    with pytest.raises(OSError, match="No space left"):
        ballast.write_bytes(bytes(1 << 22))
    return behind(f"memory://{tmp_path.name}", local, disk / "cache"), ballast


def test_a_cache_on_a_full_disk_is_named_and_nothing_is_quarantined(on_full_disk):
    split, _ = on_full_disk
    with pytest.raises(InputError, match=r"cache: No space left on device\. Free space there, or .*--cache"):
        read(split)


def test_a_disk_that_is_full_for_a_while_costs_nothing(on_full_disk, local, between_tries, capsys):
    split, ballast = on_full_disk
    between_tries[:] = [lambda: None, ballast.unlink]
    assert same(read(split), read(local))
    assert "cache: No space left on device. Trying again for a while.\n" in capsys.readouterr().err


def test_what_a_killed_rank_left_does_not_keep_a_disk_full(on_full_disk, local):
    split, ballast = on_full_disk
    split.cache.path.mkdir()
    ballast.rename(split.cache.path / f".{'d' * 64}.1-00000000.tmp")
    assert same(read(split), read(local))


def test_a_window_that_cannot_be_fetched_ahead_is_fetched_when_it_is_wanted(on_s3, local, monkeypatch):
    """All tries of the first time fail, of the third tar: the first two are the first window."""
    failures: dict[str, int] = {}
    original = StoreFolder.download

    def download(self: StoreFolder, name: str, file: Path) -> None:
        if name.endswith(".tar"):
            failures.setdefault(name, 3 if len(failures) == 2 else 0)
            if failures[name]:
                failures[name] -= 1
                raise OSError(errno.ECONNRESET, "reset")
        original(self, name, file)

    monkeypatch.setattr(StoreFolder, "download", download)
    with closing(stream(on_s3, seed=1, window=2, batch_size=1, start=0, helpers=0)) as batches:
        images = [next(batches).images]
        deadline = time.monotonic() + 20
        while len(failures) < 3 or any(failures.values()):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        images += [batch.images for batch in islice(batches, on_s3.num_tuples - 1)]
    with closing(stream(local, seed=1, window=2, batch_size=1, start=0, helpers=0)) as batches:
        assert same(images, [batch.images for batch in islice(batches, local.num_tuples)])


FEW_FILES = """
import resource, sys
import numpy.random
from itertools import islice
from pathlib import Path
from emojigan.datasets.errors import InputError
from emojigan.datasets.shards.manifest import read_manifest
from emojigan.datasets.store import trouble
from emojigan.datasets.store.cache import ShardCache
from emojigan.datasets.store.folder import StoreFolder, open_folder
from emojigan.datasets.stream.split import Split
from emojigan.datasets.stream.stream import stream

trouble.WAITS = (0, 0)
folder = open_folder(sys.argv[1])
split = Split(folder, read_manifest(folder), "train")
batches = stream(
    split, seed=1, window=2, batch_size=4, start=0, helpers=0, max_quarantined=1, tell_quarantined=print
)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
try:
    next(batches)
except InputError as error:
    print(error)
"""


def test_too_many_open_files_are_named_and_nothing_is_quarantined(local):
    words = [sys.executable, "-c", FEW_FILES, str(local.folder)]
    result = subprocess.run(words, capture_output=True, text=True)
    assert "Too many open files. Raise the limit of open files (ulimit -n).\n" in result.stdout, result.stderr
    assert result.stdout.count("\n") == 1


def train(shards: str | Path, vectors: Path, run: Path, cache: Path, environment: dict[str, str]):
    """Train on two ranks, from the command line."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    words = [*TRAIN_ON_TWO_RANKS, shards, "--vectors", vectors, "--out", run, "--cache", cache]
    words += [*TINY_NETWORKS, "--steps", "6", "--precision", "float32", "--world-size", "2"]
    environment = {**os.environ, **environment, "PATH": path}
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=200)


@pytest.mark.soak
@pytest.mark.parametrize("server", ["store", "ceph"])
def test_two_ranks_train_alike_from_a_damaged_cache_and_end_alike_on_a_full_disk(
    request, server, disk, shards, vectors_file, environment, tmp_path
):
    store = request.getfixturevalue(server)
    client = boto3.client("s3")
    for path in shards.rglob("*"):
        if path.is_file():
            client.upload_file(str(path), "bucket", f"trained/{path.relative_to(shards)}")
    url, environment = "s3://bucket/trained", {**environment, **store}
    cache = tmp_path / "cache"
    results = [
        train(shards, vectors_file, tmp_path / "local", cache, environment),
        train(url, vectors_file, tmp_path / "fetched", cache, environment),
    ]
    for path in cache.iterdir():
        if len(path.name) == 64:
            content = path.read_bytes()
            path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    results.append(train(url, vectors_file, tmp_path / "damaged", cache, environment))
    assert [result.returncode for result in results] == [0] * 3, results[-1].stderr
    assert metrics(tmp_path / "local") == metrics(tmp_path / "fetched") == metrics(tmp_path / "damaged")

    with pytest.raises(OSError, match="No space left"):
        (disk / "ballast").write_bytes(bytes(1 << 22))
    result = train(url, vectors_file, tmp_path / "full", disk / "cache", environment)
    assert result.returncode != 0
    assert f"Error: {disk}/cache: No space left on device. Free space there" in result.stderr
    assert not list(tmp_path.rglob("quarantine-*"))
