"""A dataset that is changed while it is read ends the reading in one line, and nothing is quarantined."""

import os
import shutil
import subprocess
import sys
import time
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest

from emojigan.datasets.care.forget import forget
from emojigan.datasets.errors import InputError
from emojigan.datasets.shards.manifest import read_manifest
from emojigan.datasets.store.folder import LocalFolder
from emojigan.datasets.stream.quarantine import Quarantined
from emojigan.datasets.stream.split import Split
from emojigan.datasets.stream.stream import stream

from ...conftest import TINY_NETWORKS, TRAIN_ON_TWO_RANKS
from ...tiny_dataset import write_dataset

SIZES = (9, 4, 12, 7)
ENDED = "{} was removed or written over while it was read. Put the right one there, and run the same command"


@pytest.fixture
def split(tmp_path: Path) -> Split:
    return write_dataset(tmp_path / "shards", SIZES)


def whole_epoch(split: Split, reading) -> None:
    for _ in islice(reading, split.num_tuples):
        pass


def path_of(split: Split, shard: int) -> Path:
    assert split.folder.path is not None
    return split.folder.path / split.shards[shard].name


def flip(path: Path) -> None:
    """Write over the last byte of the last image, in place."""
    content = bytearray(path.read_bytes())
    content[-11_000] ^= 1
    with open(path, "r+b") as file:
        file.write(content)


def put_another(path: Path) -> None:
    """Put a tar of the same size in the place of one."""
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    flip(other)
    os.replace(other, path)


@pytest.mark.parametrize("change", [flip, put_another, Path.unlink])
@pytest.mark.parametrize("window", [1, 4])
def test_a_shard_that_is_written_over_between_two_windows_is_named(split, change, window):
    quarantined: list[Quarantined] = []
    reading = stream(
        split,
        **{"seed": 1, "window": window, "batch_size": 1, "start": 0, "helpers": 0, "max_quarantined": 1},
        tell_quarantined=quarantined.append,
    )
    with closing(reading):
        whole_epoch(split, reading)
        change(path_of(split, 2))
        with pytest.raises(InputError, match=ENDED.format(path_of(split, 2))):
            for _ in range(3):
                whole_epoch(split, reading)
    assert quarantined == []


@pytest.mark.parametrize("which", ["name", "index"])
@pytest.mark.parametrize("after", [0, 1])
def test_a_file_that_is_removed_before_it_is_first_opened_is_no_damage(split, which, after):
    """All were there at the start, and another rank may have opened it before."""
    quarantined: list[Quarantined] = []
    options = {"seed": 1, "window": 1, "batch_size": 1, "helpers": 0, "max_quarantined": 1}
    reading = stream(split, start=0, tell_quarantined=quarantined.append, **options)
    with closing(reading):
        for _ in islice(reading, after):
            pass
        for shard in split.shards:
            (split.folder.path / getattr(shard, which)).unlink()
        with pytest.raises(
            InputError, match=r"shards/00000\d\.(tar|index) is missing by now\. Copy it again"
        ):
            whole_epoch(split, reading)
    assert quarantined == []


def copy_over(path: Path) -> None:
    content = path.read_bytes()
    with open(path, "r+b") as file:
        file.write(content)


def put_a_copy(path: Path) -> None:
    other = shutil.copy(path, path.with_name("other"))
    os.replace(other, path)


@pytest.mark.parametrize("change", [copy_over, put_a_copy, Path.touch])
def test_a_shard_with_the_same_bytes_again_is_the_same(split, change):
    with closing(stream(split, seed=1, window=1, batch_size=1, start=0, helpers=0)) as reading:
        whole_epoch(split, reading)
        change(path_of(split, 2))
        for _ in range(3):
            whole_epoch(split, reading)


@pytest.fixture
def dataset(shards: Path, tmp_path: Path) -> Split:
    """A dataset of the builder's, whose accounts can be forgotten."""
    folder = LocalFolder(shutil.copytree(shards, tmp_path / "dataset"))
    return Split(folder, read_manifest(folder), "train")


def forget_someone(split: Split) -> None:
    """Forget an account of each shard, so that all of them are replaced."""
    accounts = {split.read_index(number).accounts[0] for number in range(len(split.shards))}
    assert forget(split.folder, accounts, dry_run=False, workers=1).shards


@pytest.mark.parametrize("after", [0, 1, 200])
def test_accounts_that_are_forgotten_meanwhile_are_no_damage(dataset, after):
    """Before the first batch; while the next window is opened; and while another epoch is."""
    quarantined: list[Quarantined] = []
    options = {"seed": 1, "window": 1, "batch_size": 2, "helpers": 0, "max_quarantined": 1}
    with pytest.raises(InputError, match=r"dataset was changed since it was opened.*the same command again"):
        if not after:
            forget_someone(dataset)
        reading = stream(dataset, start=0, tell_quarantined=quarantined.append, **options)
        with closing(reading):
            for _ in islice(reading, after):
                pass
            if after:
                forget_someone(dataset)
            for _ in range(3):
                whole_epoch(dataset, reading)
    assert quarantined == []


CUT_SHORT = """
import os, sys
from itertools import islice
from emojigan.datasets.shards.manifest import read_manifest
from emojigan.datasets.store.folder import open_folder
from emojigan.datasets.stream.split import Split
from emojigan.datasets.stream.stream import stream
from emojigan.datasets.stream.unchanged import Unchanged

Unchanged.check = lambda *_: None  # as between two windows
folder, helpers = open_folder(sys.argv[1]), int(sys.argv[2])
split = Split(folder, read_manifest(folder), "train")
batches = stream(split, seed=1, window=4, batch_size=8, start=0, helpers=helpers)
for _ in islice(batches, split.num_tuples):
    pass
os.truncate(folder.path / "000002.tar", 100)
for _ in batches:
    pass
"""


@pytest.mark.parametrize("encoding, helpers", [("npy", 0), ("jpg", 3)])
def test_a_shard_that_is_cut_short_while_it_is_mapped_is_named(tmp_path, encoding, helpers):
    """Pixels are gathered by NumPy, and JPEGs decoded, in the main thread and in others."""
    split = write_dataset(tmp_path / "shards", SIZES, encoding)
    words = [sys.executable, "-c", CUT_SHORT, str(split.folder), str(helpers)]
    result = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert result.returncode == 2, (result.returncode, result.stderr)
    (line,) = result.stderr.split("\n")[1:-1]
    assert line.startswith(f"Error: {path_of(split, 2)} was cut short or written over while it was read")


@pytest.mark.soak
def test_a_rank_of_two_names_the_shard_that_is_cut_short(shards, vectors_file, environment, tmp_path):
    dataset, run = shutil.copytree(shards, tmp_path / "dataset"), tmp_path / "run"
    words = [*TRAIN_ON_TWO_RANKS, dataset, "--vectors", vectors_file, "--out", run]
    words += [*TINY_NETWORKS, "--steps", "100000"]
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    process = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 100
    while not (run / "metrics.jsonl").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    for path in (dataset / "train").glob("*.tar"):
        os.truncate(path, 100)
    _, errors = process.communicate(timeout=100)
    assert process.returncode != 0
    said = [line for line in errors.splitlines() if line.startswith("Error: ")]
    assert said and all("cut short" in line or "while it was read" in line for line in said), errors
