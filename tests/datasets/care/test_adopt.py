"""Tars of others, and ours without indexes, become datasets where they lie, and are trained on."""

import io
import json
import shutil
import tarfile
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from click.testing import CliRunner, Result
from PIL import Image
from webdataset.writer import ShardWriter

from emojigan.datasets.build import dataset as builder
from emojigan.datasets.build.dataset import build_shards
from emojigan.datasets.build.labels import hash_account
from emojigan.datasets.build.options import BuildOptions
from emojigan.datasets.build.survey import Source
from emojigan.datasets.care import adopt as module
from emojigan.datasets.care import contents as contents_module
from emojigan.datasets.care.adopt import adopt
from emojigan.datasets.care.forget import forget
from emojigan.datasets.care.verify import verify
from emojigan.datasets.errors import InputError
from emojigan.datasets.images.read import read_image
from emojigan.datasets.posts.post import Post
from emojigan.datasets.shards.encoding import encode_jpeg
from emojigan.datasets.shards.index import Index
from emojigan.datasets.shards.layout import SPLITS
from emojigan.datasets.shards.manifest import Manifest, read_manifest
from emojigan.datasets.store.folder import LocalFolder, open_folder
from emojigan.datasets.stream.split import Split
from emojigan.datasets.stream.stream import batches_per_epoch, stream
from emojigan.launch.cli import main

from ...conftest import EMOJIS

IMG2DATASET = Path(__file__).parents[2] / "data" / "img2dataset"
ALL_IN_TRAIN = BuildOptions(min_count=1, val_share=0, test_share=0)


def index(
    folder: Path, options: BuildOptions = ALL_IN_TRAIN, workers: int = 1, max_bad: float = 1
) -> Manifest:
    return adopt(LocalFolder(folder), options, max_bad=max_bad, workers=workers)


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["shards", *map(str, words)])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pairs(folder: Path, split: str = "train") -> Counter[tuple[bytes, str]]:
    """Pixels and emoji of every tuple of an epoch, as training sees them."""
    dataset = LocalFolder(folder)
    part = Split(dataset, read_manifest(dataset), split)
    vocabulary = list(part.manifest.vocabulary)
    batches = stream(part, seed=1, window=2, batch_size=1, start=0)
    found: Counter[tuple[bytes, str]] = Counter()
    for batch in islice(batches, batches_per_epoch(part, 1)):
        pixels = batch.images[0].permute(1, 2, 0).contiguous().numpy()
        found[pixels.tobytes(), vocabulary[int(batch.emoji[0])]] += 1
    batches.close()
    return found


def are_whole(folder: Path) -> bool:
    dataset = LocalFolder(folder)
    report = verify(dataset, read_manifest(dataset), workers=1)
    return not report.faults and not report.unnamed


def picture(number: int, width: int = 70) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (64, width, 3), np.uint8)


