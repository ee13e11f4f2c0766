"""Files and folders are whole or absent, whenever the writer dies."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emojigan.datasets.store import atomic as files
from emojigan.datasets.store.atomic import SUMS, creating_folder, is_whole, replacing, sha256, write_atomic


def die_while(code: str, path: Path) -> None:
    """Run `code` with `path` in a process that kills itself in the middle."""
    script = (
        f"import os, signal\nfrom pathlib import Path\nfrom emojigan.datasets.store.atomic import *\n{code}"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(path)])
    assert killed.returncode == -signal.SIGKILL


def refuse(*_) -> None:
    raise OSError(28, "No space left on device")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that is whole."""
    with creating_folder(tmp_path / "made") as temporary:
        (temporary / "a.txt").write_bytes(b"one")
        (temporary / "b").write_bytes(bytes(range(50)))
    return tmp_path / "made"


@pytest.mark.parametrize("content", ["", "héllo 😍", b"\xff\0"])
def test_what_is_written_is_read(tmp_path, content):
    write_atomic(tmp_path / "new" / "file", content)
    assert (tmp_path / "new" / "file").read_bytes() == (
        content.encode() if isinstance(content, str) else content
    )


def test_writing_replaces_and_leaves_nothing_else(tmp_path):
    for content in ("old", "new"):
        write_atomic(tmp_path / "file", content)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "new")]


def test_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    write_atomic(tmp_path / "file", "old")
    with replacing(tmp_path / "file") as temporary:
        temporary.write_text("new")
        assert (tmp_path / "file").read_text() == "old"
    assert (tmp_path / "file").read_text() == "new"


def test_exception_leaves_the_old_file_alone(tmp_path):
    write_atomic(tmp_path / "file", "old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "file") as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "old")]


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_full_disk_leaves_the_old_file_alone(tmp_path, monkeypatch, call):
    write_atomic(tmp_path / "file", "old")
    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(OSError, match="No space") as caught:
        write_atomic(tmp_path / "file", "new")
    assert caught.value.filename == str(tmp_path / "file")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "old")]


def test_an_error_that_is_not_of_the_disk_keeps_its_own_place(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, replacing(tmp_path / "file"):
        (tmp_path / "source").read_bytes()
    assert caught.value.filename == str(tmp_path / "source")


def test_killed_writer_leaves_the_old_file(tmp_path):
    write_atomic(tmp_path / "file", "old")
    code = """
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    die_while("import sys\n" + code, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "old"
    assert [path.name for path in tmp_path.glob("[!.]*")] == ["file"]


def test_content_is_synced_before_the_rename(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(files, "_sync", lambda path: calls.append(("sync", path.read_text())))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append(("rename", "")), replace(*paths)))
    write_atomic(tmp_path / "file", "new")
    assert calls == [("sync", "new"), ("rename", "")]


def test_sha256_is_the_standard_one(tmp_path):
    content = os.urandom((1 << 20) + 7)
    (tmp_path / "file").write_bytes(content)
    assert sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_folder_has_its_files_and_their_sums(folder):
    expected = "".join(f"{sha256(folder / name)}  {name}\n" for name in ("a.txt", "b"))
    assert sorted(path.name for path in folder.iterdir()) == [SUMS, "a.txt", "b"]
    assert (folder / SUMS).read_text() == expected
    assert is_whole(folder)


def test_folder_is_absent_until_it_is_whole(tmp_path):
    with creating_folder(tmp_path / "made") as temporary:
        (temporary / "a").write_bytes(b"")
        assert not (tmp_path / "made").exists()
        assert not list(tmp_path.glob("[!.]*"))


def test_folder_replaces_the_one_before(folder):
    with creating_folder(folder) as temporary:
        (temporary / "c").write_bytes(b"new")
    assert sorted(path.name for path in folder.iterdir()) == [SUMS, "c"]
    assert is_whole(folder)


def test_exception_leaves_the_old_folder_alone(folder):
    with pytest.raises(ZeroDivisionError), creating_folder(folder) as temporary:
        (temporary / "half").write_bytes(b"")
        raise ZeroDivisionError
    assert is_whole(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["made"]


def test_full_disk_leaves_the_old_folder_alone(folder, monkeypatch):
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space") as caught, creating_folder(folder) as temporary:
        (temporary / "c").write_bytes(b"new")
    assert caught.value.filename == str(folder)
    assert is_whole(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["made"]


def test_killed_writer_leaves_the_old_folder_and_the_next_one_tidies_up(folder):
    code = """
with creating_folder(Path(sys.argv[1])) as temporary:
    (temporary / "half").write_bytes(b"x")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    die_while("import sys\n" + code, folder)
    assert is_whole(folder)
    with creating_folder(folder) as temporary:
        (temporary / "c").write_bytes(b"new")
    assert [path.name for path in folder.parent.iterdir()] == ["made"]


@pytest.mark.parametrize("name", ["a.txt", "b"])
def test_every_flipped_bit_is_noticed(folder, name):
    content = (folder / name).read_bytes()
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        (folder / name).write_bytes(damaged)
        assert not is_whole(folder)
    (folder / name).write_bytes(content)
    assert is_whole(folder)


@pytest.mark.parametrize("name", ["a.txt", "b", SUMS])
def test_missing_file_is_noticed(folder, name):
    (folder / name).unlink()
    assert not is_whole(folder)


def test_every_truncation_of_the_sums_is_noticed(folder):
    content = (folder / SUMS).read_bytes()
    for size in range(len(content) - 1):  # the last newline is no loss
        (folder / SUMS).write_bytes(content[:size])
        assert not is_whole(folder)


def test_missing_folder_is_not_whole(tmp_path):
    assert not is_whole(tmp_path / "nowhere")


@given(st.binary())
@settings(max_examples=100, deadline=None)
def test_any_sums_are_judged_without_an_exception(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp() / "any-sums"
    folder.mkdir(exist_ok=True)
    (folder / "a").write_bytes(b"one")
    (folder / SUMS).write_bytes(content)
    assert not is_whole(folder)
