"""Of two writers of a folder one waits or is refused, however they begin and end."""

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from emojigan.datasets.errors import InputError
from emojigan.datasets.store import lock as module
from emojigan.datasets.store.folder import Folder, StoreFolder, open_folder
from emojigan.datasets.store.lock import writing

# A process that adds to a number in a folder, as often as it is told, and is slow about it.
COUNT = """
import sys, time
from emojigan.datasets.store import lock
from emojigan.datasets.store.folder import open_folder
lock.POLL, lock.BEAT, lock.SILENCE = 0.02, 0.2, 30
folder = open_folder(sys.argv[1])
for _ in range(int(sys.argv[2])):
    with lock.writing(folder, "count", wait=True) as held:
        number = int(folder.read("number"))
        time.sleep(0.02)
        held.write("number", str(number + 1))
"""
# One that writes until it is killed; with a word more, it writes after a pause, in another process.
HOLD = """
import pickle, sys, time
from emojigan.datasets.store import lock
from emojigan.datasets.store.folder import open_folder
lock.POLL, lock.BEAT, lock.SILENCE = 0.02, 0.2, 4
with lock.writing(open_folder(sys.argv[1]), "hold") as held:
    print("holds", flush=True)
    sys.stdin.read(1)
    with pickle.loads(pickle.dumps(held)).creating("held") as path:
        path.touch()
"""


@pytest.fixture(params=["disk", "store", pytest.param("ceph", marks=pytest.mark.soak)])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty folder; signs of life come five times a second."""
    for name, seconds in {"POLL": 0.02, "BEAT": 0.2, "SILENCE": 4.0}.items():
        monkeypatch.setattr(module, name, seconds)
    if request.param == "disk":
        return f"{tmp_path}/folder"
    request.getfixturevalue(request.param)
    return f"s3://bucket/{tmp_path.name}"


@pytest.fixture
def folder(url: str) -> Folder:
    return open_folder(url)


@pytest.fixture
def holder(url: str) -> Iterator[subprocess.Popen]:
    """Another process that writes the folder."""
    words = [sys.executable, "-c", HOLD, url]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout and other.stdout.readline() == "holds\n"
        yield other
        other.kill()


def test_many_writers_write_one_after_the_other(url, folder):
    folder.write("number", "0")
    writers = [subprocess.Popen([sys.executable, "-c", COUNT, url, "5"]) for _ in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert folder.read("number") == b"15"
    assert folder.names() == ["number"]


def test_second_writer_is_told_who_the_first_is(folder, holder):
    message = rf"is being written by `hold`, process {holder.pid} on \S+ since \S+\. Try again .+\Z"
    with pytest.raises(InputError, match=message), writing(folder, "other"):
        pass


def test_one_that_waits_writes_when_the_other_has_ended(folder, holder, capsys):
    holder.stdin.write("\n"), holder.stdin.flush()
    with writing(folder, "other", wait=True):
        assert holder.wait(10) == 0
    assert folder.names() == ["held"]


def test_one_that_was_killed_is_in_nobodys_way(folder, holder):
    holder.kill(), holder.wait()
    with writing(folder, "other") as held:
        held.write("a", "b")
    assert [name for name in folder.names() if name != module.LOCK] == ["a"]


@pytest.mark.parametrize("url", ["store"], indirect=True)
def test_one_that_was_killed_between_two_signs_of_life_is_in_nobodys_way(folder):
    identity = f"{1:020d}-abcdef01"  # older than any of now
    for number in (2, 3):
        folder.write(f".writers/{identity}-{number:06d}-writes", "`hold`")
    with writing(folder, "other") as held:
        held.write("a", "b")
    assert folder.names() == ["a"]


def test_an_error_ends_the_writing(folder):
    with pytest.raises(ZeroDivisionError), writing(folder, "first"):
        raise ZeroDivisionError
    with writing(folder, "second"):
        pass
    assert folder.names() == []


@pytest.mark.parametrize("url", ["store", pytest.param("ceph", marks=pytest.mark.soak)], indirect=True)
def test_one_that_gave_no_sign_of_life_for_too_long_does_not_go_on(folder, holder):
    """As after a pause of the whole machine: another one took it for dead."""
    os.kill(holder.pid, signal.SIGSTOP)
    with writing(folder, "other"):
        os.kill(holder.pid, signal.SIGCONT)
        output = holder.communicate("\n", timeout=300)[1]
    assert holder.returncode == 1 and "had no sign of life from this process for too long" in output
    assert folder.names() == []


@pytest.mark.parametrize("writes", [True, False], ids=["that writes", "that has written"])
def test_a_sign_of_life_that_arrives_too_late_brings_nobody_back(tmp_path, monkeypatch, writes: bool):
    """It was on its way when its machine stood still, and another one took over meanwhile."""
    monkeypatch.setattr(module, "POLL", 0.02)
    monkeypatch.setattr(module, "BEAT", 0.05)
    monkeypatch.setattr(module, "SILENCE", 0.5)
    folder, write = open_folder(f"memory://{tmp_path.name}"), StoreFolder.write
    on_its_way, arrives = threading.Event(), threading.Event()

    def late(self: StoreFolder, name: str, content: bytes | str) -> None:
        if (
            content == first and "000003" in name
        ):  # written by its thread, after one that waits and one that writes
            on_its_way.set()
            arrives.wait()
        write(self, name, content)

    with contextlib.ExitStack() as stack:
        held = stack.enter_context(writing(folder, "first"))
        (sign,) = StoreFolder(f"{folder}/.writers").names()
        first = StoreFolder(f"{folder}/.writers").read(sign).decode()
        monkeypatch.setattr(StoreFolder, "write", late)
        on_its_way.wait()
        with writing(folder, "other", wait=True):
            if writes:
                arrives.set()
                with pytest.raises(InputError, match="no sign of life from this process for too long"):
                    held.write("mine", "")
        arrives.set()
        with pytest.raises(InputError, match="no sign of life from this process for too long"):
            while True:
                held.write("mine", "")
    assert not [name for name in folder.names() if module.is_of_lock(name)]


def undisturbed(find: Callable[..., list[str]]) -> Callable[..., list[str]]:
    """Lists again where another thread wrote meanwhile: fsspec's memory is not made for threads."""

    def listed(*given: Any, **more: Any) -> list[str]:
        while True:
            with contextlib.suppress(RuntimeError):
                return find(*given, **more)

    return listed


