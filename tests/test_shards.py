"""Posts become shards that stock WebDataset reads, the same bytes whatever happens on the way."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from emojigan.datasets import shards as builder
from emojigan.datasets.emoji_text import extract
from emojigan.datasets.errors import InputError
from emojigan.datasets.images import read_image
from emojigan.datasets.index import Index, index_shard
from emojigan.datasets.manifest import SPLITS, Manifest, read_manifest
from emojigan.datasets.plan import BuildOptions, hash_account, plan_shards, split_of
from emojigan.datasets.posts import Post
from emojigan.datasets.shards import build_shards
from emojigan.datasets.split import Split
from emojigan.datasets.storage import Folder

OPTIONS = BuildOptions(images_per_shard=50)
SMALL = BuildOptions(images_per_shard=4, min_count=1, val_share=0, test_share=0)


class _HereExecutor:
    """A pool of one that works in this process, for tests that build often or patch the builder."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    map = staticmethod(map)


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(builder, "worker_pool", lambda workers: _HereExecutor())


@pytest.fixture
def make(tmp_path: Path, here) -> Callable[..., Manifest]:
    """Build from a list of posts; "image" defaults to a good one, and the dataset is `tmp_path / "out"`."""
    Image.new("RGB", (64, 64), (200, 10, 10)).save(tmp_path / "good.png")

    def build(*posts: dict | str, options: BuildOptions = SMALL, max_bad: float = 0) -> Manifest:
        lines = [
            post if isinstance(post, str) else json.dumps({"id": number, "image": "good.png", **post})
            for number, post in enumerate(posts)
        ]
        (tmp_path / "posts.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return build_shards(tmp_path / "posts.jsonl", tmp_path / "out", options, workers=1, max_bad=max_bad)

    return build


def posts_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "posts.jsonl").read_text(encoding="utf-8").splitlines()]


