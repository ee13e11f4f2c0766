"""Other people's loops get the pairs that ours reads: each once, of one split, and none that is damaged."""

import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image
from torch.utils.data import DataLoader
from webdataset.writer import TarWriter

from emojigan.datasets.build.options import BuildOptions
from emojigan.datasets.care.adopt import adopt
from emojigan.datasets.errors import InputError
from emojigan.datasets.shards.layout import SPLITS
from emojigan.datasets.shards.manifest import read_manifest
from emojigan.datasets.shards.webdataset import Pair, open_split
from emojigan.datasets.store.folder import LocalFolder, open_folder
from emojigan.datasets.stream.held_out import read_split
from emojigan.datasets.stream.split import Split

from ...conftest import EMOJIS
from ...tiny_dataset import emojis_of, number_of, write_dataset

SIZES = (5, 3, 6, 4)


def counted(pairs: Iterable[Pair]) -> Counter[tuple[bytes, tuple[str, ...]]]:
    return Counter((image.tobytes(), tuple(emojis)) for image, emojis in pairs)


def reactions(folder: Path, split: str) -> Counter[tuple[bytes, tuple[str, ...]]]:
    """What `open_split` must give, by the reader of evaluations."""
    held = read_split(Split(LocalFolder(folder), read_manifest(LocalFolder(folder)), split), 10**6)
    pixels = held.images.permute(0, 2, 3, 1).contiguous().numpy()
    found: dict[int, tuple[bytes, list[str]]] = {}
    for image, emoji, reaction in zip(held.image, held.emojis, held.reaction, strict=True):
        found.setdefault(int(reaction), (pixels[image].tobytes(), []))[1].append(emoji)
    return Counter((image, tuple(emojis)) for image, emojis in found.values())


@pytest.fixture(scope="module")
def adopted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tars of somebody else, each with images of all splits: PNG of several sizes, some of two posts."""
    folder = tmp_path_factory.mktemp("adopted")
    for tar in range(2):
        with TarWriter(str(folder / f"{tar}.tar")) as writer:
            for number in range(30):
                pixels = np.full((64, 60 + number, 3), 100 * tar + number, np.uint8)
                Image.fromarray(pixels).save(buffer := io.BytesIO(), "PNG")
                labels = [
                    {"post": f"{tar}-{number}-{n}", "account": f"Ann{number}", "emojis": [EMOJIS[n], "🌵"]}
                    for n in range(1 + number % 3 // 2)
                ]
                about = json.dumps(labels[0] | {"reposts": labels[1:]}).encode()
                writer.write({"__key__": f"a/{number}", "png": buffer.getvalue(), "json": about})
    adopt(LocalFolder(folder), BuildOptions(val_share=0.3, test_share=0.3), max_bad=0, workers=1)
    return folder


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_is_a_webdataset_of_its_reactions(shards: Path, adopted: Path, split: str):
    for folder in (shards, adopted):
        dataset = open_split(folder, split)
        assert isinstance(dataset, webdataset.WebDataset)
        pairs = list(dataset)
        assert {(image.shape, image.dtype.name) for image, _ in pairs} == {((64, 64, 3), "uint8")}
        assert counted(pairs) == reactions(folder, split)


@pytest.mark.parametrize("encoding", ["npy", "jpg"])
def test_every_pair_comes_once_through_a_loader_with_workers(tmp_path: Path, encoding: str):
    write_dataset(tmp_path, SIZES, encoding)
    dataset = open_split(tmp_path, shardshuffle=4, seed=1).shuffle(3)
    loader = DataLoader(dataset, batch_size=2, num_workers=2, collate_fn=list)
    pairs = [pair for batch in loader for pair in batch]
    assert sorted(number_of(image) for image, _ in pairs) == list(range(sum(SIZES)))
    assert all(emojis == emojis_of(number_of(image)) for image, emojis in pairs)


def test_ranks_share_the_shards_and_without_a_splitter_they_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_dataset(tmp_path, SIZES)
    monkeypatch.setenv("WORLD_SIZE", "2")
    found = []
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        with pytest.raises(ValueError, match="nodesplitter"):
            list(open_split(tmp_path))
        split = open_split(tmp_path, nodesplitter=webdataset.split_by_node)
        found.append([number_of(image) for image, _ in split])
    assert min(map(len, found)) > 0 and sorted([*found[0], *found[1]]) == list(range(sum(SIZES)))


def test_a_split_of_a_store_is_that_of_a_folder(tmp_path: Path):
    write_dataset(tmp_path, SIZES)
    store = open_folder("memory://webdataset")
    for name in LocalFolder(tmp_path).names():
        store.write(name, (tmp_path / name).read_bytes())
    assert counted(open_split("memory://webdataset")) == counted(open_split(tmp_path))


def damage(tar: Path, what: str) -> None:
    """Damage the second image of a shard of npy, or the header of its label, behind which nothing is read."""
    with tarfile.open(tar) as file:
        _, _, label, image, *_ = file.getmembers()
    content = bytearray(tar.read_bytes())
    content[label.offset if what == "header" else image.offset_data + image.size - 1] ^= 1
    tar.write_bytes(content)


@pytest.mark.parametrize(("what", "left"), [("image", 17), ("header", 14), ("index", 13)])
def test_what_is_damaged_is_told_and_left_out_and_too_much_is_refused(
    tmp_path: Path, what: str, left: int, capsys: pytest.CaptureFixture[str]
):
    write_dataset(tmp_path, SIZES)
    if what == "index":
        (tmp_path / "000000.index").write_bytes(b"")
    else:
        damage(tmp_path / "000000.tar", what)
    pairs = list(open_split(tmp_path, max_quarantined=1))
    assert len(pairs) == left
    assert all(emojis == emojis_of(number_of(image)) for image, emojis in pairs)
    assert capsys.readouterr().err.count(f"{tmp_path}/000000.tar: ") == (1 if what == "index" else 18 - left)
    with pytest.raises(InputError, match=r"tuples of .* are damaged, more than 0\. See"):
        list(open_split(tmp_path))


@pytest.mark.parametrize("length", [0, 700, None])
def test_a_tar_that_is_cut_short_or_missing_is_named(tmp_path: Path, length: int | None):
    write_dataset(tmp_path, SIZES)
    tar = tmp_path / "000002.tar"
    tar.unlink() if length is None else tar.write_bytes(tar.read_bytes()[:length])
    with pytest.raises(InputError, match=r"000002\.tar is missing or cut short"):
        list(open_split(tmp_path))


@pytest.mark.parametrize("split", ["val", "training"])
def test_a_split_without_shards_is_refused_when_it_is_opened(tmp_path: Path, split: str):
    write_dataset(tmp_path, SIZES)
    with pytest.raises(InputError, match=f"nothing is in a split {split}"):
        open_split(tmp_path, split)
