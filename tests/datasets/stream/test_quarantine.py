"""Whatever happens to the files, no image comes with another's emoji and nothing is lost in silence."""

import random
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from itertools import chain, islice
from pathlib import Path

import pytest

from emojigan.datasets.errors import InputError
from emojigan.datasets.stream.held_out import read_split
from emojigan.datasets.stream.quarantine import Quarantine, Quarantined
from emojigan.datasets.stream.split import Split
from emojigan.datasets.stream.stream import stream

from ...tiny_dataset import number_of, tuples_of, write_dataset

SIZES = (9, 4, 12, 7)
IMAGES = sum(SIZES)


def epoch(split: Split, *, max_quarantined: float = 1.0, **options: int) -> tuple[Counter, list[Quarantined]]:
    """All tuples that come in an epoch of batches of one, and what is quarantined."""
    quarantined: list[Quarantined] = []
    options = {"helpers": 0, "window": 4} | options
    reading = stream(
        split,
        seed=1,
        batch_size=1,
        start=0,
        max_quarantined=max_quarantined,
        tell_quarantined=quarantined.append,
        **options,
    )
    with closing(reading):
        batches = list(islice(reading, split.num_tuples))
    pixels = [batch.images[0].permute(1, 2, 0).numpy() for batch in batches]
    return Counter((number_of(p), int(b.emoji[0])) for p, b in zip(pixels, batches, strict=True)), quarantined


def flip(content: bytearray, rng: random.Random, *_: bytes) -> None:
    for _ in range(rng.choice([1, 1, 8])):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def overwrite(content: bytearray, rng: random.Random, *_: bytes) -> None:
    start = rng.randrange(len(content))
    content[start : start + 700] = bytes(min(700, len(content) - start))