def encode(pixels: np.ndarray, form: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


@pytest.fixture
def img2dataset(tmp_path: Path) -> Path:
    """What img2dataset wrote."""
    return shutil.copytree(IMG2DATASET, tmp_path / "tars")


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    """Three tars of webdataset's own writer: PNG and JPEG, of several sizes, of 20 accounts."""
    (tmp_path / "tars").mkdir()
    with ShardWriter(str(tmp_path / "tars/%02d.tar"), maxcount=20, verbose=0) as writer:
        for number in range(60):
            form = ("png", "jpg")[number % 2]
            about = {"caption": f"look {EMOJIS[number % 7]}", "author": f"Ann{number % 20}"}
            image = encode(picture(number, 64 + number), {"png": "PNG", "jpg": "JPEG"}[form])
            writer.write({"__key__": f"{number:05d}", form: image, "json": json.dumps(about).encode()})
    return tmp_path / "tars"


def test_what_img2dataset_wrote_is_streamed_with_the_right_pairs(img2dataset):
    manifest = index(img2dataset)
    members = {
        (key, Path(name).stem): content
        for tar in sorted(img2dataset.glob("*.tar"))
        for key, name, content in members_of(tar)
    }
    captions = {"000000": "🌊😍", "000001": "🐶", "000002": "🍕🔥", "000010": "🎉❤"}
    expected = Counter(
        (read_image(members["jpg", key]).tobytes(), emoji)
        for key, emojis in captions.items()
        for emoji in emojis
    )
    assert pairs(img2dataset) == expected
    assert manifest.posts == {"read": 5, "used": 4, "without emoji": 1}
    assert are_whole(img2dataset)


def members_of(tar: Path) -> list[tuple[str, str, bytes]]:
    with tarfile.open(tar) as file:
        found = []
        for member in file:
            content = file.extractfile(member)
            assert content is not None
            found.append((member.name.rpartition(".")[2], member.name, content.read()))
        return found


def test_nothing_is_changed_or_copied(img2dataset):
    before = contents(img2dataset)
    index(img2dataset)
    after = contents(img2dataset)
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {"manifest.json", "00000.train.index", "00001.train.index"}


def test_splits_share_a_tar_and_no_account(tars):
    manifest = index(tars, BuildOptions(min_count=1, val_share=0.3, test_share=0.3))
    accounts = {split: set() for split in SPLITS}
    for shard in manifest.shards:
        accounts[shard.split] |= set(Index.from_bytes((tars / shard.index).read_bytes()).accounts)
    assert all(accounts.values())
    assert sum(map(len, accounts.values())) == len(set().union(*accounts.values())) == 20
    assert sum(shard.images for shard in manifest.shards) == 60
    assert sum(sum(pairs(tars, split).values()) for split in SPLITS) == 60
    assert are_whole(tars)


def test_splits_by_post_share_accounts_and_no_post(tmp_path):
    with ShardWriter(str(tmp_path / "%d.tar"), maxcount=20, verbose=0) as writer:
        for number in range(40):
            about = {"caption": f"look {EMOJIS[number % 2]}", "author": "Ann"}
            image = encode_jpeg(picture(number, 64))
            writer.write({"__key__": f"{number:05d}", "jpg": image, "json": json.dumps(about).encode()})
    halves = ["--val-share", "0.3", "--test-share", "0.3", "--min-count", "1", "--workers", "1"]
    result = run("adopt", tmp_path, "--split-by", "post", *halves)
    assert result.exit_code == 0 and "split by post: the same people" in result.stdout
    manifest = read_manifest(LocalFolder(tmp_path))
    posts = {split: set() for split in SPLITS}
    for shard in manifest.shards:
        posts[shard.split] |= set(Index.from_bytes((tmp_path / shard.index).read_bytes()).posts)
    assert all(posts.values()) and sum(map(len, posts.values())) == len(set().union(*posts.values())) == 40
    assert are_whole(tmp_path)


def test_account_that_is_alone_is_told_the_way_out(tmp_path):
    with ShardWriter(str(tmp_path / "%d.tar"), verbose=0) as writer:
        for number in range(9):
            about = {"caption": "😍", "author": "Bob"}
            image = encode_jpeg(picture(number, 64))
            writer.write({"__key__": str(number), "jpg": image, "json": json.dumps(about).encode()})
    result = run("adopt", tmp_path, "--workers", "1")
    assert result.exit_code == 2
    assert "9 of 9 tuples are in val and test, " in result.stderr and "--split-by post" in result.stderr


def test_images_of_any_kind_are_decoded_as_the_builder_does(tars):
    assert index(tars).encoding == "foreign"
    expected = Counter(
        (read_image(encode(picture(n, 64 + n), ("PNG", "JPEG")[n % 2])).tobytes(), EMOJIS[n % 7])
        for n in range(60)
    )
    assert pairs(tars) == expected


@pytest.mark.parametrize(
    ("image", "encoding"),
    [
        (encode_jpeg(picture(1, 64)), "jpg"),
        (encode_jpeg(picture(1, 65)), "foreign"),
        (encode(picture(1, 64), "PNG"), "foreign"),
        (simplejpeg.encode_jpeg(picture(1, 64)[..., :1].copy(), 95, "GRAY"), "jpg"),
        (encode(np.full((64, 64, 4), 99, np.uint8), "WEBP"), "foreign"),
    ],
)
def test_only_jpegs_of_the_very_size_take_the_fast_way(tmp_path, image, encoding):
    with ShardWriter(str(tmp_path / "%d.tar"), verbose=0) as writer:
        writer.write({"__key__": "a", "jpg": image, "txt": "😍"})
    assert index(tmp_path).encoding == encoding
    assert pairs(tmp_path) == {(read_image(image).tobytes(), "😍"): 1}


def test_turned_jpeg_does_not_take_the_fast_way(tmp_path):
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(1, 64)).save(buffer, "JPEG", exif=exif)
    with ShardWriter(str(tmp_path / "%d.tar"), verbose=0) as writer:
        writer.write({"__key__": "a", "jpg": buffer.getvalue(), "txt": "😍"})
    assert index(tmp_path).encoding == "foreign"


