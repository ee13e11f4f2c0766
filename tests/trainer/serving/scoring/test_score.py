"""Scores are what the model says, of every image, and the same bytes however the work was shared."""

import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import boto3
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from s3fs import S3FileSystem

from emojigan.datasets.emojis.text import display
from emojigan.datasets.errors import InputError
from emojigan.datasets.shards.manifest import read_manifest
from emojigan.datasets.store.folder import Folder, LocalFolder, open_folder
from emojigan.datasets.stream.split import Split
from emojigan.trainer.config import resolve
from emojigan.trainer.facts import Facts
from emojigan.trainer.model.networks import Generator
from emojigan.trainer.model.snapshot import save_snapshot
from emojigan.trainer.serving.load import finding, load
from emojigan.trainer.serving.scoring.answers import _top
from emojigan.trainer.serving.scoring.job import Request
from emojigan.trainer.serving.scoring.score import Done, Scored, Share, score
from emojigan.trainer.serving.scoring.sources import open_source

from ....conftest import EMOJIS
from ....stores import moto_server
from ....trainings import PROGRAM
from ...model.test_snapshot import TINY

ASKED = Request("", "", samples=50, seed=3, top_k=5, readings=False, deny=(), precision="float32")


def make_model(path: Path, seed: int = 0, weights: tuple[float, ...] = (1.0,) * len(EMOJIS)) -> Path:
    """A snapshot that says something else of each image."""
    torch.manual_seed(seed)
    config = resolve("tuples", None, TINY).model
    generator = Generator(config, torch.randn(len(EMOJIS), 12), 64).requires_grad_(False)
    generator.output.weight.mul_(20)
    facts = Facts(10, 64, config.model_dump(), tuple(EMOJIS), "d" * 64, "v" * 64, {"nll": 1.5})
    save_snapshot(path, facts, generator, np.array(weights))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "snapshot")


def run(source: Path | str, model: Path, out: Path | Folder, asked: Request = ASKED, **options) -> Done:
    return run_all(source, model, out, asked, **options)[1]


def run_all(
    source: Path | str, model: Path, out: Path | Folder, asked: Request = ASKED, **options
) -> tuple[list[Scored], Done]:
    opened, folder = open_source(str(source)), LocalFolder(out) if isinstance(out, Path) else out
    with finding(model) as found:
        asked = replace(asked, snapshot=found.digest, source=opened.content)
        *parts, done = score(opened, found, asked, folder, **{"workers": 1, "shown": False, **options})
    assert isinstance(done, Done)
    return [each for each in parts if isinstance(each, Scored)], done


@pytest.fixture(scope="module")
def scores(shards: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All shards, scored by one process."""
    out = tmp_path_factory.mktemp("scores") / "scores"
    run(shards, model, out)
    return out


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def words(source: Path, model: Path, out: Path | str, *options: str) -> list[str]:
    asked = ["--samples", "50", "--seed", "3", "--top-k", "5"]
    return [*PROGRAM, "score", str(source), str(model), "--out", str(out), *asked, *options]


def test_every_image_of_the_shards_has_a_row_with_what_the_model_answers(scores, shards, model):
    """As it is asked with the same latents; and the file of each shard is beside its shard's name."""
    manifest, asked = read_manifest(LocalFolder(shards)), load(model, device="cpu")
    for entry in manifest.shards:
        split = Split(LocalFolder(shards), manifest, entry.split)
        number = split.shards.index(entry)
        index, opened = split.read_index(number), split.open_shard(number)
        rows = pq.read_table(scores / entry.index.replace(".index", ".parquet")).to_pylist()
        assert [row["key"] for row in rows] == [f"{entry.name[:-4]}/{key}" for key in index.keys]
        assert [row["post"] for row in rows] == index.post_of_image()
        pixels = [opened.member(row)[-64 * 64 * 3 :].reshape(64, 64, 3).copy() for row in range(entry.images)]
        answers = asked.ask(pixels, top_k=len(EMOJIS), samples=50, seed=3)
        for row, told in zip(rows, answers, strict=True):
            assert row["emojis"] == [each.emoji for each in told.emojis[:5]]
            assert row["p"] == pytest.approx([each.p for each in told.emojis[:5]], abs=1e-6)
            p = np.array([each.p for each in told.emojis])
            assert row["entropy"] == pytest.approx(-(p * np.log(p)).sum(), abs=1e-5)
            assert row["readings"] is None and row["error"] is None


def test_pandas_reads_the_folder_and_the_schema_tells_the_model(scores, shards, model):
    table = pd.read_parquet(scores)
    assert len(table) == sum(shard.images for shard in read_manifest(LocalFolder(shards)).shards)
    assert table["key"].is_unique and len(table.explode(["emojis", "p"])) == 5 * len(table)
    about = pq.read_schema(scores / "train" / "000000.parquet").metadata
    with finding(model) as found:
        assert about[b"emojigan.snapshot"].decode() == found.digest
    assert (about[b"emojigan.model"].decode(), about[b"emojigan.seed"]) == (str(model), b"3")


def test_a_finished_folder_is_left_as_it_is(scores, shards, model):
    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in scores.rglob("*")}

    before = times()
    done = run(shards, model, scores)
    assert times() == before and (done.parts, done.to_come) == (0, 0) and done.skipped > 5


