"""Batches follow the order exactly, on any number of ranks, from any start, and leave no thread behind."""

import gc
import shutil
import tarfile
import threading
import time
from collections import Counter
from dataclasses import replace
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from emojigan.datasets.build.dataset import build_shards
from emojigan.datasets.build.options import BuildOptions
from emojigan.datasets.build.survey import Source
from emojigan.datasets.errors import InputError
from emojigan.datasets.shards.index import Index
from emojigan.datasets.shards.manifest import Manifest, read_manifest
from emojigan.datasets.store.folder import LocalFolder
from emojigan.datasets.stream import reader as module
from emojigan.datasets.stream.held_out import read_split
from emojigan.datasets.stream.order import Order
from emojigan.datasets.stream.reader import Batch
from emojigan.datasets.stream.split import Split, Unit
from emojigan.datasets.stream.stream import batches_per_epoch, stream

from ...tiny_dataset import write_reactions

SEED, WINDOW, BATCH = 5, 2, 24
EMOJIS10 = "😍😂🔥🐶🌊🍕🎉💔😱👍"


@pytest.fixture(scope="module", params=get_args(Unit))
def train(shards: Path, request: pytest.FixtureRequest) -> Split:
    return Split(LocalFolder(shards), read_manifest(LocalFolder(shards)), "train", unit=request.param)


def batches(split: Split, number: int, start: int = 0, **ranks: int) -> list[Batch]:
    return list(
        islice(stream(split, seed=SEED, window=WINDOW, batch_size=BATCH, start=start, **ranks), number)
    )


def assert_equal(found: list[Batch], expected: list[Batch]) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a.images, b.images) and torch.equal(a.emoji, b.emoji)


def named(batch: Batch, manifest: Manifest) -> list[tuple[bytes, tuple[str, ...]]]:
    """Each tuple or reaction of a batch as its pixels and its emojis."""
    names = list(manifest.vocabulary)
    return [
        (image.permute(1, 2, 0).numpy().tobytes(), tuple(names[emoji] for emoji in emojis if emoji >= 0))
        for image, emojis in zip(batch.images, batch.emoji.view(len(batch.emoji), -1).tolist(), strict=True)
    ]


def stored(split: Split) -> dict[tuple[int, int], tuple[bytes, tuple[str, ...]]]:
    """Shard and row of every unit → its pixels and emojis, read from the tar with the standard library."""
    found = {}
    for number, entry in enumerate(split.manifest.of_split(split.name)):
        index = Index.from_bytes(split.folder.read(entry.index))
        with tarfile.open(split.folder.path / entry.name) as tar:
            pixels = [np.load(BytesIO(tar.extractfile(f"{key}.npy").read())).tobytes() for key in index.keys]
        units = []
        for image, (_, first) in zip(pixels, index.samples(), strict=True):
            for label in (first, *first.reposts):
                known = tuple(emoji for emoji in label.emojis if emoji in split.manifest.vocabulary)
                units += (
                    [(image, known)] if split.unit == "reaction" else [(image, (emoji,)) for emoji in known]
                )
        found |= {(number, position): unit for position, unit in enumerate(units)}
    return found


@pytest.mark.parametrize("world_size", [2, 4])
def test_slices_of_all_ranks_are_the_global_batches(train, world_size):
    number = batches_per_epoch(train, BATCH) + 3
    slices = [batches(train, number, rank=rank, world_size=world_size) for rank in range(world_size)]
    joined = [
        Batch(torch.cat([part.images for part in parts]), torch.cat([part.emoji for part in parts]))
        for parts in zip(*slices, strict=True)
    ]
    assert_equal(joined, batches(train, number))


@pytest.mark.parametrize("start", [1, 7, 13, 14, 40])
def test_starting_at_a_batch_equals_skipping_those_before(train, start):
    assert_equal(batches(train, 3, start=start), batches(train, start + 3)[start:])