def test_what_cannot_be_read_is_left_out_and_counted(tmp_path):
    with ShardWriter(str(tmp_path / "%d.tar"), verbose=0) as writer:
        image = encode_jpeg(picture(1, 64))
        writer.write({"__key__": "a", "jpg": b"no picture", "txt": "😍"})
        writer.write({"__key__": "b", "jpg": image, "png": b"no picture", "txt": "😍🔥"})
        writer.write({"__key__": "c", "jpg": image, "txt": "plain"})
        writer.write({"__key__": "d", "jpg": image, "json": b"["})
    manifest = index(tmp_path)
    assert manifest.posts == {
        **{"read": 4, "used": 1, "without emoji": 1},
        **{"broken json": 1, "unreadable image": 1},
    }
    assert manifest.left_out == {"bad images of posts in use": 1}
    lines = [json.loads(line) for line in (tmp_path / "rejects.jsonl").read_text().splitlines()]
    assert [(line["where"], line["reason"]) for line in lines] == [
        ("post 0/a", "unreadable image"),
        ("0.tar:d", "broken json"),
    ]
    assert are_whole(tmp_path)


def test_more_bad_posts_than_are_allowed_are_refused_by_name(tmp_path):
    with ShardWriter(str(tmp_path / "%d.tar"), verbose=0) as writer:
        for number in range(4):
            image = encode_jpeg(picture(number, 64)) if number else b"no picture"
            writer.write({"__key__": str(number), "jpg": image, "txt": "😍"})
    options = "--min-count 1 --val-share 0 --test-share 0 --workers 1"
    words = ["adopt", tmp_path, *options.split()]
    refused = run(*words)
    assert refused.exit_code == 2 and not (tmp_path / "manifest.json").exists()
    message = (
        "1 of 4 posts are bad (1 unreadable image), more than --max-bad 0.05 allows: post 0/0: unreadable"
    )
    assert message in refused.stderr
    assert run(*words, "--max-bad", "0.25").exit_code == 0


def test_workers_write_the_same(tars, tmp_path):
    other = shutil.copytree(tars, tmp_path / "other")
    index(tars)
    index(other, workers=2)
    assert contents(tars) == contents(other)


