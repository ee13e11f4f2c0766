"""Rows of the pixels that lie in memory are the batches that would be streamed, whatever is damaged."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest
import torch

from emojigan.datasets.errors import InputError
from emojigan.datasets.shards.encoding import ENCODERS
from emojigan.datasets.stream import reader as reader_module
from emojigan.datasets.stream import resident as resident_module
from emojigan.datasets.stream.quarantine import Quarantine, Quarantined
from emojigan.datasets.stream.reader import Batch, Rows
from emojigan.datasets.stream.resident import pixels_shape
from emojigan.datasets.stream.split import OpenShard, Split
from emojigan.datasets.stream.stream import stream

from ...tiny_dataset import number_of, tuples_of, write_dataset

SIZES = (9, 4, 12, 7)
NO_JPEG = (3, 10, 29)  # numbers of images, of which the last is of shard 3
BATCHES = 18  # of 8: three epochs and more


@pytest.fixture(scope="module", params=["npy", "jpg"])
def split(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Split:
    """With damaged images, a damaged index, and JPEGs of the right checksum that cannot be decoded."""
    with pytest.MonkeyPatch.context() as patch:
        encode = ENCODERS["jpg"]
        patch.setitem(
            ENCODERS, "jpg", lambda pixels: b"none" if number_of(pixels) in NO_JPEG else encode(pixels)
        )
        split = write_dataset(tmp_path_factory.mktemp("resident") / "shards", SIZES, request.param)
    harm(split, 2, 0, 5, 6)
    (split.folder.path / split.shards[1].index).write_bytes(b"damaged")
    return split


def harm(split: Split, shard: int, *rows: int) -> None:
    """Change the last byte of some images."""
    path, opened = split.folder.path / split.shards[shard].name, split.open_shard(shard)
    content = bytearray(path.read_bytes())
    for row in rows:
        content[opened.offset[row] + opened.length[row] - 1] ^= 1
    path.write_bytes(content)


def room(split: Split) -> torch.Tensor:
    return torch.full(pixels_shape(split), 77, dtype=torch.uint8)


def read(
    split: Split, resident: torch.Tensor | None, number: int = BATCHES, **options
) -> tuple[list[Batch], Counter[Quarantined]]:
    """Batches, of rows too as they are gathered, and what was quarantined."""
    told: list[Quarantined] = []
    given = {"window": 2, "start": 0, "max_quarantined": 1, "batch_size": 8, **options}
    reading = stream(split, seed=1, tell_quarantined=told.append, resident=resident, **given)
    with closing(reading):
        batches = [gathered(each, resident) for each in islice(reading, number)]
    return batches, Counter(told)


def gathered(batch: Batch | Rows, resident: torch.Tensor | None) -> Batch:
    assert isinstance(batch, Batch) == (resident is None)
    if isinstance(batch, Batch):
        return batch
    return Batch(resident[batch.rows].permute(0, 3, 1, 2), batch.emoji)


@pytest.mark.parametrize("start", [0, 4])
@pytest.mark.parametrize(
    "options", [{"helpers": 0}, {"helpers": 3, "window": 4}, {"helpers": 2, "lanes": 2}], ids=str
)
@pytest.mark.parametrize("world_size", [1, 2])
def test_rows_are_of_the_pixels_that_are_streamed(split, world_size: int, options: dict, start: int):
    for rank in range(world_size):
        options = {**options, "rank": rank, "world_size": world_size, "start": start}
        streamed, told = read(split, None, **options)
        named, told_of_rows = read(split, room(split), **options)
        assert len(streamed) == len(named) == BATCHES
        for batch, expected in zip(named, streamed, strict=True):
            assert torch.equal(batch.images, expected.images) and torch.equal(batch.emoji, expected.emoji)
        assert told_of_rows >= told and set(told_of_rows.values()) == {1}


def test_what_is_quarantined_is_what_an_epoch_of_the_stream_quarantines(split):
    whole = {"batch_size": 1, "number": split.num_tuples}
    (_, streamed), (_, of_rows) = read(split, None, **whole), read(split, room(split), **whole)
    assert of_rows == streamed
    assert len(of_rows) == 4 + (2 if split.manifest.encoding == "jpg" else 0)  # 10 is of the damaged index


def test_more_damage_than_is_allowed_is_refused_before_the_first_batch(split):
    with pytest.raises(InputError, match=r"tuples of .* are damaged, more than 3: 00000"):
        stream(
            split,
            **{"seed": 1, "window": 2, "batch_size": 8, "start": 0},
            max_quarantined=3.1 / split.num_tuples,
            resident=room(split),
        )


@pytest.mark.parametrize("helpers", [0, 2])
def test_every_image_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, helpers: int):
    split, decoded = write_dataset(tmp_path / "shards", SIZES, "jpg"), Counter()
    original = resident_module.decode

    def decode(member, encoding, out):
        original(member, encoding, out)
        decoded[number_of(out)] += 1

    monkeypatch.setattr(resident_module, "decode", decode)
    monkeypatch.setattr(reader_module, "decode", decode)
    batches, _ = read(split, room(split), helpers=helpers)
    assert len(batches) == BATCHES and decoded == Counter(range(sum(SIZES)))


def test_no_byte_of_an_image_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In a window of many shards a stream checks its images as they come, in every epoch.

    A byte behind the images is another, so that no shard's digest says that all of them are right.
    """
    monkeypatch.setattr(reader_module, "OPEN_SHARDS", 1)
    split, asked = write_dataset(tmp_path / "shards", SIZES), Counter()
    for shard in split.shards:
        path = split.folder.path / shard.name
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    kind = type(split.open_shard(0))
    original = kind.is_right

    def is_right(self, row: int) -> bool:
        asked[bytes(self.member(row))] += 1
        return original(self, row)

    monkeypatch.setattr(kind, "is_right", is_right)
    read(split, room(split), window=4)
    assert set(asked.values()) == {1} and len(asked) == sum(SIZES)