def swap(content: bytearray, rng: random.Random, *_: bytes) -> None:
    """Exchange two members, or other blocks of 1,024 bytes."""
    one, other = (1024 * rng.randrange(max(1, len(content) // 1024 - 1)) for _ in range(2))
    content[one : one + 1024], content[other : other + 1024] = (
        content[other : other + 1024],
        content[one : one + 1024],
    )


def repeat(content: bytearray, rng: random.Random, *_: bytes) -> None:
    """Write one block of 1,024 bytes over another."""
    one, other = (1024 * rng.randrange(max(1, len(content) // 1024 - 1)) for _ in range(2))
    content[one : one + 1024] = content[other : other + 1024]


def insert(content: bytearray, rng: random.Random, *_: bytes) -> None:
    """Move all behind a member, and cut off what sticks out."""
    start, size = 512 * rng.randrange(len(content) // 512), len(content)
    content[start:start] = content[:512]
    del content[size:]


def cut(content: bytearray, rng: random.Random, *_: bytes) -> None:
    del content[rng.randrange(len(content)) :]


def replace_by_another(content: bytearray, rng: random.Random, *others: bytes) -> None:
    content[:] = rng.choice(others)


MUTATIONS: list[Callable] = [flip, overwrite, swap, repeat, insert, cut, replace_by_another]


@pytest.fixture(scope="module", params=["npy", "jpg"])
def split(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Split:
    return write_dataset(tmp_path_factory.mktemp("fuzz") / "shards", SIZES, request.param)


@pytest.mark.parametrize(
    "seed", [*range(5), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(5, 40))]
)
def test_fuzzed_files_give_their_own_tuples_or_say_what_is_lost(split, seed):
    """50 mutations for each encoding: of the tars, and of the indexes."""
    rng = random.Random(seed)
    files = [split.folder.path / name for shard in split.shards for name in (shard.name, shard.index)]
    originals = {path: path.read_bytes() for path in files}
    expected = tuples_of(IMAGES)
    for _ in range(50):
        path = rng.choice(files)
        content = bytearray(originals[path])
        others = [originals[other] for other in files if other.suffix == path.suffix and other != path]
        rng.choice(MUTATIONS)(content, rng, *others)
        path.write_bytes(content)
        try:
            seen, quarantined = epoch(split)
        except InputError as error:
            assert "cut short" in str(error)
            assert len(content) != len(originals[path])
        else:
            found = Counter({each: 1 for each in seen})
            assert found <= expected, "an image with another's emoji"
            assert found.total() + sum(each.tuples for each in quarantined) == expected.total()
        finally:
            path.write_bytes(originals[path])


@pytest.fixture
def copy(tmp_path: Path) -> Split:
    return write_dataset(tmp_path / "shards", SIZES)


def harm(split: Split, shard: int, *rows: int) -> None:
    """Change the last byte of some images."""
    path = split.folder.path / split.shards[shard].name
    content, index = bytearray(path.read_bytes()), split.read_index(shard)
    for row in rows:
        content[index.offset[row] + index.length[row] - 1] ^= 1
    path.write_bytes(content)


def test_damaged_image_is_told_once_with_shard_key_and_reason(copy):
    harm(copy, 2, 5)
    _, quarantined = epoch(copy)
    assert quarantined == [Quarantined("000002.tar", "000005", "checksum differs", 1 + (9 + 4 + 5) % 2)]


def test_damaged_image_whose_index_was_damaged_since_is_told_by_its_row(copy):
    quarantined: list[Quarantined] = []
    shard = copy.open_shard(2)
    harm(copy, 2, 5)
    (copy.folder.path / copy.shards[2].index).write_bytes(b"")
    assert Quarantine(copy, 1, quarantined.append).check(2, shard, 5)
    assert quarantined == [Quarantined("000002.tar", "row 5", "checksum differs", 1)]


def test_ranks_keep_their_steps_and_see_one_order_around_damage(copy):
    harm(copy, 0, *range(4))
    harm(copy, 2, *range(0, 12, 2))

    def tuples(world_size: int, helpers: int, start: int = 0) -> list[list]:
        slices = []
        for rank in range(world_size):
            options = {"rank": rank, "world_size": world_size, "helpers": helpers}
            with closing(
                stream(copy, seed=1, window=2, batch_size=8, start=start, max_quarantined=1, **options)
            ) as reading:
                batches = list(islice(reading, 12 - start))
            slices.append(
                [list(zip(b.images.flatten(1).tolist(), b.emoji.tolist(), strict=True)) for b in batches]
            )
        return [[*chain(*parts)] for parts in zip(*slices, strict=True)]

    expected = tuples(1, 0)
    assert [len(batch) for batch in expected] == [8] * 12
    assert tuples(4, 2) == tuples(2, 1) == tuples(1, 3) == expected
    assert tuples(2, 0, start=7) == expected[7:]


def test_too_much_damage_stops_and_names_the_first(copy):
    harm(copy, 1, 0, 1)
    with pytest.raises(
        InputError, match=r"3 tuples of .* are damaged, more than 2: 000001\.tar 00000\d: checksum"
    ):
        epoch(copy, max_quarantined=2.9 / copy.num_tuples)
    epoch(copy, max_quarantined=3.1 / copy.num_tuples)


def test_shard_with_a_damaged_index_is_quarantined_whole(copy):
    path = copy.folder.path / copy.shards[1].index
    content = bytearray(path.read_bytes())
    content[50] ^= 1
    path.write_bytes(content)
    seen, quarantined = epoch(copy)
    assert quarantined == [Quarantined("000001.tar", None, "damaged index", copy.shards[1].tuples)]
    assert set(seen) == {each for each in tuples_of(IMAGES) if not 9 <= each[0] < 13}


def test_nothing_but_damage_is_an_error(copy):
    for shard, size in enumerate(SIZES):
        harm(copy, shard, *range(size))
    with pytest.raises(InputError, match="All images of a window are damaged"):
        epoch(copy)


def test_image_that_cannot_be_decoded_is_quarantined(tmp_path, monkeypatch):
    split = write_dataset(tmp_path / "shards", SIZES, "jpg")
    from emojigan.datasets.stream import reader

    original = reader.decode

    def decode(member, encoding, out):
        original(member, encoding, out)
        if number_of(out) // 8 == 2:
            raise ValueError("cannot be decoded")

    monkeypatch.setattr(reader, "decode", decode)
    _, quarantined = epoch(split)
    assert {each.reason for each in quarantined} == {"cannot be decoded"}


def test_evaluation_does_not_choose_what_it_looks_at(copy):
    harm(copy, 0, 3)
    with pytest.raises(InputError, match=r"000000\.tar: checksum of 000003 differs"):
        read_split(copy, 1000)
    assert len(read_split(copy, 3).posts) == 3