def kill_before_the_manifest(tars: Path, monkeypatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "write_manifest", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        index(tars)


def test_notes_of_another_version_are_made_anew(tars, monkeypatch):
    kill_before_the_manifest(tars, monkeypatch)
    monkeypatch.setattr(module, "NOTE_VERSION", module.NOTE_VERSION + 1)
    read = []
    monkeypatch.setattr(contents_module, "read_image", lambda *a: (read.append(a), read_image(*a))[1])
    index(tars)
    assert len(read) == 60


def test_killed_adoption_goes_on_and_reads_no_image_twice(tars, tmp_path, monkeypatch):
    other = shutil.copytree(tars, tmp_path / "other")
    index(other)
    kill_before_the_manifest(tars, monkeypatch)
    assert not (tars / "manifest.json").exists()
    content = (tars / "02.tar").read_bytes()
    (tars / "01.train.index").write_bytes(b"damaged")
    read = []
    with monkeypatch.context() as patch:
        patch.setattr(contents_module, "read_image", lambda *a: (read.append(a), read_image(*a))[1])
        index(tars)
    assert len(read) == 20 and (tars / "02.tar").read_bytes() == content
    assert contents(tars) == contents(other)


def test_adoption_that_was_killed_after_its_manifest_goes_on(tars, tmp_path, monkeypatch, capsys):
    other = shutil.copytree(tars, tmp_path / "other")
    manifest = index(other)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(LocalFolder, "remove_folder", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        index(tars)
    assert index(tars) == manifest and contents(tars) == contents(other)
    assert capsys.readouterr().err.endswith(f"{tars} holds this dataset already, complete.\n")


def test_a_tar_of_which_nothing_was_used_does_not_make_an_adoption_another(tars):
    with tarfile.open(tars / "00.tar", "w"):
        pass
    assert index(tars) == index(tars)


@pytest.mark.parametrize("where", ["", "train/"])
def test_a_build_leaves_the_tars_of_a_killed_adoption_alone(tars, posts_folder, monkeypatch, where):
    (tars / "train").mkdir()
    for path in list(tars.glob("*.tar")):
        path.rename(tars / where / path.name)
    before = {path: path.read_bytes() for path in tars.rglob("*.tar")}
    kill_before_the_manifest(tars, monkeypatch)
    source = Source([posts_folder / "posts.jsonl"])
    with pytest.raises(InputError, match="holds tars of something else"):
        build_shards(source, LocalFolder(tars), BuildOptions(), workers=1, max_bad=0)
    assert {path: path.read_bytes() for path in tars.rglob("*.tar")} == before


def test_a_build_that_is_not_done_is_not_adopted(posts_folder, tmp_path, monkeypatch):
    source, folder = Source([posts_folder / "posts.jsonl"]), LocalFolder(tmp_path / "out")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(builder, "write_manifest", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        build_shards(source, folder, BuildOptions(), workers=1, max_bad=0)
    before = contents(tmp_path / "out")
    with pytest.raises(InputError, match="holds a build that is not done"):
        index(tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_adopted_tars_that_changed_are_not_taken_for_complete(tars):
    index(tars)
    shutil.copy(tars / "01.tar", tars / "03.tar")
    with pytest.raises(InputError, match="holds a dataset already"):
        index(tars)


def test_accounts_are_hashed(tars):
    manifest = index(tars)
    accounts = set(Index.from_bytes((tars / manifest.shards[0].index).read_bytes()).accounts)
    assert accounts == {hash_account(Post("", f"Ann{n}", ())) for n in range(20)}


def test_our_shards_are_restored_to_what_they_were(shards, tmp_path):
    ours = shutil.copytree(shards, tmp_path / "ours")
    before = read_manifest(LocalFolder(ours))
    for path in (ours / "manifest.json", *ours.rglob("*.index")):
        path.unlink()
    after = index(ours, BuildOptions())
    assert (after.vocabulary, after.rare, after.encoding) == (before.vocabulary, before.rare, "npy")
    assert after.shards == before.shards and after.posts["used"] == before.posts["used"]
    assert after.split_by == before.split_by == "account"
    assert pairs(ours) == pairs(shards)
    assert run("verify", ours, "--workers", "1").exit_code == 0
    (account, *_) = Index.from_bytes((ours / "train/000000.index").read_bytes()).accounts
    assert run("forget", ours, "--hash", account, "--workers", "1").exit_code == 0


def test_our_shards_that_were_split_by_post_are_not_taken_for_those_by_account(posts_folder, tmp_path):
    options, folder = BuildOptions(split_by="post", min_count=1), LocalFolder(tmp_path / "ours")
    build_shards(Source([posts_folder / "posts.jsonl"]), folder, options, workers=1, max_bad=0)
    (tmp_path / "ours" / "manifest.json").unlink()
    assert index(tmp_path / "ours").split_by == "post"
    assert are_whole(tmp_path / "ours")


def test_our_shards_anywhere_keep_their_accounts_and_splits(shards, tmp_path):
    for split in SPLITS:
        for path in (shards / split).glob("*.tar"):
            shutil.copy(path, tmp_path / f"{split}-{path.name}")
    manifest = index(tmp_path, BuildOptions())
    before = read_manifest(LocalFolder(shards))
    assert manifest.vocabulary == before.vocabulary
    assert {split: pairs(tmp_path, split) for split in SPLITS} == {s: pairs(shards, s) for s in SPLITS}
    assert are_whole(tmp_path)
    with pytest.raises(InputError, match="tars of others"):
        forget(LocalFolder(tmp_path), ["0" * 32], dry_run=False, workers=1)


def test_our_shards_of_another_size_are_refused(shards, tmp_path):
    shutil.copytree(shards / "train", tmp_path / "train")
    for path in (tmp_path / "train").glob("*.index"):
        path.unlink()
    with pytest.raises(InputError, match="not a picture of 32 pixels"):
        index(tmp_path, BuildOptions(image_size=32))


def test_the_old_name_of_the_command_works_and_says_the_new_one(tars):
    result = run("index", tars, "--min-count", "1", "--workers", "1")
    assert result.exit_code == 0, result.output
    assert "emojigan shards adopt" in result.stderr
    assert "  index " not in CliRunner().invoke(main, ["shards", "--help"]).stdout


def test_a_dataset_is_not_adopted(shards):
    result = run("adopt", shards)
    assert result.exit_code == 2 and "holds a dataset already" in result.stderr


def test_folder_without_tars_is_refused(tmp_path):
    result = run("adopt", tmp_path)
    assert result.exit_code == 2 and "no .tar is there" in result.stderr


def test_tars_with_too_few_emojis_are_refused(img2dataset):
    result = run("adopt", img2dataset, "--workers", "1")
    assert result.exit_code == 2 and "No emoji comes 5 times" in result.stderr
    assert not (img2dataset / "manifest.json").exists()


def test_damaged_foreign_sample_is_found(tars):
    manifest = index(tars)
    rows = Index.from_bytes((tars / manifest.shards[0].index).read_bytes())
    content = bytearray((tars / "00.tar").read_bytes())
    content[int(rows.offset[4]) + 100] ^= 1
    (tars / "00.tar").write_bytes(content)
    result = run("verify", tars, "--workers", "1", "--json")
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 1
    assert {(fault["file"], fault["key"]) for fault in found} == {("00.tar", None), ("00.tar", rows.keys[4])}


def test_tars_on_a_store_are_adopted(tars):
    for name, content in contents(tars).items():
        open_folder("memory://adopt").write(name, content)
    manifest = adopt(open_folder("memory://adopt"), ALL_IN_TRAIN, max_bad=0, workers=1)
    assert manifest == index(tars)


def test_a_training_runs_on_adopted_tars(tars, vectors_file, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    split = "--min-count 1 --val-share 0.3 --test-share 0.2 --workers 1"
    assert run("adopt", tars, *split.split()).exit_code == 0
    tiny = "--steps 4 --batch-size 8 --trunk-width 4 --feature-dim 8 --hidden-dim 16 --latent-dim 4"
    words = ["train", str(tars), "--vectors", str(vectors_file), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(main, [*words, *tiny.split()], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert list((tmp_path / "run").rglob("*.safetensors"))