def test_a_shard_that_is_written_over_after_it_was_read_does_no_harm(tmp_path: Path):
    split, batches = write_dataset(tmp_path / "shards", SIZES), []
    for harmed in (False, True):
        pixels = room(split)
        reading = stream(split, seed=1, window=2, batch_size=8, start=0, helpers=0, resident=pixels)
        if harmed:
            harm(split, 0, 1)
        with closing(reading):
            batches.append([gathered(each, pixels) for each in islice(reading, BATCHES)])
    assert all(torch.equal(a.images, b.images) for a, b in zip(*batches, strict=True))


@pytest.mark.parametrize("resident", [False, True])
def test_a_shard_of_which_the_index_is_damaged_after_it_was_read_is_quarantined_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resident: bool
):
    """Not taken for one whose images are known to be good: its tuples are known no longer."""
    monkeypatch.setattr(reader_module, "OPEN_SHARDS", 2)
    split = write_dataset(tmp_path / "shards", SIZES)
    harm(split, 2, 5)
    told: list[Quarantined] = []
    pixels = room(split) if resident else None
    options = {"seed": 1, "window": 2, "batch_size": 1, "start": 0, "helpers": 0, "max_quarantined": 1}
    reading = stream(split, **options, tell_quarantined=told.append, resident=pixels)

    def epoch() -> Iterator[tuple[int, int]]:
        for each in islice(reading, split.num_tuples):
            batch = gathered(each, pixels)
            yield number_of(batch.images[0].permute(1, 2, 0).numpy()), int(batch.emoji[0])

    with closing(reading):
        assert set(epoch()) <= tuples_of(sum(SIZES)).keys()
        (split.folder.path / split.shards[2].index).write_bytes(b"damaged")
        list(epoch())  # windows of it may be open
        left = set(epoch())
    assert left == {each for each in tuples_of(sum(SIZES)) if not 13 <= each[0] < 25}
    assert [each.key for each in told] == ["000005", None]
    assert sum(each.tuples for each in told) == split.shards[2].tuples


def test_what_is_known_of_a_shard_is_looked_up_once_and_not_for_each_of_its_images(split, monkeypatch):
    """In a window of many shards, which is not looked through ahead."""
    monkeypatch.setattr(reader_module, "OPEN_SHARDS", 1)
    asked: Counter[int] = Counter()
    original = Quarantine.rows

    def rows(quarantine: Quarantine, number: int, shard: OpenShard | None) -> list[int]:
        asked[number] += 1
        return original(quarantine, number, shard)

    whole = {"window": 4, "batch_size": split.num_tuples, "start": 0, "helpers": 0}
    reading = stream(split, seed=1, max_quarantined=1, resident=room(split), **whole)
    monkeypatch.setattr(Quarantine, "rows", rows)
    with closing(reading):
        next(reading)
    assert asked == Counter(range(len(SIZES)))