def test_tasks_and_ranks_write_the_bytes_of_one_process(scores, shards, model, tmp_path):
    first = run(shards, model, tmp_path / "out", share=Share(1, 2))
    assert first.to_come > 2
    environment = {**os.environ, "RANK": "0", "WORLD_SIZE": "2"}
    done = subprocess.run(words(shards, model, tmp_path / "out"), env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "out") == content(scores)


@pytest.mark.soak
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_two_workers_write_the_bytes_of_one(scores, shards, model, tmp_path, engine):
    options = ("--workers", "2", "--engine", engine)
    done = subprocess.run(words(shards, model, tmp_path / "out", *options), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "out") == content(scores)
    assert "is complete: pandas.read_parquet" in done.stdout


def test_what_was_killed_goes_on_to_the_same_bytes(scores, shards, model, tmp_path):
    out, slow = tmp_path / "out", ("--samples", "10000", "--workers", "1")
    process = subprocess.Popen(words(shards, model, out, *slow), stderr=subprocess.PIPE)
    while not [*out.rglob("*.parquet")]:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    (out / ".000000.parquet.1-ab.tmp").touch()  # as it leaves where it is killed while it writes
    there = content(out)
    asked = replace(ASKED, samples=10_000)
    done = run(shards, model, out, asked)
    assert done.skipped and done.parts, "it was killed too late"
    assert content(out).items() >= {(name, each) for name, each in there.items() if name[0] != "."}
    run(shards, model, tmp_path / "whole", asked)
    assert content(out) == content(tmp_path / "whole")


@pytest.mark.parametrize(
    ("change", "told"),
    [({"seed": 4}, "another seed"), ({"top_k": 2, "precision": "bf16"}, "another top_k and precision")],
)
def test_a_folder_of_other_scores_is_refused(scores, shards, model, change, told):
    before = content(scores)
    with pytest.raises(InputError, match=f"{told}. Choose another --out"):
        run(shards, model, scores, replace(ASKED, **change))
    assert content(scores) == before


def test_a_second_model_is_refused(scores, shards, tmp_path):
    with pytest.raises(InputError, match=r"another snapshot\. Choose another --out"):
        run(shards, make_model(tmp_path / "other", seed=1), scores)


