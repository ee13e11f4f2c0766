"""Shards of a store are fetched whole, once for all ranks and ahead, and go when there are too many."""

import os
import threading
from collections import Counter
from contextlib import closing
from itertools import islice
from pathlib import Path

import fsspec
import pytest

from emojigan.datasets.errors import InputError
from emojigan.datasets.store.cache import ShardCache
from emojigan.datasets.store.folder import StoreFolder, open_folder
from emojigan.datasets.stream.quarantine import Quarantined
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
        ("000001.tar", None, remote.tuples[1])
    ]
    assert isinstance(quarantined[0], Quarantined) and "cannot be read" in quarantined[0].reason


def test_damaged_download_is_fetched_again(remote, monkeypatch):
    broken: set[str] = set()
    original = StoreFolder.download

    def download(self: StoreFolder, name: str, file: Path) -> None:
        original(self, name, file)
        if name not in broken:
            broken.add(name)
            os.truncate(file, file.stat().st_size - 1)

    monkeypatch.setattr(StoreFolder, "download", download)
    seen = Counter(pair for batch in read(remote, sum(remote.tuples) // 4) for pair in batch)
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