def test_batches_are_what_the_order_says_and_the_tar_holds(train):
    order, content = Order(SEED, train.sizes, WINDOW), stored(train)
    per_epoch = batches_per_epoch(train, BATCH)
    for number, batch in enumerate(batches(train, 2 * per_epoch)):
        epoch, batch_in_epoch = divmod(number, per_epoch)
        shard, row = order.locate(epoch, batch_in_epoch * BATCH, (batch_in_epoch + 1) * BATCH)
        expected = [content[each] for each in zip(shard.tolist(), row.tolist(), strict=True)]
        assert named(batch, train.manifest) == expected


def test_every_tuple_comes_once_an_epoch_but_for_the_remainder(train):
    per_epoch, everything = batches_per_epoch(train, BATCH), Counter(stored(train).values())
    left_out = []
    for epoch in range(2):
        seen = Counter(
            pair
            for batch in batches(train, per_epoch, start=epoch * per_epoch)
            for pair in named(batch, train.manifest)
        )
        assert seen <= everything
        left_out.append(everything - seen)
        assert left_out[-1].total() == train.num_units % BATCH > 0
    assert left_out[0] != left_out[1]


def test_images_are_uint8_and_channels_last_in_memory(train):
    (batch,) = batches(train, 1)
    assert (batch.images.shape, batch.images.dtype) == ((BATCH, 3, 64, 64), torch.uint8)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    shape = (BATCH,) if train.unit == "tuple" else (BATCH, train.slots)
    assert (batch.emoji.shape, batch.emoji.dtype) == (shape, torch.int64)


def test_seeds_give_other_batches(train):
    first, second = (
        next(stream(train, seed=seed, window=WINDOW, batch_size=BATCH, start=0)) for seed in (1, 2)
    )
    assert not torch.equal(first.images, second.images)


def test_more_shards_than_are_kept_open_change_nothing(train, monkeypatch):
    expected = batches(train, 10)
    monkeypatch.setattr(module, "OPEN_SHARDS", 1)
    assert_equal(batches(Split(train.folder, train.manifest, "train", unit=train.unit), 10), expected)


def test_emojis_outside_the_vocabulary_are_not_seen(posts_folder, tmp_path):
    options = BuildOptions(images_per_shard=50, min_count=30)
    source, folder = Source([posts_folder / "posts.jsonl"]), LocalFolder(tmp_path / "out")
    manifest = build_shards(source, folder, options, workers=1, max_bad=0)
    assert manifest and manifest.rare
    split = Split(folder, manifest, "train")
    seen = Counter()
    for batch in islice(stream(split, seed=0, window=9, batch_size=1, start=0), split.num_tuples):
        seen.update(batch.emoji.tolist())
    assert [seen[position] for position in range(len(manifest.vocabulary))] == list(
        manifest.vocabulary.values()
    )


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("stream")]


def wait_for_no_threads() -> None:
    gc.collect()
    deadline = time.monotonic() + 5
    while threads():
        assert time.monotonic() < deadline, "a thread was left"
        time.sleep(0.01)


def test_thread_ends_when_the_iterator_is_dropped(train):
    wait_for_no_threads()
    iterator = stream(train, seed=SEED, window=WINDOW, batch_size=BATCH, start=0)
    next(iterator)
    assert threads()
    del iterator
    wait_for_no_threads()


def test_stream_that_nobody_reads_starts_no_thread(train):
    wait_for_no_threads()
    stream(train, seed=SEED, window=WINDOW, batch_size=BATCH, start=0)
    assert not threads()


@pytest.fixture
def copied(shards: Path, tmp_path: Path) -> Split:
    shutil.copytree(shards, tmp_path / "copy")
    return Split(LocalFolder(tmp_path / "copy"), read_manifest(LocalFolder(tmp_path / "copy")), "train")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-512])


@pytest.mark.parametrize(
    "harm, which",
    [(Path.unlink, "name"), (cut, "name"), (Path.unlink, "index")],
    ids=["tar", "cut", "index"],
)
def test_shard_that_is_not_there_whole_is_an_input_error(copied, harm, which):
    for entry in copied.manifest.of_split("train"):
        harm(copied.folder.path / getattr(entry, which))
    with pytest.raises(InputError, match=r"train/00000\d\.tar or its index is missing or cut short"):
        batches(copied, 1)


