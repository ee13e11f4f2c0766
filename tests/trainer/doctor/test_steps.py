"""The steps take no more shards than they need, and data that are slower are found."""

import re
import time
from pathlib import Path

import fsspec
import pytest
from torch._C._distributed_c10d import HashStore

from emojigan.datasets.store.folder import Folder, LocalFolder, StoreFolder
from emojigan.trainer.config import Config
from emojigan.trainer.doctor import steps
from emojigan.trainer.doctor.examined import Examined
from emojigan.trainer.doctor.finding import Told
from emojigan.trainer.doctor.meeting import Meeting
from emojigan.trainer.runtime.ranks import start


@pytest.fixture
def store(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoreFolder:
    """The shards, far away."""
    fsspec.filesystem("memory").put(str(shards), f"/{tmp_path.name}/shards", recursive=True)
    original = StoreFolder.download

    def download(self: StoreFolder, name: str, file: Path) -> None:
        time.sleep(0.1)
        original(self, name, file)

    monkeypatch.setattr(StoreFolder, "download", download)
    monkeypatch.setattr(steps, "READ_FOR", 0.1)
    return StoreFolder(f"memory://{tmp_path.name}/shards")


def examined(folder: Folder, vectors: Path, tmp_path: Path, window: int = 64) -> Examined:
    """One rank that has read its dataset."""
    keys = {"data": {"batch_size": 16, "window": window}, "run": {"cache": str(tmp_path / "cache")}}
    config = Config.model_validate(keys)
    here = Meeting(HashStore(), 0, 1, "a")
    found = Examined(here, config.run, lambda: config, folder, vectors, tmp_path / "run")
    found.read()
    found.step_seconds = 0.01
    return found


def test_a_batch_for_the_steps_fetches_two_shards_and_others_are_read_after_it(
    store: StoreFolder, vectors_file: Path, tmp_path: Path
):
    config, inputs = examined(store, vectors_file, tmp_path, window=1).known()
    steps._one_batch(config, inputs, start(config))
    fetched = {path.name for path in (tmp_path / "cache").iterdir()}
    there = {shard.name for shard in inputs.train.shards if shard.sha256 in fetched}
    assert 1 <= len(there) <= 2 < len(inputs.train.shards)
    first, _ = steps._unread(config, inputs)
    (sample,) = inputs.samples(config, first, [0])
    assert sample.split()[0] not in there


@pytest.mark.parametrize("window", [1, 64])
def test_a_store_that_is_slower_than_the_steps_is_found(
    store: StoreFolder, vectors_file: Path, tmp_path: Path, window: int
):
    """Also when the steps have fetched the shards that come first."""
    one = examined(store, vectors_file, tmp_path, window)
    config, inputs = one.known()
    steps._one_batch(config, inputs, start(config))
    found = Told(0, "a", steps.look_at_stream(one))
    assert steps.judge_stream([found])[0] == "warning", found


def test_shards_on_a_disk_keep_up(shards: Path, vectors_file: Path, tmp_path: Path):
    one = examined(LocalFolder(shards), vectors_file, tmp_path)
    one.step_seconds = 10.0
    assert steps.judge_stream([Told(0, "a", steps.look_at_stream(one))])[0] == "fine"


def test_images_that_are_kept_are_read_once_however_slow_that_is(
    store: StoreFolder, vectors_file: Path, tmp_path: Path
):
    one = examined(store, vectors_file, tmp_path)
    config, _ = one.known()
    one.config = config.model_copy(update={"run": config.run.model_copy(update={"device_cache": "on"})})
    steps.look_at_steps(one)
    one.step_seconds = 0.01
    state, sentence = steps.judge_stream([Told(0, "a", steps.look_at_stream(one))])
    assert state == "fine"
    assert re.fullmatch(r"images kept in memory: [\d.]+ MiB, and read once, in about \d+ s", sentence)
