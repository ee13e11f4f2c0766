"""A folder is the same on a disk and on a store: files are whole or absent, and names stay inside."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import boto3
import pytest
from click.testing import CliRunner
from s3fs import S3FileSystem

from emojigan.datasets.build.dataset import build_shards
from emojigan.datasets.build.options import BuildOptions
from emojigan.datasets.build.survey import Source
from emojigan.datasets.errors import InputError
from emojigan.datasets.store import conditions
from emojigan.datasets.store.folder import Folder, open_folder
from emojigan.datasets.store.lock import writing
from emojigan.launch.cli import main

from ...stores import FaultyStore, faulty_store, rclone_server

BUILD = """
from emojigan.datasets.build import survey
from emojigan.launch.cli import main
survey.CHUNK = 64
main()
"""


@pytest.fixture(params=["disk", "file", "memory", "s3"])
def folder(request, tmp_path) -> Folder:
    """An empty folder."""
    if request.param == "s3":
        request.getfixturevalue("store")
    name = tmp_path.name
    urls = {"disk": f"{tmp_path}/x", "file": f"file://{tmp_path}/x", "memory": f"memory://{name}"}
    return open_folder({**urls, "s3": f"s3://bucket/{name}"}[request.param])


def test_what_is_written_is_read(folder):
    folder.write("a/b.txt", "héllo 😍")
    folder.write("a/b.bin", b"0123456789")
    assert folder.read("a/b.txt") == "héllo 😍".encode()
    assert folder.read("a/b.bin", 3, 7) == b"3456"
    assert folder.read("a/b.bin", 8) == b"89"
    assert (folder.size("a/b.bin"), folder.size("a/c"), folder.size("a/b.bin/c")) == (10, None, None)
    folder.write("a/b.bin", b"new")
    assert folder.read("a/b.bin") == b"new"


def test_what_is_not_there_is_not_found(folder):
    with pytest.raises(FileNotFoundError):
        folder.read("nowhere")


def test_file_is_swapped_only_for_the_one_that_is_there(folder):
    assert not folder.swap("a", b"one", b"two") and folder.names() == []
    assert folder.swap("a", None, b"one") and not folder.swap("a", None, b"two")
    assert not folder.swap("a", b"two", b"three") and folder.read("a") == b"one"
    assert folder.swap("a", b"one", "two") and folder.read("a") == b"two"


def test_names_are_listed_and_removed(folder):
    assert folder.names() == []
    for name in ("b", "a/2", "a/1", ".c/d"):
        folder.write(name, name)
    assert folder.names() == [".c/d", "a/1", "a/2", "b"]
    folder.remove("a/1"), folder.remove("a/1")
    folder.remove_folder(".c"), folder.remove_folder(".c")
    assert folder.names() == ["a/2", "b"]


def test_file_is_absent_until_it_is_whole(folder):
    with folder.creating("a/b") as temporary:
        temporary.write_bytes(b"whole")
        assert folder.size("a/b") is None
    assert folder.read("a/b") == b"whole"
    with pytest.raises(ZeroDivisionError), folder.creating("a/c") as temporary:
        temporary.write_bytes(b"half")
        raise ZeroDivisionError
    assert folder.names() == ["a/b"]


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a//b", "", ".", "a\0b", "a\nb", "a b", "é"])
def test_name_that_might_leave_the_folder_is_refused(folder, name):
    for call in (folder.read, folder.size, folder.remove, folder.remove_folder):
        with pytest.raises(InputError, match="not a name of a file inside"):
            call(name)
    with pytest.raises(InputError, match="not a name of a file inside"):
        folder.write(name, b"")
    with pytest.raises(InputError, match="not a name of a file inside"), folder.creating(name):
        pass


@pytest.mark.parametrize(
    "url",
    ["pipe:cat x", "ftp://host/x", "simplecache::s3://b/x", "ssh://host/x", "zip://a::s3://b", "x://y"],
)
def test_url_that_is_no_plain_store_is_refused(url):
    with pytest.raises(InputError, match="not a place for shards"):
        open_folder(url)


@pytest.fixture(params=["moto", pytest.param("ceph", marks=pytest.mark.soak)])
def conditional(request, tmp_path) -> Folder:
    """An empty folder on a server that heeds conditions."""
    request.getfixturevalue("store" if request.param == "moto" else "ceph")
    return open_folder(f"s3://bucket/{tmp_path.name}")


@pytest.fixture
def unconditional(monkeypatch, tmp_path) -> Iterator[Folder]:
    """An empty folder on a server that heeds none."""
    (tmp_path / "served").mkdir()
    with rclone_server(tmp_path / "served") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        S3FileSystem.clear_instance_cache()
        yield open_folder("s3://bucket/x")
    S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("before", [None, b"before"])
def test_of_two_who_create_a_file_at_once_the_second_is_told_unless_it_is_the_same(conditional, before):
    if before:
        conditional.write("a.tar", before)
    with conditional.creating("a.tar") as first:
        first.write_bytes(b"one")
        with conditional.creating("a.tar") as second:
            second.write_bytes(b"one")
    with (
        pytest.raises(
            InputError, match=r"^s3://bucket/\S+/a.tar was changed by somebody else meanwhile\. Run"
        ),
        conditional.creating("a.tar") as first,
    ):
        first.write_bytes(b"one more")
        conditional.write("a.tar", b"another")
    assert conditional.read("a.tar") == b"another"


def test_what_was_removed_while_another_was_made_in_its_place_is_told(conditional):
    conditional.write("a.tar", b"before")
    with (
        pytest.raises(InputError, match="was changed by somebody else meanwhile"),
        conditional.creating("a.tar") as file,
    ):
        file.write_bytes(b"one")
        conditional.remove("a.tar")
    assert conditional.names() == []


@pytest.fixture
def faulty(store: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyStore]:
    """A store that heeds conditions, and has faults."""
    monkeypatch.setattr(conditions, "WAITS", (0.01, 0.01))
    with faulty_store(store["AWS_ENDPOINT_URL"]) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        S3FileSystem.clear_instance_cache()
        yield server
    S3FileSystem.clear_instance_cache()


CONFLICT, UNKNOWN = (409, "ConditionalRequestConflict"), (501, "NotImplemented")


def create(folder: Folder, content: bytes) -> None:
    with folder.creating("b") as path:
        path.write_bytes(content)


@pytest.mark.parametrize("fault", ["loses the answer", CONFLICT, UNKNOWN], ids=str)
def test_a_fault_of_a_store_does_not_make_us_somebody_else(faulty, tmp_path, fault):
    folder = open_folder(f"s3://bucket/{tmp_path.name}")
    for old, new in ((None, b"one"), (b"one", b"two")):
        faulty.faults = repeat(fault, 1)
        assert folder.swap("a", old, new) and folder.read("a") == new
        faulty.faults = repeat(fault, 1)
        create(folder, new)
        assert folder.read("b") == new and next(faulty.faults, None) is None


def test_one_who_was_faster_stays(faulty, tmp_path):
    folder = open_folder(f"s3://bucket/{tmp_path.name}")
    folder.write("b", b"old")
    for name, old in (("a", None), ("b", b"old")):
        faulty.faults = repeat("another is faster", 1)
        assert not folder.swap(name, old, b"one") and folder.read(name) == b"another"


def test_a_store_that_never_decides_between_two_is_named(faulty, tmp_path):
    folder = open_folder(f"s3://bucket/{tmp_path.name}")
    faulty.faults = repeat(CONFLICT)
    with pytest.raises(OSError, match="ConditionalRequestConflict"):
        folder.swap("a", None, b"one")
    with pytest.raises(OSError, match="ConditionalRequestConflict"):
        create(folder, b"one")
    assert folder.names() == []


def test_a_server_that_knows_of_no_conditions_is_told_and_is_written_to(faulty, tmp_path, capsys):
    faulty.faults = repeat(UNKNOWN)
    with writing(open_folder(f"s3://bucket/{tmp_path.name}"), "a test") as folder:
        assert folder.swap("a", None, b"one") and not folder.swap("a", None, b"two")
        assert folder.swap("a", b"one", b"two")
        create(folder, b"one")
        assert (folder.read("a"), folder.read("b")) == (b"two", b"one")
    assert "is on a server that does not heed conditional writes" in capsys.readouterr().err


def test_a_server_that_heeds_no_condition_is_told_once_and_is_written_to(
    unconditional, posts_folder, shards, tmp_path, capsys
):
    told = "heed conditional writes: two writers at once are kept apart by their signs of life alone.\n"
    for number in range(2):
        with writing(unconditional, "a test") as folder:
            assert folder.swap("begun", None, b"one") is (number == 0)
            assert not folder.swap("begun", b"two", b"three") and folder.read("begun") == b"one"
    assert capsys.readouterr().err.count(told) == 1
    out = "s3://bucket/shards"
    assert CliRunner().invoke(main, build(posts_folder, out, "--workers", "1")).exit_code == 0
    assert content(tmp_path / "served" / "bucket" / "shards") == content(shards)


def wrong_secret_is_a_line(posts_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    S3FileSystem.clear_instance_cache()
    for words in build(posts_folder, "s3://bucket/y"), ["shards", "verify", "s3://bucket/y"]:
        result = CliRunner().invoke(main, words)
        assert refused(result, "s3://bucket/y") and len(result.stderr.splitlines()) == 1, result.stderr


def test_a_wrong_secret_is_told_in_one_line(unconditional, posts_folder, monkeypatch):
    wrong_secret_is_a_line(posts_folder, monkeypatch)


@pytest.mark.soak
def test_so_it_is_by_ceph(ceph, posts_folder, monkeypatch):
    wrong_secret_is_a_line(posts_folder, monkeypatch)


def test_absolute_folder_is_the_same_from_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = open_folder("x").absolute()
    monkeypatch.chdir("/")
    folder.write("a", b"here")
    assert (tmp_path / "x" / "a").read_bytes() == b"here"
    assert str(open_folder("s3://bucket/x").absolute()) == "s3://bucket/x"


def build(posts_folder: Path, out: str | Path, *options: str):
    words = ["shards", "build", str(posts_folder / "posts.jsonl"), "--out", str(out)]
    return [*words, "--images-per-shard", "50", "--max-bad", "0", *options]


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_build_to_a_store_puts_the_bytes_of_a_folder_there(store, posts_folder, shards):
    words = [sys.executable, "-c", BUILD, *build(posts_folder, "s3://bucket/shards", "--workers", "2")]
    for message in ("", "complete"):
        result = subprocess.run(words, env={**os.environ, **store}, capture_output=True, text=True)
        assert result.returncode == 0 and message in result.stderr, result.stderr
    client, found = boto3.client("s3"), {}
    for each in client.list_objects_v2(Bucket="bucket", Prefix="shards/")["Contents"]:
        body = client.get_object(Bucket="bucket", Key=each["Key"])["Body"].read()
        found[each["Key"].removeprefix("shards/")] = hashlib.sha256(body).hexdigest()
    assert found == content(shards)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}, "Could not connect"),
        ({"bucket": "nobucket"}, "s3://nobucket/x: The specified bucket does not exist"),
    ],
)
def test_store_that_cannot_be_reached_is_told_in_one_line(store, posts_folder, change, message):
    url = f"s3://{change.get('bucket', 'bucket')}/x"
    words = [sys.executable, "-c", BUILD, *build(posts_folder, url)]
    result = subprocess.run(words, env={**os.environ, **store, **change}, capture_output=True, text=True)
    assert result.returncode == 2
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1 and result.stderr.endswith(errors[0] + "\n") and message in errors[0]


def refused(result, message: str) -> bool:
    line = result.stderr.splitlines()[-1]
    return result.exit_code == 2 and line.startswith("Error: ") and message in line


def test_full_disk_is_told_and_leaves_only_whole_files(disk, posts_folder, shards, monkeypatch):
    monkeypatch.setattr("emojigan.datasets.build.survey.CHUNK", 64)
    words = build(posts_folder, disk / "out", "--workers", "1")
    assert refused(CliRunner().invoke(main, words), "No space left")
    left = content(disk / "out")
    assert left and all(
        name.startswith(".build/") and name.endswith(("part", "members", "json")) for name in left
    )
    subprocess.run(["mount", "-o", "remount,size=50m", disk], check=True)
    assert CliRunner().invoke(main, words).exit_code == 0
    assert content(disk / "out") == content(shards)


def test_read_only_disk_is_told(disk, posts_folder):
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    words = build(posts_folder, disk / "out", "--workers", "1")
    assert refused(CliRunner().invoke(main, words), "Read-only file system")
    assert not (disk / "out").exists()


def test_dataset_in_memory_is_that_of_a_folder(posts_folder, shards):
    folder = open_folder("memory://dataset")
    options = BuildOptions(images_per_shard=50)
    build_shards(Source([posts_folder / "posts.jsonl"]), folder, options, workers=1, max_bad=0)
    assert {name: hashlib.sha256(folder.read(name)).hexdigest() for name in folder.names()} == content(shards)
