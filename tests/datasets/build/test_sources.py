"""Sources that are broken stop a build, and those without ids share none."""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from webdataset.writer import ShardWriter

from emojigan.datasets.build import dataset as builder
from emojigan.datasets.build.dataset import Task, build_shards
from emojigan.datasets.build.options import BuildOptions
from emojigan.datasets.build.survey import Source
from emojigan.datasets.errors import InputError
from emojigan.datasets.posts import paths
from emojigan.datasets.posts.paths import name_with_tag
from emojigan.datasets.shards.manifest import Manifest
from emojigan.datasets.store.folder import LocalFolder
from emojigan.launch.cli import main

OPTIONS = BuildOptions(images_per_shard=8, min_count=1, val_share=0, test_share=0)


def content(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def picture(number: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_tars(folder: Path, posts: int, first: int = 0) -> Path:
    """Tars as img2dataset writes them, without ids: 00000.tar with 20 posts, then 00001.tar…"""
    folder.mkdir(parents=True)
    with ShardWriter(str(folder / "%05d.tar"), maxcount=20, verbose=0, mtime=0) as writer:
        for number in range(posts):
            writer.write({"__key__": f"{number:09d}", "png": picture(first + number), "txt": "look 😍"})
    return folder


def write_table(folder: Path, posts: int, first: int = 0) -> Path:
    """A posts.csv without ids, and its images."""
    folder.mkdir(parents=True)
    rows = []
    for number in range(first, first + posts):
        (folder / f"{number}.png").write_bytes(picture(number))
        rows.append(f"{number}.png,hi 😍\n")
    (folder / "posts.csv").write_text("image,text\n" + "".join(rows), encoding="utf-8")
    return folder


def build(out: Path, *sources: Path, max_bad: float = 0, **arguments) -> Manifest:
    manifest = build_shards(
        Source(sources), LocalFolder(out), OPTIONS, max_bad=max_bad, **{"workers": 1, **arguments}
    )
    assert manifest is not None
    return manifest


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    """A folder of three tars, of which the second was cut to a fifth."""
    folder = write_tars(tmp_path / "tars", 60)
    os.truncate(folder / "00001.tar", (folder / "00001.tar").stat().st_size // 5)
    return folder


def test_a_cut_tar_stops_the_build_before_any_work_however_many_bad_posts_are_allowed(cut, tmp_path):
    with pytest.raises(
        InputError, match=r"1 broken files, .*\(/.*/00001\.tar: damaged tar\)\. Copy them again"
    ):
        build(tmp_path / "out", cut, max_bad=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("by", ["number", "name"])
def test_a_cut_tar_that_is_allowed_gives_what_is_left_and_is_no_bad_post(cut, tmp_path, by):
    skip = {"number": 1, "name": str(cut / "00001.tar")}[by]
    manifest = build(tmp_path / "out", cut, skip_broken=(skip,))
    used = manifest.posts["used"]
    assert 40 < used < 60 and manifest.posts == {"read": used, "used": used, "without emoji": 0}
    assert manifest.left_out == {"damaged tar": 1}
    (line,) = (tmp_path / "out/rejects.jsonl").read_text().splitlines()
    reject = json.loads(line)
    assert reject["where"].startswith("00001.tar, byte ") and reject["reason"] == "damaged tar"
    assert str(tmp_path) not in line


def test_the_bytes_do_not_tell_how_a_broken_file_was_allowed_nor_where_it_lay(cut, tmp_path):
    elsewhere = shutil.copytree(cut, tmp_path / "a" / "b" / "tars")
    one, two, again = (tmp_path / name for name in ("one", "two", "again"))
    manifest = build(one, cut, skip_broken=(1,))
    build(two, elsewhere, skip_broken=(7, str(elsewhere / "00001.tar")), max_bad=0.5)
    assert content(one) == content(two)
    assert build(one, cut, skip_broken=(1,)) == manifest
    for number in (1, 0):
        build_shards(
            *(Source([cut]), LocalFolder(again), OPTIONS),
            **{"max_bad": 0, "skip_broken": (1,), "workers": 1, "task": Task(number, 2)},
        )
    assert content(again) == content(one)


def truncate_at(monkeypatch: pytest.MonkeyPatch, name: str, tar: Path, size: int) -> None:
    """Cut a tar when a function of the builder is called."""
    function = getattr(builder, name)

    def cut_first(*arguments):
        os.truncate(tar, min(size, tar.stat().st_size))
        return function(*arguments)

    monkeypatch.setattr(builder, name, cut_first)


@pytest.mark.parametrize("moment", ["mapper", "digest_chunk"])
def test_a_tar_that_shrinks_after_the_survey_stops_the_build(tmp_path, monkeypatch, moment):
    folder = write_tars(tmp_path / "tars", 40)
    size = (folder / "00001.tar").stat().st_size
    truncate_at(monkeypatch, moment, folder / "00001.tar", size - 20_000)
    with pytest.raises(InputError, match="changed while"):
        build(tmp_path / "out", folder, max_bad=1, skip_broken=(9,))
    assert not (tmp_path / "out/manifest.json").exists()


def run(*words: str | Path) -> Result:
    common = ["--min-count", "1", "--val-share", "0", "--test-share", "0", "--workers", "1"]
    return CliRunner().invoke(main, ["shards", *map(str, words), *common])


PLACE: dict[str, Callable[[Path, Path], tuple]] = {
    "build": lambda tars, out: ("build", tars, "--out", out),
    "adopt": lambda tars, out: ("adopt", tars),
}


@pytest.mark.parametrize("command", PLACE)
def test_the_commands_stop_at_a_broken_file_and_tell_it_at_the_end_if_it_is_allowed(
    cut, tmp_path, command, monkeypatch
):
    words = PLACE[command](cut, tmp_path / "out")
    dataset = words[-1]
    refused = run(*words, "--max-bad", "1")
    assert refused.exit_code == 2 and f"({cut}/00001.tar: damaged tar)" in refused.stderr
    assert not (dataset / "manifest.json").exists()
    monkeypatch.chdir(tmp_path)
    done = run(*words, "--max-bad", "0", "--skip-broken", "tars/00001.tar", "--skip-broken", "whole.tar")
    assert done.exit_code == 0, done.output
    line = "skipped of broken files: 1 damaged tar; how many posts were there is not known\n"
    assert line in done.stdout and line in CliRunner().invoke(main, ["shards", "stats", str(dataset)]).stdout
    figures = json.loads(CliRunner().invoke(main, ["shards", "stats", str(dataset), "--json"]).stdout)
    assert figures["broken_files"] == {"damaged tar": 1} and figures["left_out"] == {}
    assert "damaged tar" not in figures["rejects"] and figures["posts"]["read"] == figures["posts"]["used"]
    assert CliRunner().invoke(main, ["shards", "verify", str(dataset), "--workers", "1"]).exit_code == 0


@pytest.mark.parametrize("write", [write_tars, write_table])
def test_two_sources_of_one_name_share_no_ids(tmp_path, write):
    one, two = (write(tmp_path / name / "posts", 20, first) for name, first in (("one", 0), ("two", 20)))
    manifest = build(tmp_path / "out", one, two)
    assert manifest.posts == {"read": 40, "used": 40, "without emoji": 0}


@pytest.mark.parametrize("write", [write_tars, write_table])
def test_a_copy_of_a_source_gives_the_same_bytes_and_beside_it_duplicates(tmp_path, write, monkeypatch):
    here = write(tmp_path / "here", 20)
    there = shutil.copytree(here, tmp_path / "mnt" / "there")
    build(tmp_path / "one", here)
    monkeypatch.chdir(tmp_path / "mnt")
    build(tmp_path / "two", Path("there"))
    assert content(tmp_path / "one") == content(tmp_path / "two")
    both = build(tmp_path / "both", here, there, max_bad=0.5)
    assert both.posts == {"read": 40, "used": 20, "without emoji": 0, "duplicate id": 20}


@given(
    contents=st.lists(
        st.binary(max_size=40) | st.from_regex(rb"[ab]{16,20}", fullmatch=True), min_size=2, max_size=2
    )
)
@settings(max_examples=200, deadline=None)
def test_a_tag_tells_files_apart_by_their_size_and_their_ends(tmp_path_factory, contents):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "ENDS", 8)
        folder = tmp_path_factory.mktemp("tag")
        found, told = set(), set()
        for number, each in enumerate(contents):
            (folder / f"{number}.csv").write_bytes(each)
            found.add(name_with_tag(folder / f"{number}.csv", "posts.csv"))
            told.add((len(each), each[:8], each[-8:]))
    assert len(found) == len(told)


def test_a_tag_of_a_terabyte_is_had_at_once(tmp_path):
    (tmp_path / "00000.tar").touch()
    os.truncate(tmp_path / "00000.tar", 1 << 40)  # a file of holes: to read it whole would take an hour
    assert name_with_tag(tmp_path / "00000.tar", "a/00000.tar").startswith("a/00000@")