def test_batch_larger_than_the_split_is_refused_at_once(train):
    with pytest.raises(InputError, match=f"{train.num_units} {train.unit}s, fewer than --batch-size 1000"):
        stream(train, seed=SEED, window=WINDOW, batch_size=1000, start=0)


def test_batch_of_the_whole_split_is_allowed(train):
    assert batches_per_epoch(train, train.num_units) == 1


@pytest.mark.parametrize("split_by", ["account", "post", "time"])
def test_empty_split_is_refused_and_the_remedy_is_another_than_what_is_done(shards, split_by):
    manifest = read_manifest(LocalFolder(shards))
    options = {**manifest.options, "split_by": split_by}
    only_train = replace(manifest, shards=manifest.of_split("train"), options=options)
    with pytest.raises(InputError, match="the val split is empty") as error:
        Split(LocalFolder(shards), only_train, "val")
    assert ("--split-by post" in str(error.value)) == (split_by == "account")


def test_held_out_images_come_with_all_of_their_tuples(train):
    held_out = read_split(train, max_images=10**9)
    pixels = held_out.images.permute(0, 2, 3, 1).numpy()
    whose = range(len(held_out.image)) if train.unit == "tuple" else held_out.reaction
    found: dict[int, tuple[bytes, tuple[str, ...]]] = {}
    for unit, row, emoji in zip(whose, held_out.image, held_out.emojis, strict=True):
        _, before = found.get(unit, (b"", ()))
        found[unit] = pixels[row].tobytes(), (*before, emoji)
    assert list(found.values()) == list(stored(train).values())
    assert len(held_out.posts) == len(pixels) == sum(s.images for s in train.manifest.of_split("train"))


@pytest.mark.parametrize("number", [1, 49, 50, 51, 120])
def test_fewer_held_out_images_are_the_first_ones(train, number):
    some, everything = read_split(train, number), read_split(train, 10**9)
    assert some.posts == everything.posts[:number]
    assert torch.equal(some.images, everything.images[:number])
    kept = everything.image < number
    np.testing.assert_array_equal(some.image, everything.image[kept])
    assert some.emojis == tuple(e for e, keep in zip(everything.emojis, kept, strict=True) if keep)


def test_a_damaged_index_is_told(shards, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(shards, copy)
    for path in copy.glob("train/*.index"):
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="damaged"):
        read_split(Split(LocalFolder(copy), read_manifest(LocalFolder(copy)), "train"), 10)


def test_of_many_emojis_of_a_reaction_some_are_drawn_and_each_as_often(tmp_path: Path):
    """Each of ten is among the eight of a reaction in four of five; the same eight every time."""
    reactions = 400
    split = write_reactions(tmp_path, [EMOJIS10] * reactions, EMOJIS10)
    (batch,) = islice(stream(split, seed=0, window=9, batch_size=reactions, start=0), 1)
    assert (batch.emoji >= 0).all()
    assert all(row == sorted(set(row)) for row in batch.emoji.tolist())  # in their old order, none twice
    counts = torch.bincount(batch.emoji.flatten(), minlength=len(EMOJIS10))
    assert (counts - 0.8 * reactions).abs().max() < 4.5 * (reactions * 0.8 * 0.2) ** 0.5
    assert_equal([batch], [*islice(stream(split, seed=0, window=9, batch_size=reactions, start=0), 1)])


def test_a_reaction_without_an_emoji_of_the_vocabulary_keeps_its_place(tmp_path: Path):
    split = write_reactions(tmp_path, ["😍🦄", "🦄", "🔥😍"], EMOJIS10)
    (batch,) = islice(stream(split, seed=0, window=9, batch_size=3, start=0), 1)
    assert sorted(emojis for _, emojis in named(batch, split.manifest)) == [(), ("🔥", "😍"), ("😍",)]


def test_datasets_whose_reactions_are_not_counted_are_refused_and_the_remedy_told(shards: Path):
    manifest = read_manifest(LocalFolder(shards))
    older = replace(manifest, shards=tuple(replace(each, reactions=None) for each in manifest.shards))
    split = Split(LocalFolder(shards), older, "train", unit="reaction")
    with pytest.raises(InputError, match="build them again, or train with --recipe tuples"):
        next(stream(split, seed=0, window=1, batch_size=8, start=0))
