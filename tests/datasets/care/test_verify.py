"""`shards verify` finds whatever is not as it was made, and says in which sample."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from emojigan.datasets.build.dataset import build_shards
from emojigan.datasets.build.options import BuildOptions
from emojigan.datasets.build.survey import Source
from emojigan.datasets.care.verify import Fault, verify
from emojigan.datasets.errors import InputError
from emojigan.datasets.shards.index import Index, index_rows
from emojigan.datasets.shards.manifest import Manifest, read_manifest, write_manifest
from emojigan.datasets.store.folder import LocalFolder, open_folder
from emojigan.launch.cli import main

from ...tiny_dataset import write_dataset

SHARD = "train/000000.tar"


def faults(folder: Path, workers: int = 1) -> list[Fault]:
    dataset = LocalFolder(folder)
    return verify(dataset, read_manifest(dataset), workers=workers).faults


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["shards", "verify", "--workers", "1", *map(str, words)])


@pytest.fixture
def copy(shards: Path, tmp_path: Path) -> Path:
    """A dataset to damage."""
    return shutil.copytree(shards, tmp_path / "shards")


def index_of(folder: Path) -> Index:
    return Index.from_bytes((folder / SHARD).with_suffix(".index").read_bytes())


def change(folder: Path, **changes: object) -> None:
    """Change the manifest."""
    dataset = LocalFolder(folder)
    before = read_manifest(dataset)
    write_manifest(replace(before, **changes), dataset, replaces=before)


def damage(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", [SHARD, SHARD.replace(".tar", ".index")])
def test_a_file_that_this_machine_cannot_read_is_no_fault_of_the_data(copy, name, monkeypatch):
    monkeypatch.setattr("emojigan.datasets.store.trouble.WAITS", ())
    (copy / name).unlink()
    (copy / name).symlink_to(copy / name)
    with pytest.raises(InputError, match=f"{name}: Too many levels of symbolic links"):
        faults(copy)


@pytest.mark.parametrize("encoding", ["npy", "jpg"])
def test_what_was_built_is_whole(posts_folder, tmp_path, encoding):
    options = BuildOptions(images_per_shard=100, encoding=encoding)
    out = LocalFolder(tmp_path / "out")
    build_shards(Source([posts_folder / "posts.jsonl"]), out, options, workers=1, max_bad=0)
    assert faults(tmp_path / "out") == []


def test_wrong_count_of_tuples_outside_the_vocabulary_is_found(copy):
    first, *others = read_manifest(LocalFolder(copy)).shards
    assert first.outside == 0
    change(copy, shards=(replace(first, outside=3), *others))
    assert faults(copy) == [
        Fault("manifest.json", None, f"counts 3 tuples of rarer emojis of {first.index}, not 0")
    ]


def test_workers_find_the_same(copy):
    damage(copy / SHARD, 5000)
    assert faults(copy, workers=2) == faults(copy) != []


def test_store_is_verified(shards):
    for path in (path for path in shards.rglob("*") if path.is_file()):
        open_folder("memory://verify").write(path.relative_to(shards).as_posix(), path.read_bytes())
    dataset = open_folder("memory://verify")
    report = verify(dataset, read_manifest(dataset), workers=1)
    assert (report.faults, report.unnamed) == ([], [])


def test_damaged_pixel_names_the_sample(copy):
    index = index_of(copy)
    damage(copy / SHARD, int(index.offset[7]) + 1000)
    assert faults(copy) == [
        Fault(SHARD, None, "checksum differs"),
        Fault(SHARD, index.keys[7], "checksum differs"),
    ]


def test_damaged_header_costs_one_sample(copy):
    index = index_of(copy)
    damage(copy / SHARD, int(index.offset[7]) - 400)
    assert [(fault.key, fault.reason) for fault in faults(copy)] == [
        (None, "checksum differs"),
        (index.keys[7], "damaged header"),
    ]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One shard of five images of 4 pixels; the manifest's counts are not those of the shard."""
    return write_dataset(tmp_path_factory.mktemp("tiny"), [5]).folder.path or Path()