def content(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file, hidden ones too."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def samples(folder: Path) -> list[tuple[str, dict, np.ndarray]]:
    """Split, label and pixels of every sample, as stock WebDataset reads them."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves its files open
        for shard in read_manifest(Folder(str(folder))).shards:
            dataset = webdataset.WebDataset(str(folder / shard.name), shardshuffle=False).decode("rgb8")
            for sample in dataset:
                found.append((shard.split, sample["json"], sample.get("npy", sample.get("jpg"))))
    return found


@pytest.mark.parametrize("encoding", ["npy", "jpg"])
def test_stock_webdataset_reads_what_our_index_says(posts_folder, tmp_path, here, encoding):
    options = replace(OPTIONS, encoding=encoding)
    manifest = build_shards(posts_folder / "posts.jsonl", tmp_path / "out", options, workers=1, max_bad=0)
    for name in SPLITS:
        split = Split(Folder(str(tmp_path / "out")), manifest, name)
        stock = [(label, pixels) for of, label, pixels in samples(tmp_path / "out") if of == name]
        opened = [split.shard(number) for number in range(len(split.tuples))]
        ours = [(shard, row) for shard in opened for row in range(len(shard.index.keys))]
        assert len(ours) == len(stock) > 0
        for (shard, row), (label, pixels) in zip(ours, stock, strict=True):
            np.testing.assert_array_equal(shard.pixels(row), pixels)
            assert shard.index.post_of_image()[row] == label["post"]
            emojis = [shard.index.emojis[e] for e in shard.index.emoji[shard.index.image == row]]
            assert emojis == label["emojis"]


def test_samples_are_the_posts_with_their_emojis_and_pixels(posts_folder, shards):
    found = {label["post"]: (label["emojis"], pixels) for _, label, pixels in samples(shards)}
    posts = {post["id"]: post for post in posts_of(posts_folder) if extract(post["text"])}
    assert found.keys() == posts.keys()
    for identity, (emojis, pixels) in found.items():
        assert emojis == extract(posts[identity]["text"])
        np.testing.assert_array_equal(pixels, read_image(posts_folder / posts[identity]["image"]))


def test_members_are_plain_ustar_with_fixed_width_keys(shards):
    for shard in read_manifest(Folder(str(shards))).shards:
        raw = (shards / shard.name).read_bytes()
        with tarfile.open(shards / shard.name, "r:") as tar:
            assert tar.pax_headers == {}
            members = tar.getmembers()
        expected = [f"{n:06d}.{extension}" for n in range(shard.images) for extension in ("json", "npy")]
        assert [member.name for member in members] == expected
        for member in members:
            assert (member.type, member.mtime, member.pax_headers) == (tarfile.REGTYPE, 0, {})
            assert raw[member.offset + 257 : member.offset + 265] == b"ustar\x0000"
            assert member.offset_data - member.offset == 512


def test_manifest_counts_what_is_there(shards):
    manifest = read_manifest(Folder(str(shards)))
    labels = [(split, label) for split, label, _ in samples(shards)]
    train = Counter(emoji for split, label in labels if split == "train" for emoji in label["emojis"])
    assert manifest.vocabulary == dict(train)
    assert list(manifest.vocabulary.values()) == sorted(train.values(), reverse=True)
    assert manifest.posts == {"read": 300, "used": len(labels), "without emoji": 30}
    for shard in manifest.shards:
        assert shard.bytes == (shards / shard.name).stat().st_size
        assert shard.sha256 == hashlib.sha256((shards / shard.name).read_bytes()).hexdigest()
    tuples = Counter(split for split, label in labels for _ in label["emojis"])
    assert tuples == {name: sum(shard.tuples for shard in manifest.of_split(name)) for name in SPLITS}


def test_manifest_survives_being_written(shards):
    manifest = read_manifest(Folder(str(shards)))
    assert manifest.to_json() == (shards / "manifest.json").read_text(encoding="utf-8")
    assert manifest.sha256() == hashlib.sha256((shards / "manifest.json").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "text, message",
    [("{", "damaged"), ('{"format_version": 99}', "format version 99"), ("{}", "version None")],
)
def test_manifest_of_another_kind_is_refused(tmp_path, text, message):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_manifest(Folder(str(tmp_path)))


def test_folder_without_manifest_is_no_dataset(tmp_path):
    with pytest.raises(InputError, match="is not a dataset"):
        read_manifest(Folder(str(tmp_path)))


def test_index_survives_being_written(shards):
    shard = shards / read_manifest(Folder(str(shards))).shards[0].name
    index = index_shard(shard)
    again = Index.from_bytes(index.to_bytes())
    for name, value in vars(index).items():
        np.testing.assert_array_equal(getattr(again, name), value)
        assert np.asarray(getattr(again, name)).dtype == np.asarray(value).dtype


def test_two_workers_write_the_bytes_of_one(posts_folder, shards, tmp_path):
    build_shards(posts_folder / "posts.jsonl", tmp_path / "out", OPTIONS, workers=2, max_bad=0)
    assert content(tmp_path / "out") == content(shards)


def test_nobody_is_in_two_splits(posts_folder, shards):
    account = {post["id"]: post["account"] for post in posts_of(posts_folder)}
    seen = {(account[label["post"]], split) for split, label, _ in samples(shards)}
    assert len(seen) == len({who for who, _ in seen}) == 71


@given(st.text(min_size=1), st.floats(0, 0.5), st.floats(0, 0.5))
@settings(max_examples=50)
def test_the_split_of_an_account_does_not_depend_on_its_posts(account, val_share, test_share):
    options = BuildOptions(val_share=val_share, test_share=test_share)
    first, second = (split_of(hash_account(Post(identity, account, ())), options) for identity in "ab")
    assert first == second


def test_splits_have_their_shares():
    options = BuildOptions(val_share=0.1, test_share=0.2)
    counts = Counter(split_of(str(account), options) for account in range(20_000))
    assert counts["val"] == pytest.approx(2000, abs=240)
    assert counts["test"] == pytest.approx(4000, abs=320)


def test_more_test_accounts_take_nobody_from_test():
    small, large = BuildOptions(test_share=0.1), BuildOptions(test_share=0.2)
    accounts = [str(account) for account in range(1000)]
    assert all(split_of(a, large) == "test" for a in accounts if split_of(a, small) == "test")


def test_account_names_are_in_no_byte_and_no_name(make, tmp_path):
    make(
        *({"account": "Rumpelstiltskin", "text": "🔥"} for _ in range(3)),
        {"image": "no.png", "text": "🔥"},
        max_bad=1,
    )
    for path in (tmp_path / "out").rglob("*"):
        assert "Rumpelstiltskin" not in str(path)
        assert path.is_dir() or b"Rumpelstiltskin" not in path.read_bytes()


def test_captions_without_emoji_are_counted_and_never_bad(make):
    manifest = make({"text": "🔥"}, *({"text": "nothing"} for _ in range(50)), {"text": None})
    assert manifest.posts == {"read": 52, "used": 1, "without emoji": 51}


REJECTS = [
    ({"text": "🔥", "image": "nowhere.png"}, "missing image"),
    ({"text": "🔥", "image": "."}, "missing image"),
    ({"text": "🔥", "image": "posts.jsonl"}, "unreadable image"),
    ({"text": "🔥", "id": 0}, "duplicate id"),
    ({"text": "🔥", "id": "0"}, "duplicate id"),
    ({"text": "🔥", "image": None}, "no id or image"),
    ('{"id": 77, ', "broken line"),
]


@pytest.mark.parametrize("post, reason", REJECTS)
def test_bad_post_under_max_bad_is_counted_by_its_reason(make, post, reason):
    manifest = make({"text": "🔥"}, {"text": "🔥"}, post, {"text": "🔥"}, max_bad=0.25)
    assert manifest.posts == {"read": 4, "used": 3, "without emoji": 0, reason: 1}


@pytest.mark.parametrize("post, reason", REJECTS)
def test_bad_post_past_max_bad_is_refused_by_name_without_a_manifest(make, tmp_path, post, reason):
    with pytest.raises(
        InputError, match=rf"1 of 4 posts are bad, .*0\.24.*: (post|posts\.jsonl:3).*: {reason}"
    ):
        make({"text": "🔥"}, {"text": "🔥"}, post, {"text": "🔥"}, max_bad=0.24)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_the_first_offenders_are_named(make):
    with pytest.raises(InputError) as error:
        make(
            {"text": "🔥"}, *({"id": f"x{n}", "image": "no.png", "text": "🔥"} for n in range(9)), max_bad=0.5
        )
    assert "post x0: missing image; post x1: missing image; post x2: missing image." in str(error.value)
    assert "x3" not in str(error.value)


def test_reasons_and_uses_add_up_to_the_posts(make):
    manifest = make({"text": "🔥"}, {"text": ""}, *(post for post, _ in REJECTS), max_bad=1)
    assert manifest.posts.pop("read") == sum(manifest.posts.values())


@pytest.mark.parametrize(
    "posts",
    [(), ({"text": "nothing"},), ({"text": "🔥", "image": "no.png"},)],
    ids=["empty", "no emoji", "no image"],
)
def test_nothing_to_train_on_is_refused(make, tmp_path, posts):
    with pytest.raises(InputError, match="no emoji comes 1 times in the train split"):
        make(*posts, max_bad=1)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_tars_of_something_else_are_not_overwritten(make, tmp_path):
    (tmp_path / "out" / "train").mkdir(parents=True)
    foreign = tmp_path / "out" / "train" / "000000.tar"
    foreign.write_bytes(b"somebody's")
    with pytest.raises(InputError, match="something else"):
        make({"text": "😍"})
    assert foreign.read_bytes() == b"somebody's"


def test_existing_dataset_is_not_overwritten(make, tmp_path):
    make({"text": "🔥"})
    before = content(tmp_path / "out")
    with pytest.raises(InputError, match="already holds a dataset"):
        make({"text": "🍕"})
    assert content(tmp_path / "out") == before


def test_min_count_parts_vocabulary_and_rare(make):
    posts = [{"text": "🔥🍕"}, {"text": "🔥🍕"}, {"text": "🔥💔"}]
    manifest = make(*posts, options=replace(SMALL, min_count=2))
    assert (manifest.vocabulary, manifest.rare) == ({"🔥": 3, "🍕": 2}, {"💔": 1})
    assert sum(shard.tuples for shard in manifest.shards) == 5


def test_emoji_counts_once_in_a_post(make):
    assert make({"text": "🔥🔥 🔥"}).vocabulary == {"🔥": 1}


def test_equally_frequent_emojis_come_in_order_of_code_points(make):
    posts = [{"text": emoji} for emoji in "🔥🍕😍"]
    manifest = make(*posts, options=replace(SMALL, images_per_shard=1))
    assert list(manifest.vocabulary) == sorted("🔥🍕😍")


@pytest.mark.parametrize("keep, expected", [(False, {"👍": 2}), (True, {"👍": 1, "👍🏽": 1})])
def test_variants_are_folded_unless_kept(make, keep, expected):
    manifest = make({"text": "👍🏽"}, {"text": "👍"}, options=replace(SMALL, keep_variants=keep))
    assert manifest.vocabulary == expected


def test_shard_without_a_readable_image_is_left_out(make):
    posts = [{"text": "🔥", "image": "good.png" if number < 4 else "no.png"} for number in range(8)]
    assert [shard.name for shard in make(*posts, max_bad=1).shards] == ["train/000000.tar"]


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_full_disk_leaves_nothing_half_written(make, tmp_path, monkeypatch, call):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(OSError, match="No space"):
        make({"text": "🔥"})
    assert content(tmp_path / "out") == {}


def test_full_disk_at_the_manifest_leaves_shards_that_the_next_build_keeps(make, tmp_path, monkeypatch):
    monkeypatch.setattr(builder, "write_manifest", lambda *_: (_ for _ in ()).throw(OSError(28, "No space")))
    with pytest.raises(OSError, match="No space"):
        make({"text": "🔥"})
    monkeypatch.undo()
    monkeypatch.setattr(builder, "worker_pool", lambda workers: _HereExecutor())
    monkeypatch.setattr(builder, "TarWriter", lambda *_, **__: pytest.fail("written again"))
    make({"text": "🔥"})


POSTS = [{"text": "🔥", "image": "late.png" if number == 2 else "good.png"} for number in range(5)]


@pytest.fixture
def interrupted(make, tmp_path) -> Path:
    """The folder of a build that lacks only its manifest; one of its five images cannot be read."""
    make(*POSTS, max_bad=0.2)
    (tmp_path / "out" / "manifest.json").unlink()
    return tmp_path / "out"


def written(monkeypatch) -> list[str]:
    """Grows by the name of each tar that is written from now on."""
    tars: list[str] = []
    writer = builder.TarWriter
    monkeypatch.setattr(
        builder, "TarWriter", lambda file, **rest: (tars.append(file.name), writer(file, **rest))[1]
    )
    return tars


def test_finished_shards_are_kept_with_their_rejects(make, interrupted, monkeypatch):
    tars = written(monkeypatch)
    assert make(*POSTS, max_bad=0.2).posts["missing image"] == 1
    assert tars == []


def test_shard_whose_missing_image_has_come_is_written_again(make, interrupted, monkeypatch):
    shutil.copy(interrupted.parent / "good.png", interrupted.parent / "late.png")
    tars = written(monkeypatch)
    assert make(*POSTS).posts["used"] == 5
    assert ["000000.tar" in name for name in tars] == [True]


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"x")


@pytest.mark.parametrize(
    "harm, suffix",
    [(Path.unlink, ".tar"), (Path.unlink, ".index"), (Path.unlink, ".stats.json"), (damage, ".tar")],
)
def test_shard_that_is_not_whole_is_written_again(make, interrupted, harm, suffix):
    before = content(interrupted)
    harm(interrupted / f"train/000000{suffix}")
    make(*POSTS, max_bad=0.2)
    (interrupted / "manifest.json").unlink()
    assert content(interrupted) == before


def test_shards_of_other_posts_and_of_a_killed_build_do_not_stay(make, interrupted):
    (interrupted / "train" / ".000000.tar.1.tmp").write_bytes(b"half")
    (interrupted / "train" / "notes.txt").write_text("mine")
    make({"text": "🍕"})
    left = sorted(path.name for path in (interrupted / "train").iterdir())
    assert left == ["000000.index", "000000.stats.json", "000000.tar", "notes.txt"]


def test_plan_opens_no_image(posts_folder, tmp_path):
    shutil.copy(posts_folder / "posts.jsonl", tmp_path)
    plan = plan_shards(tmp_path / "posts.jsonl", OPTIONS)
    assert (plan.num_posts, plan.num_without_emoji, plan.rejects) == (300, 30, [])


def test_killed_build_goes_on_to_the_same_bytes(posts_folder, shards, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-c", "from emojigan.launch.cli import main; main()", "shards", "build"]
    command += [str(posts_folder / "posts.jsonl"), "--out", str(out), "--images-per-shard", "50"]
    command += ["--workers", "2", "--max-bad", "0"]
    whole = content(shards)
    for _ in range(2):
        before = names(out)
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and names(out) == before:
                time.sleep(0.001)
            time.sleep(random.uniform(0, 0.15))
            process.kill()
        time.sleep(0.3)  # its workers follow it
        for name in names(out):
            assert Path(name).name.startswith(".") or content(out)[name] == whole[name]
    if not (out / "manifest.json").exists():
        subprocess.run(command, check=True, capture_output=True)
    assert content(out) == whole


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_workers_of_a_killed_build_end(tmp_path):
    script = """
import os, time
from emojigan.datasets.workers import worker_pool
if __name__ == "__main__":
    pool = worker_pool(1)
    print(pool.submit(os.getpid).result(), flush=True)
    time.sleep(60)
"""
    (tmp_path / "script.py").write_text(script)
    command, quiet = [sys.executable, tmp_path / "script.py"], subprocess.DEVNULL
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=quiet) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        process.kill()
    deadline = time.monotonic() + 10
    while is_running(worker):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().split(") ")[1][0] != "Z"
    except FileNotFoundError:
        return False
