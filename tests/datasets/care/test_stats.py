"""The statistics of a dataset tell of every tuple, in each split."""

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from emojigan.datasets.build.dataset import build_shards
from emojigan.datasets.build.options import BuildOptions
from emojigan.datasets.build.survey import Source
from emojigan.datasets.care.adopt import adopt
from emojigan.datasets.care.forget import forget
from emojigan.datasets.care.stats import page, summarise
from emojigan.datasets.shards.index import read_index
from emojigan.datasets.shards.layout import SPLITS
from emojigan.datasets.shards.manifest import Manifest, read_manifest, write_manifest
from emojigan.datasets.store.folder import LocalFolder

OPTIONS = BuildOptions(images_per_shard=50, min_count=30)


@pytest.fixture(scope="module")
def built(posts_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with rare emojis in every split."""
    out = tmp_path_factory.mktemp("stats") / "shards"
    build_shards(Source([posts_folder / "posts.jsonl"]), LocalFolder(out), OPTIONS, workers=1, max_bad=0)
    return out


def counted(folder: LocalFolder, manifest: Manifest) -> dict[str, tuple[int, int]]:
    """Tuples with and without an emoji of the vocabulary in each split, by the indexes."""
    found = {}
    for split in SPLITS:
        emojis: Counter[bool] = Counter()
        for shard in manifest.of_split(split):
            index = read_index(folder, shard)
            emojis.update(index.emojis[emoji] in manifest.vocabulary for emoji in index.emoji.tolist())
        found[split] = emojis[True], emojis[False]
    return found


def assert_every_tuple_is_told(folder: LocalFolder) -> None:
    manifest = read_manifest(folder)
    figures = summarise(manifest)
    told = {split: (of["tuples"], of["outside"]) for split, of in figures["splits"].items()}
    assert told == counted(folder, manifest)
    assert sum(map(sum, told.values())) == sum(
        len(read_index(folder, shard).emoji) for shard in manifest.shards
    )
    for line, (split, (tuples, outside)) in zip(page(manifest).splitlines()[1:], told.items(), strict=False):
        assert line.split()[0] == split and line.split()[3:5] == [f"{tuples:,}", f"{outside:,}"]


def test_every_tuple_of_a_built_dataset_is_told(built):
    assert all(
        outside for _, outside in counted(LocalFolder(built), read_manifest(LocalFolder(built))).values()
    )
    assert_every_tuple_is_told(LocalFolder(built))


def test_every_tuple_is_told_after_accounts_were_forgotten_in_an_older_dataset_too(built, tmp_path):
    folder = LocalFolder(shutil.copytree(built, tmp_path / "copy"))
    manifest = read_manifest(folder)
    older = replace(manifest, shards=tuple(replace(shard, outside=None) for shard in manifest.shards))
    write_manifest(older, folder, replaces=manifest)
    assert summarise(read_manifest(folder))["splits"]["val"]["outside"] is None
    assert page(read_manifest(folder)).splitlines()[1].split()[4] == "?"
    forget(folder, read_index(folder, manifest.shards[0]).accounts[:2], dry_run=False, workers=1)
    assert_every_tuple_is_told(folder)


@pytest.mark.parametrize("split_by", ["account", "post"])
def test_every_tuple_of_an_adopted_dataset_is_told(built, tmp_path, split_by):
    for number, tar in enumerate(sorted(built.rglob("*.tar"))):
        shutil.copy(tar, tmp_path / f"{number}.tar")
    folder = LocalFolder(tmp_path)
    adopt(folder, replace(OPTIONS, split_by=split_by), max_bad=0, workers=1)
    assert_every_tuple_is_told(folder)