@given(position=st.integers(0), bit=st.integers(0, 7))
@settings(max_examples=200, deadline=None)
def test_any_flipped_bit_of_a_tar_is_found_where_it_is(tiny, position, bit):
    tar = tiny / "000000.tar"
    whole = tar.read_bytes()
    content = bytearray(whole)
    position %= len(content)
    content[position] ^= 1 << bit
    tar.write_bytes(content)
    try:
        checksum, *others = (fault for fault in faults(tiny) if fault.file == tar.name)
    finally:
        tar.write_bytes(whole)
    index = Index.from_bytes((tiny / "000000.index").read_bytes())
    ends = [-(-end // 512) * 512 for end in (index.offset + index.length).tolist()]
    key = next((key for key, end in zip(index.keys, ends, strict=True) if position < end), None)
    assert checksum == Fault(tar.name, None, "checksum differs")
    assert {fault.key for fault in others} == {key}


def test_cut_tar_names_every_lost_sample(copy):
    index = index_of(copy)
    content = (copy / SHARD).read_bytes()
    (copy / SHARD).write_bytes(content[: int(index.offset[-2])])
    found = faults(copy)
    assert found[0].reason == f"{index.offset[-2]} bytes, not {len(content)}"
    assert {fault.key for fault in found[1:]} == set(index.keys[-2:])


@pytest.mark.parametrize("content", [None, b""])
def test_missing_or_empty_tar_is_told(copy, content):
    (copy / SHARD).unlink() if content is None else (copy / SHARD).write_bytes(content)
    assert faults(copy)[0].file == SHARD


def test_label_that_differs_from_the_index_is_found(copy):
    """Every checksum is right, and the index gives an image another's emojis."""
    index = index_of(copy)
    samples = index.samples()
    (a, first), (b, second) = samples[3:5]
    samples[3:5] = [(a, replace(second, post=first.post)), (b, replace(first, post=second.post))]
    swapped = index_rows(samples).to_bytes()
    (copy / SHARD).with_suffix(".index").write_bytes(swapped)
    entries = read_manifest(LocalFolder(copy)).shards
    digest = hashlib.sha256(swapped).hexdigest()
    change(copy, shards=tuple(replace(e, index_sha256=digest) if e.name == SHARD else e for e in entries))
    assert faults(copy) == [Fault(SHARD, key, "label differs from the index") for key in index.keys[3:5]]


def test_damaged_index_is_told_and_misses_in_the_counts(copy):
    damage((copy / SHARD).with_suffix(".index"), 3000)
    first, *others = faults(copy)
    assert first == Fault("train/000000.index", None, "damaged index")
    assert others and {fault.file for fault in others} == {"manifest.json"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (lambda m: {"vocabulary": m.vocabulary | {"😍": 1}}, "counts 1 😍 in train, where "),
        (lambda m: {"vocabulary": m.vocabulary | {"🦄": 9}}, "counts 9 🦄 in train, where 0 are"),
        (lambda m: {"posts": m.posts | {"used": 3}}, "counts 3 used posts, where 270 are"),
        (lambda m: {"image_size": 32}, "not a picture of 32 pixels"),
        (lambda m: {"shards": (replace(m.shards[0], images=49), *m.shards[1:])}, "index does not fit"),
        (lambda m: {"shards": (replace(m.shards[0], tuples=3), *m.shards[1:])}, "counts 3 tuples of train/"),
        (lambda m: {"shards": (replace(m.shards[0], split="dev"), *m.shards[1:])}, "is in no split"),
    ],
)
def test_wrong_manifest_is_found(copy, changes: Callable[[Manifest], dict], reason):
    change(copy, **changes(read_manifest(LocalFolder(copy))))
    assert any(reason in fault.reason for fault in faults(copy))


def test_picture_that_decodes_to_another_size_is_found(copy):
    change(copy, encoding="jpg")
    assert len(faults(copy)) == sum(shard.images for shard in read_manifest(LocalFolder(copy)).shards)


def test_file_of_no_shard_is_no_damage_and_is_told(copy):
    (copy / "train/000099.tar").write_bytes(b"x")
    result = run(copy)
    assert result.exit_code == 0 and "train/000099.tar belongs to no shard" in result.stderr


def test_whole_dataset_ends_with_0_and_a_summary(shards):
    result = run(shards)
    assert (
        result.exit_code == 0 and result.stdout.startswith("Whole: ") and len(result.stdout.splitlines()) == 1
    )


def test_damage_ends_with_1_and_says_where(copy):
    index = index_of(copy)
    (copy / SHARD).write_bytes(bytes((copy / SHARD).stat().st_size))
    result = run(copy)
    lines = result.stdout.splitlines()
    assert result.exit_code == 1 and len(lines) == 22
    assert lines[1] == f"{SHARD} {index.keys[0]}: checksum differs"
    assert lines[-2].startswith("and ") and lines[-1].startswith("101 faults: ")


def test_json_tells_every_fault(copy):
    (copy / SHARD).write_bytes(bytes((copy / SHARD).stat().st_size))
    result = run(copy, "--json")
    assert result.exit_code == 1
    assert [Fault(**json.loads(line)) for line in result.stdout.splitlines()] == faults(copy)


def test_no_dataset_ends_with_2(tmp_path):
    assert run(tmp_path).exit_code == 2


def test_index_tells_the_samples_that_it_was_made_from(shards):
    for path in shards.rglob("*.index"):
        index = Index.from_bytes(path.read_bytes())
        again = index_rows(index.samples())
        assert again.to_bytes() == index.to_bytes()
        assert np.array_equal(again.image, index.image)