def test_a_damaged_image_of_a_shard_has_no_answer_and_is_told(scores, shards, model, tmp_path):
    shutil.copytree(shards, tmp_path / "shards")
    entry = read_manifest(LocalFolder(shards)).shards[0]
    index = Split(LocalFolder(shards), read_manifest(LocalFolder(shards)), entry.split).read_index(0)
    with open(tmp_path / "shards" / entry.name, "r+b") as file:
        file.seek(index.offset[2] + index.length[2] // 2)
        (byte,) = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    parts, done = run_all(tmp_path / "shards", model, tmp_path / "out")
    name = entry.name.replace(".tar", ".parquet")
    found, whole = (pq.read_table(folder / name).to_pylist() for folder in (tmp_path / "out", scores))
    nothing = dict.fromkeys(("emojis", "p", "entropy", "readings"))
    assert found[2] == {**whole[2], **nothing, "error": "checksum differs"}
    # The others are in batches of other sizes, in which sums may be rounded otherwise.
    for row, other in zip(found[:2] + found[3:], whole[:2] + whole[3:], strict=True):
        assert {**row, "p": None, "entropy": None} == {**other, "p": None, "entropy": None}
        assert row["p"] == pytest.approx(other["p"], abs=1e-6)
    assert (done.bad, done.unreadable) == (1, 0)
    assert [line for part in parts for line in part.told] == [f"{found[2]['key']}: checksum differs"]


def test_a_shard_whose_index_is_damaged_has_no_file_and_is_told(shards, model, tmp_path):
    shutil.copytree(shards, tmp_path / "shards")
    entry = read_manifest(LocalFolder(shards)).shards[0]
    with open(tmp_path / "shards" / entry.index, "r+b") as file:
        file.write(b"x")
    parts, done = run_all(tmp_path / "shards", model, tmp_path / "out")
    assert (done.unreadable, done.to_come) == (1, 1)
    assert [part.told for part in parts if not part.is_there] == [
        (f"{tmp_path}/shards/{entry.name}: damaged index",)
    ]
    assert not (tmp_path / "out" / entry.name.replace(".tar", ".parquet")).exists()


@pytest.fixture(scope="module")
def photos(posts_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos, of which one is cut off."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "b").mkdir()
    for number, name in enumerate(("a.png", "b/1.png", "c.png")):
        shutil.copy(posts_folder / "images" / f"{number}.png", folder / name)
    os.truncate(folder / "b/1.png", 300)
    return folder


def test_a_bad_photo_of_a_folder_stops_no_other(photos, model, tmp_path):
    parts, done = run_all(photos, model, tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "000000.parquet").to_pylist()
    assert [(row["key"], row["post"], row["error"]) for row in rows] == [
        ("a.png", None, None),
        ("b/1.png", None, "is cut off"),
        ("c.png", None, None),
    ]
    answers = load(model, device="cpu").ask([photos / "a.png", photos / "c.png"], samples=50, seed=3)
    for row, told in zip((rows[0], rows[2]), answers, strict=True):
        assert row["emojis"] == [each.emoji for each in told.emojis[:5]]
    assert rows[1]["emojis"] is rows[1]["p"] is rows[1]["entropy"] is None
    assert (done.images, done.bad, parts[0].told) == (3, 1, ("b/1.png: is cut off",))


def test_a_folder_of_nothing_but_bad_photos_has_rows_without_answers(photos, model, tmp_path):
    run(photos / "b", model, tmp_path / "out")
    (row,) = pq.read_table(tmp_path / "out").to_pylist()
    assert (row["key"], row["emojis"], row["error"]) == ("1.png", None, "is cut off")


def test_a_parquet_of_images_is_scored_by_its_rows(photos, model, tmp_path):
    cells = [(photos / "a.png").read_bytes(), None, b"no image", (photos / "c.png").read_bytes()]
    pq.write_table(pa.table({"id": [7, 8, 9, None], "image": cells}), tmp_path / "images.parquet")
    run(tmp_path / "images.parquet", model, tmp_path / "out")
    run(photos, model, tmp_path / "photos")
    rows, same = (pq.read_table(tmp_path / name).to_pylist() for name in ("out", "photos"))
    assert [(row["key"], row["post"]) for row in rows] == [("0", "7"), ("1", "8"), ("2", "9"), ("3", None)]
    assert [bool(row["error"]) for row in rows] == [False, True, True, False]
    assert [rows[0]["emojis"], rows[3]["p"]] == [same[0]["emojis"], same[2]["p"]]


def test_what_is_denied_is_not_said_and_readings_are_as_the_model_has_them(photos, model, tmp_path):
    run_folder = tmp_path / "run"
    path = make_model(run_folder / "snapshot")
    asked = replace(ASKED, deny=("🔥", "😂"), readings=True, top_k=99)
    with finding(path) as found:
        opened = open_source(str(photos))
        whole = replace(asked, snapshot=found.digest, source=opened.content)
        with pytest.raises(InputError, match="This model has no readings"):
            [*score(opened, found, whole, LocalFolder(tmp_path / "no"), workers=1)]
        [*score(opened, replace(found, readings=3), whole, LocalFolder(tmp_path / "out"), workers=1)]
    first, bad, _ = pq.read_table(tmp_path / "out" / "000000.parquet").to_pylist()
    known = replace(load(path, device="cpu"), most_readings=3)
    assert {*first["emojis"]} == {*map(display, EMOJIS)} - {"🔥", "😂"}
    assert sum(first["p"]) == pytest.approx(1)
    (told,) = known.readings([photos / "a.png"], top_k=99, seed=3, deny=("🔥", "😂"))
    assert [each["share"] for each in first["readings"]] == pytest.approx([each.share for each in told])
    assert first["readings"][0]["emojis"] == [each.emoji for each in told[0].emojis]
    assert bad["readings"] is None


def test_weights_are_undone_image_by_image_as_when_the_model_is_asked(photos, tmp_path):
    mild = make_model(tmp_path / "mild", weights=(0.5, 0.8, 1.0, 1.2, 2.0, 1.0, 1.0, 1.0))
    run(photos, mild, tmp_path / "out")
    first, *_ = pq.read_table(tmp_path / "out" / "000000.parquet").to_pylist()
    (told,) = load(mild, device="cpu").ask([photos / "a.png"], samples=50, seed=3)
    assert first["p"] == pytest.approx([each.p for each in told.emojis[:5]], abs=1e-6)
    harsh = make_model(tmp_path / "harsh", weights=(1e-4, 1e4, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0))
    run(photos, harsh, tmp_path / "none")
    first, *_ = pq.read_table(tmp_path / "none" / "000000.parquet").to_pylist()
    assert first["emojis"] is None and "cannot be undone" in first["error"]


def test_bf16_says_nearly_the_same(scores, shards, model, tmp_path):
    run(shards, model, tmp_path / "out", replace(ASKED, precision="bf16", top_k=8))
    run(shards, model, tmp_path / "whole", replace(ASKED, top_k=8))
    one, other = (
        np.array([sorted(zip(*row, strict=True)) for row in pd.read_parquet(folder)[["emojis", "p"]].values])
        for folder in (tmp_path / "out", tmp_path / "whole")
    )
    apart = np.abs(one[:, :, 1].astype(float) - other[:, :, 1].astype(float)).sum(axis=1) / 2
    assert 0 < apart.mean() < 0.02


def test_images_of_another_size_and_other_files_are_refused(model, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="no dataset of shards, no folder of photos and no Parquet"):
        open_source(str(tmp_path / "a.png"))
    with pytest.raises(InputError, match="has no splits: leave --split out"):
        open_source(str(tmp_path), "train")


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with moto_server(tmp_path) as (_, environment):
        for name, value in {**environment, "HOME": str(tmp_path)}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
        S3FileSystem.clear_instance_cache()
        yield S3FileSystem()
        S3FileSystem.clear_instance_cache()


def test_from_a_store_to_a_store(bucket, scores, shards, model, tmp_path):
    bucket.put(str(shards), "bucket/shards", recursive=True)
    for _ in range(2):
        done = run("s3://bucket/shards", model, open_folder("s3://bucket/scores"))
    assert done.skipped and not done.parts
    bucket.get("bucket/scores", str(tmp_path / "scores"), recursive=True)
    assert content(tmp_path / "scores") == content(scores)


@given(
    arrays(np.float32, (3, 9), elements=st.sampled_from([0, 1e-30, 0.25, 0.5, 0.5000001, 1])),
    st.integers(1, 9),
)
def test_the_top_emojis_are_the_likeliest_and_equal_ones_by_the_vocabulary(p: np.ndarray, number: int):
    rows, top = _top(torch.from_numpy(p).double(), number, [])
    expected = np.argsort(-p, axis=1, kind="stable")[:, :number]
    assert (rows.numpy() == expected).all()
    assert (top.numpy() == np.take_along_axis(p, expected, 1)).all()