def test_the_more_wait_the_more_they_ask_of_a_store_but_not_of_each_other(tmp_path, monkeypatch):
    """Listings tell who waits and who writes; no one reads what everybody else says."""
    for name, seconds in {"POLL": 0.01, "BEAT": 0.5, "SILENCE": 60.0}.items():
        monkeypatch.setattr(module, name, seconds)
    reads = []
    read = StoreFolder.read
    monkeypatch.setattr(StoreFolder, "read", lambda *a, **k: (reads.append(a), read(*a, **k))[1])
    monkeypatch.setattr(MemoryFileSystem, "find", undisturbed(MemoryFileSystem.find))
    folder, done = open_folder(f"memory://{tmp_path.name}"), []

    def wait_and_write() -> None:
        with writing(folder, "many", wait=True):
            done.append(len(done))
            time.sleep(0.02)

    threads = [threading.Thread(target=wait_and_write) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == list(range(16)) and len(reads) <= 2 * 16


def test_on_a_disk_without_locks_signs_of_life_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As on a Lustre that is mounted without them."""
    for name, seconds in {"POLL": 0.02, "BEAT": 0.1, "SILENCE": 1.0}.items():
        monkeypatch.setattr(module, name, seconds)

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    folder = open_folder(f"{tmp_path}/a run")
    with writing(folder, "first"):
        message = "is being written by `first`, process"
        with pytest.raises(InputError, match=message), writing(folder, "second"):
            pass
    killed = tmp_path / "a run" / module.WRITERS / "00000000000000000001-dead-000001-writes"
    killed.write_text("somebody")
    with writing(folder, "third"):
        assert not killed.exists()


def test_a_folder_that_was_made_for_the_lock_goes_with_it_unless_something_came_into_it(tmp_path: Path):
    for name, content in (("empty", None), ("full", "content")):
        folder = open_folder(f"{tmp_path}/{name}")
        with writing(folder, "first"):
            if content:
                folder.write("file", content)
        assert (tmp_path / name).exists() is (content is not None)
