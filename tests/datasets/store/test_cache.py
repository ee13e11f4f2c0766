"""Shards of a store are fetched whole, once for all ranks and ahead, and go when there are too many."""

import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

import fsspec
import pytest
import torch

from emojigan.datasets.errors import InputError
from emojigan.datasets.store.atomic import sha256
from emojigan.datasets.store.cache import ShardCache
from emojigan.datasets.store.folder import StoreFolder, open_folder
from emojigan.datasets.stream.held_out import read_split
from emojigan.datasets.stream.order import Order
from emojigan.datasets.stream.quarantine import Quarantined
from emojigan.datasets.stream.resident import pixels_shape
from emojigan.datasets.stream.split import Split
from emojigan.datasets.stream.stream import stream

from ...tiny_dataset import number_of, tuples_of, write_dataset

SIZES = (9, 4, 12, 7, 5, 8)


@pytest.fixture
def local(tmp_path: Path) -> Split:
    return write_dataset(tmp_path / "local", SIZES)


@pytest.fixture
def remote(local: Split, tmp_path: Path) -> Split:
    """The same dataset on a store, behind a cache that holds about three of its six shards."""
    url = f"memory://{tmp_path.name}"
    store = fsspec.filesystem("memory")
    assert local.folder.path is not None
    for path in local.folder.path.iterdir():
        store.pipe_file(f"/{tmp_path.name}/{path.name}", path.read_bytes())
    largest = max(shard.bytes for shard in local.shards)
    return Split(open_folder(url), local.manifest, "train", ShardCache(tmp_path / "cache", 3 * largest))


def read(split: Split, batches: int, **options) -> list[list[tuple[int, int]]]:
    reading = stream(split, seed=1, window=2, batch_size=4, start=0, **options)
    with closing(reading):
        return [
            [
                (number_of(image.permute(1, 2, 0).numpy()), emoji)
                for image, emoji in zip(batch.images, batch.emoji.tolist(), strict=True)
            ]
            for batch in islice(reading, batches)
        ]


@pytest.mark.parametrize("helpers", [0, 3])
def test_batches_are_those_of_a_local_copy(local, remote, helpers):
    assert read(remote, 40, helpers=helpers) == read(local, 40)


def test_all_pixels_are_those_of_a_local_copy(local, remote):
    """More shards than the cache holds at a time."""
    pixels = [torch.zeros(pixels_shape(local), dtype=torch.uint8) for _ in range(2)]
    for split, resident in zip((local, remote), pixels, strict=True):
        stream(split, seed=1, window=2, batch_size=4, start=0, resident=resident)
    assert torch.equal(*pixels) and pixels[0][:, 0, 0, 0].tolist() == list(range(sum(SIZES)))


def test_cache_stays_within_its_bound_and_what_it_holds_is_right(remote):
    bound = remote.cache.max_bytes
    reading = stream(remote, seed=1, window=1, batch_size=4, start=0, helpers=0)
    with closing(reading):
        for _ in islice(reading, 60):
            files = [path for path in remote.cache.path.iterdir() if len(path.name) == 64]
            assert sum(path.stat().st_size for path in files) <= bound + max(s.bytes for s in remote.shards)


def test_the_next_window_is_fetched_while_one_is_read(remote, monkeypatch):
    fetched: list[str] = []
    original = StoreFolder.download
    monkeypatch.setattr(
        StoreFolder, "download", lambda self, name, file: (fetched.append(name), original(self, name, file))
    )
    reading = stream(remote, seed=1, window=1, batch_size=1, start=0, helpers=0)
    with closing(reading):
        next(reading)
        deadline = threading.Event()
        for _ in range(500):
            if sum(name.endswith(".tar") for name in fetched) >= 2:
                break
            deadline.wait(0.01)
        assert sum(name.endswith(".tar") for name in fetched) == 2


def test_the_first_batch_waits_for_the_windows_that_it_is_in_alone(remote, monkeypatch):
    """Of each of three lanes one; what comes after them is not given before the batch is there."""
    first = {remote.shards[number].name for lane in range(3) for number in first_window(remote, lane)}
    there, in_time = threading.Event(), []
    original = StoreFolder.download

    def download(self: StoreFolder, name: str, file: Path) -> None:
        if name.endswith(".tar") and name not in first:
            in_time.append(there.wait(20))
        original(self, name, file)

    monkeypatch.setattr(StoreFolder, "download", download)
    with closing(stream(remote, seed=1, window=1, batch_size=3, start=0, lanes=3, helpers=0)) as reading:
        next(reading)
        there.set()
    assert all(in_time)


def first_window(split: Split, lane: int) -> list[int]:
    """The shards of a lane's first window, of one shard each, in the first epoch of seed 1."""
    return Order(1, split.sizes, 1, 3).lane(0, lane).open(0).pieces[:, 0].tolist()


def test_two_ranks_fetch_a_shard_once(remote, monkeypatch):
    fetched: Counter[str] = Counter()
    original = StoreFolder.download
    monkeypatch.setattr(
        StoreFolder, "download", lambda self, name, file: (fetched.update([name]), original(self, name, file))
    )
    remote = Split(remote.folder, remote.manifest, "train", ShardCache(remote.cache.path, 1 << 30))
    ranks = [
        threading.Thread(target=read, args=(remote, 12), kwargs={"rank": rank, "world_size": 2})
        for rank in range(2)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    assert set(fetched.values()) == {1}


def test_files_that_are_not_the_manifests_are_an_error_that_names_the_first(remote):
    store = fsspec.filesystem("memory")
    for shard in remote.shards:
        store.pipe_file(f"/{remote.folder.url.removeprefix('memory://')}/{shard.name}", b"another")
    with pytest.raises(InputError, match=r"00000\d\.tar : cannot be read: the store gives another file"):
        read(remote, 1)


def test_a_shard_that_a_store_has_lost_is_quarantined(remote):
    store, quarantined = fsspec.filesystem("memory"), []
    store.rm(f"/{remote.folder.url.removeprefix('memory://')}/000001.tar")
    read(remote, 20, max_quarantined=1, tell_quarantined=quarantined.append)
    assert [(each.shard, each.key, each.tuples) for each in quarantined] == [
        ("000001.tar", None, remote.sizes[1])
    ]
    assert isinstance(quarantined[0], Quarantined) and "cannot be read" in quarantined[0].reason


def test_a_shard_that_is_damaged_on_the_store_is_quarantined_whole(remote):
    """However small the damage: what is fetched must have the manifest's digest."""
    store, shard = fsspec.filesystem("memory"), remote.shards[1]
    path = f"/{remote.folder.url.removeprefix('memory://')}/{shard.name}"
    index, content = remote.read_index(1), bytearray(store.cat_file(path))
    content[index.offset[2] + index.length[2] - 1] ^= 1
    store.pipe_file(path, bytes(content))
    quarantined: list[Quarantined] = []
    read(remote, 20, max_quarantined=1, tell_quarantined=quarantined.append)
    assert [(each.shard, each.key, each.tuples) for each in quarantined] == [
        (shard.name, None, remote.sizes[1])
    ]
    assert "gives another file" in quarantined[0].reason


def test_damaged_download_is_fetched_again(remote, monkeypatch):
    broken: set[str] = set()
    original = StoreFolder.download

    def download(self: StoreFolder, name: str, file: Path) -> None:
        original(self, name, file)
        if name not in broken:
            broken.add(name)
            os.truncate(file, file.stat().st_size - 1)

    monkeypatch.setattr(StoreFolder, "download", download)
    seen = Counter(pair for batch in read(remote, sum(remote.sizes) // 4) for pair in batch)
    assert seen <= tuples_of(sum(SIZES))
    assert len(broken) == 2 * len(SIZES)


def test_a_shard_that_is_in_use_is_not_removed(remote):
    name, digest = remote.shards[0].name, remote.shards[0].sha256
    tiny = ShardCache(remote.cache.path, 1)
    with tiny.holding(remote.folder, name, digest) as path:
        other = remote.shards[1]
        with tiny.holding(remote.folder, other.name, other.sha256):
            pass
        assert path.exists()


def test_two_that_evict_at_once_do_not_remove_what_the_other_keeps(tmp_path, monkeypatch):
    digests = {}
    for name in ("old", "again", "new"):
        fsspec.filesystem("memory").pipe_file(f"/{tmp_path.name}/{name}", name.encode())
        digests[name] = hashlib.sha256(name.encode()).hexdigest()
    folder, cache = StoreFolder(f"memory://{tmp_path.name}"), ShardCache(tmp_path / "cache", 0)
    fetched, leave = threading.Event(), threading.Event()

    def fetch(name: str):
        return cache.holding(folder, name, digests[name])

    def another() -> None:
        with fetch("new"):
            fetched.set()
            assert leave.wait(60)

    def remove_slowly(self, path: Path, digest: str) -> bool:
        if not leave.is_set():  # this one has listed all three, and keeps "new"
            with fetch("again"):
                leave.set()
            thread.join(1)  # the other one now would keep "again"
        return remove(self, path, digest)

    remove = ShardCache._remove
    monkeypatch.setattr(ShardCache, "_remove", remove_slowly)
    thread = threading.Thread(target=another)
    cache.path.mkdir()
    (cache.path / digests["old"]).write_bytes(b"old")
    with fetch("again"):
        thread.start()
        assert fetched.wait(60)
    thread.join(60)
    assert (cache.path / digests["new"]).exists()


def cached(split: Split) -> list[Path]:
    """The whole files of the cache."""
    assert split.cache is not None
    return [path for path in split.cache.path.iterdir() if len(path.name) == 64]


def flip_images(split: Split) -> None:
    """Change every image of the cached tars in place, as a failing disk would."""
    assert split.cache is not None
    for number, shard in enumerate(split.shards):
        index = split.read_index(number)
        with open(split.cache.path / shard.sha256, "r+b") as file:
            for end in (index.offset + index.length).tolist():
                file.seek(end - 1)
                file.write(b"\xff")


def truncate(split: Split) -> None:
    for path in cached(split):
        os.truncate(path, 100)


def overwrite(split: Split) -> None:
    for path in cached(split):
        path.write_bytes(b"another")


@pytest.mark.parametrize("damage", [flip_images, truncate, overwrite])
def test_damaged_cached_copies_are_fetched_again_and_nothing_is_quarantined(local, remote, damage):
    remote = replace(remote, cache=ShardCache(remote.cache.path, 1 << 30))
    read(remote, 20)
    damage(remote)
    quarantined: list[Quarantined] = []
    ranks: dict[int, list] = {}

    def reading(rank: int) -> None:
        options = {"rank": rank, "world_size": 2, "tell_quarantined": quarantined.append}
        ranks[rank] = read(remote, 40, **options)

    threads = [threading.Thread(target=reading, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [a + b for a, b in zip(ranks[0], ranks[1], strict=True)] == read(local, 40)
    assert quarantined == []
    assert all(sha256(path) == path.name for path in cached(remote))


def test_damaged_cached_copies_do_not_stop_an_evaluation(local, remote):
    remote = replace(remote, cache=ShardCache(remote.cache.path, 1 << 30))
    read(remote, 20)
    flip_images(remote)
    assert torch.equal(read_split(remote, 1000).images, read_split(local, 1000).images)


KILLED = """
import os, signal, sys
from pathlib import Path
from fsspec.implementations.local import LocalFileSystem
from emojigan.datasets.store.cache import ShardCache
from emojigan.datasets.store.folder import StoreFolder

def get_file(self, path, target):
    Path(target).write_bytes(bytes(1000))
    os.kill(os.getpid(), signal.SIGKILL)

LocalFileSystem.get_file = get_file
with ShardCache(Path(sys.argv[1]), 1 << 30).holding(StoreFolder("file:///"), "x", sys.argv[2]):
    pass
"""


def leave_unfinished(cache: Path, digest: str) -> None:
    """What a rank leaves that is killed while it fetches."""
    result = subprocess.run([sys.executable, "-c", KILLED, cache, digest])
    assert result.returncode == -signal.SIGKILL


def unfinished(cache: Path) -> list[Path]:
    return list(cache.glob(".*.tmp"))


def test_what_a_killed_rank_left_goes_and_what_another_is_fetching_stays(remote):
    path = remote.cache.path
    dead, alive = ("d" * 64, "a" * 64)
    for digest in (dead, alive):
        leave_unfinished(path, digest)
    assert len(unfinished(path)) == 2
    with open(path / f"{alive[:2]}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        read(remote, 20)
        assert [alive in each.name for each in unfinished(path)] == [True]
    read(remote, 20)  # fetches, for this cache is too small
    assert unfinished(path) == []


def test_what_is_being_fetched_counts(remote):
    path, digest = remote.cache.path, "a" * 64
    leave_unfinished(path, digest)
    os.truncate(unfinished(path)[0], remote.cache.max_bytes)
    with open(path / f"{digest[:2]}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        read(remote, 20)
    assert len(cached(remote)) == 1
