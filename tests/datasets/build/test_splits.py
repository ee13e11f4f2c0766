"""Accounts, posts or their order in time decide the splits; which of them, `auto` finds and says."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from emojigan.datasets.build import dataset as builder
from emojigan.datasets.build import digest, survey
from emojigan.datasets.build.dataset import WHOLE, Task, build_shards
from emojigan.datasets.build.digest import Chunk
from emojigan.datasets.build.labels import FEWEST_ACCOUNTS, Deal, deal
from emojigan.datasets.build.options import BuildOptions
from emojigan.datasets.build.survey import Source
from emojigan.datasets.care.stats import page
from emojigan.datasets.care.verify import verify
from emojigan.datasets.errors import InputError
from emojigan.datasets.posts.post import Post
from emojigan.datasets.shards.index import read_index
from emojigan.datasets.shards.layout import SPLITS
from emojigan.datasets.shards.manifest import Manifest, read_manifest
from emojigan.datasets.store.folder import LocalFolder
from emojigan.datasets.stream.split import Split

from ..care.test_forget import contents

OPTIONS = BuildOptions(min_count=1, images_per_shard=20, val_share=0.2, test_share=0.2)
ROW = st.tuples(
    st.integers(0, 5),  # account
    st.integers(0, 2**64 - 1),  # hash of the id
    st.integers(-9, 9),  # time
    st.integers(0, 2),  # images
)
ROWS = st.lists(ROW, max_size=40, unique_by=lambda row: row[1])
NUM_POSTS = 60


def deal_rows(rows: list[tuple[int, int, int, int]], options: BuildOptions) -> Deal:
    account, identity, time, images = np.array(rows, object).reshape(-1, 4).T
    spread = np.array([each * 0x2AAAAAAAAAAAAAAA for each in account], np.uint64)
    columns = {"account": spread, "identity": identity.astype(np.uint64), "time": time.astype(np.int64)}
    return deal(options, images.astype(np.int64), **columns)


def splits(rows: list[tuple[int, int, int, int]], options: BuildOptions) -> dict[int, str]:
    """The split of each post, by the hash of its id."""
    dealt = deal_rows(rows, options)
    return {row[1]: str(dealt.lots[lot]) for row, lot in zip(rows, dealt.lot.tolist(), strict=True)}


@pytest.mark.parametrize("split_by", ["account", "post"])
@given(few=ROWS, more=ROWS)
@settings(deadline=None)
def test_more_posts_move_nobody(split_by, few, more):
    options = replace(OPTIONS, split_by=split_by)
    known = {row[1] for row in few}
    before = splits(few, options)
    after = splits([*(row for row in more if row[1] not in known), *few], options)
    assert before.items() <= after.items()


@pytest.mark.parametrize("split_by", ["account", "post"])
@given(rows=ROWS, folds=st.integers(2, 100))
@settings(deadline=None)
def test_folds_part_train_alone_and_nobody_is_in_two(split_by, rows, folds):
    options = replace(OPTIONS, split_by=split_by)
    without, dealt = splits(rows, options), splits(rows, replace(options, folds=folds))
    assert {post: lot.split()[-1] for post, lot in dealt.items()} == without
    accounts = {(account, dealt[identity]) for account, identity, *_ in rows}
    if split_by == "account":
        assert len(accounts) == len({account for account, _ in accounts})


def test_each_fold_is_held_out_by_the_training_without_it(folded: Path, shards: Path):
    folder, without = LocalFolder(folded), read_manifest(LocalFolder(shards))
    manifest = read_manifest(folder)
    assert manifest.folds == (0, 1) and is_whole(folded)

    def accounts(split: str, fold: int | None = None) -> set[str]:
        entries = Split(folder, manifest, split, fold=fold).shards
        return {account for entry in entries for account in read_index(folder, entry).accounts}

    for fold in manifest.folds:
        train, val, test = (accounts(split, fold) for split in SPLITS)
        assert train and test and not train & test and not (train | test) & val
        assert train | test == accounts("train") and val == accounts("val")
    assert accounts("test", 0).isdisjoint(accounts("test", 1))
    assert [sum(each.images for each in manifest.of_split(split)) for split in ("val", "test")] == [
        sum(each.images for each in without.of_split(split)) for split in ("val", "test")
    ]
    for other in (folder, 2), (LocalFolder(shards), 0):
        with pytest.raises(InputError, match=f"has no fold {other[1]}: .*--folds"):
            Split(other[0], read_manifest(other[0]), "train", fold=other[1])


def test_more_folds_than_the_people_fill_are_refused(posts_folder: Path, tmp_path: Path):
    options = BuildOptions(folds=200)
    with pytest.raises(
        InputError, match=r"^By account, fold \d+ of train would get 0 of 225 images\. Ask for"
    ):
        build_shards(
            Source([posts_folder / "posts.jsonl"]),
            LocalFolder(tmp_path / "out"),
            options,
            workers=1,
            max_bad=0,
        )
    assert not (tmp_path / "out" / "manifest.json").exists()


@given(ROWS, st.randoms(), st.floats(0, 0.5), st.floats(0, 0.5))
@settings(deadline=None)
def test_by_time_the_oldest_are_train_and_the_newest_test(rows, random, val_share, test_share):
    options = replace(OPTIONS, split_by="time", val_share=val_share, test_share=test_share)
    dealt = splits(rows, options)
    used = [row for row in rows if row[3]]
    ordered = [dealt[identity] for *_, identity in sorted((time, identity) for _, identity, time, _ in used)]
    assert ordered == sorted(ordered, key=SPLITS.index)
    assert ordered.count("test") == round(test_share * len(used))
    shuffled = splits(random.sample(rows, len(rows)), options)
    assert all(shuffled[row[1]] == dealt[row[1]] for row in used)


def deal_sized(*sizes: int, posts_each: int = 2) -> Deal:
    """Deal the posts of accounts that lie evenly between 0 and 2^64, the first of them in test."""
    account = np.repeat(
        (2.0**64 * np.linspace(0, 1, len(sizes), endpoint=False)).astype(np.uint64), posts_each
    )
    images = np.repeat(np.array(sizes, np.int64), posts_each)
    identity = np.arange(len(images), dtype=np.uint64) << np.uint64(50)
    return deal(
        BuildOptions(), images, account=account, identity=identity, time=np.zeros(len(images), np.int64)
    )


def test_auto_deals_accounts_where_there_are_enough():
    assert (deal_sized(*[1] * FEWEST_ACCOUNTS).split_by, deal_sized(*[1] * FEWEST_ACCOUNTS).why) == (
        "account",
        "",
    )


@pytest.mark.parametrize("accounts", [1, 2, FEWEST_ACCOUNTS - 1])
def test_auto_deals_posts_where_accounts_are_few_and_says_so(accounts):
    dealt = deal_sized(*[1] * accounts)
    assert (dealt.split_by, dealt.why) == ("post", f"Only {accounts} account{'s' * (accounts > 1)}.")


def test_auto_counts_only_accounts_with_images_that_can_be_used():
    assert deal_sized(*[1] * 5, *[0] * 95).why == "Only 5 accounts."


@pytest.mark.parametrize(
    "sizes, split, count", [([100000] + [1] * 99, "train", 160), ([1] * 99 + [100000], "val", 20)]
)
def test_auto_deals_posts_where_a_split_would_get_next_to_nothing(sizes, split, count):
    dealt = deal_sized(*sizes)
    assert dealt.split_by == "post"
    assert dealt.why == f"By account, {split} would get {count} of 200,198 images, for few have most."


def test_auto_deals_accounts_where_each_post_is_its_own():
    assert deal_sized(*[1] * 20, posts_each=1).split_by == "account"


def test_auto_deals_accounts_where_all_is_train():
    rows = [(1, number, 0, 1) for number in range(9)]
    assert deal_rows(rows, replace(OPTIONS, val_share=0, test_share=0)).split_by == "account"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The posts of one person, the first ten of which come again with the image a little lighter."""
    folder = tmp_path_factory.mktemp("archive")
    lines = []
    for number in range(NUM_POSTS):
        pixels = np.random.default_rng(number % 50).integers(0, 200, (64, 64, 3), np.uint8) + number // 50
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png", compress_level=0)
        time = 1_700_000_000 - 1000 * number if number % 3 else f"2023-11-1{number % 10}T00:00:00Z"
        post = {"id": f"p{number}", "account": "Cid", "image": f"{number}.png", "text": "🔥🍕"[number % 2 :]}
        lines.append(json.dumps(post | {"time": time}) + "\n")
    (folder / "posts.jsonl").write_text("".join(lines))
    return folder


Build = Callable[..., Manifest | None]


@pytest.fixture
def build(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    """Build the archive in small chunks into a folder of tmp_path."""
    monkeypatch.setattr(survey, "CHUNK", 7)

    def build(
        split_by: str = "auto",
        out: str = "out",
        workers: int = 1,
        task: Task = WHOLE,
        folds: int | None = None,
    ) -> Manifest | None:
        options = replace(OPTIONS, split_by=split_by, folds=folds)
        folder = LocalFolder(tmp_path / out)
        source = Source([archive / "posts.jsonl"])
        return build_shards(source, folder, options, workers=workers, max_bad=0, task=task)

    return build


def is_whole(folder: Path) -> bool:
    dataset = LocalFolder(folder)
    report = verify(dataset, read_manifest(dataset), workers=1)
    return not report.faults and not report.unnamed


def test_one_persons_archive_is_split_by_posts_with_a_sentence(build, tmp_path, capsys):
    manifest = build()
    assert all(manifest.of_split(split) for split in SPLITS)
    assert manifest.options["split_by"] == "post"
    told = "Split by post: the same people are in train and test"
    assert f"Only 1 account. {told}" in capsys.readouterr().err
    assert told.lower() in page(manifest).lower()
    assert is_whole(tmp_path / "out")


@pytest.mark.parametrize(("split_by", "folds"), [("auto", None), ("post", None), ("time", None), ("post", 3)])
def test_what_looks_alike_stays_together(build, tmp_path, split_by, folds):
    manifest = build(split_by, folds=folds)
    where = {
        post: (shard.split, shard.fold)
        for shard in manifest.shards
        for post in read_index(LocalFolder(tmp_path / "out"), shard).posts
    }
    pairs = [(where.get(f"p{number}"), where.get(f"p{number + 50}")) for number in range(NUM_POSTS - 50)]
    assert all(one == other or None in (one, other) for one, other in pairs)
    parted = sum(None in pair for pair in pairs)
    assert manifest.left_out == {"images with a near-duplicate in another split": parted}


@pytest.mark.parametrize("split_by", ["auto", "account", "post", "time"])
def test_the_same_command_again_finds_all_complete(build, tmp_path, capsys, split_by):
    manifest = build(split_by)
    before = contents(tmp_path / "out")
    assert build(split_by) == manifest
    assert "complete" in capsys.readouterr().err
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("other", ["account", "time"])
def test_another_way_to_split_is_another_dataset(build, other):
    build("post")
    with pytest.raises(InputError, match="already holds a dataset"):
        build(other)


def test_auto_is_content_with_what_it_chose_and_not_with_time(build):
    assert build("post") == build("auto")
    build("time", out="by-time")
    with pytest.raises(InputError, match="already holds a dataset"):
        build("auto", out="by-time")


@pytest.mark.parametrize("split_by", ["auto", "time"])
def test_bytes_do_not_depend_on_workers_chunks_tasks_and_kills(build, tmp_path, monkeypatch, split_by):
    build(split_by, out="once")
    expected = contents(tmp_path / "once")
    monkeypatch.setattr(survey, "CHUNK", 11)
    tasks = [build(split_by, out="tasks", task=Task(index, 3)) for index in (2, 0, 1)]
    assert tasks[:2] == [None, None] and contents(tmp_path / "tasks") == expected
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(builder, "write_manifest", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        build("post" if split_by == "time" else "time", out="killed")
    with monkeypatch.context() as patch:
        patch.setattr(digest, "_digest_post", lambda *_: pytest.fail("the parts are there"))
        build(split_by, out="killed")
    assert contents(tmp_path / "killed") == expected
    if split_by == "time":
        build(split_by, out="workers", workers=2)
        assert contents(tmp_path / "workers") == expected


def test_posts_without_a_time_are_refused_by_their_number_before_an_image_is_read(
    build, archive, tmp_path, monkeypatch
):
    posts = (archive / "posts.jsonl").read_text().splitlines()
    lines = [json.loads(line) | ({"time": "soon"} if number < 4 else {}) for number, line in enumerate(posts)]
    (tmp_path / "posts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    source, options = Source([tmp_path / "posts.jsonl"]), replace(OPTIONS, split_by="time")
    monkeypatch.setattr(builder, "mapper", lambda *_: pytest.fail("it is known before"))
    with pytest.raises(InputError, match=r"4 of 60 posts have no time .*--column time=…"):
        build_shards(source, LocalFolder(tmp_path / "out"), options, workers=1, max_bad=0)


@pytest.mark.parametrize("split_by", ["auto", "account", "post", "time"])
def test_times_make_other_posts_only_where_they_decide(split_by):
    """Else a dataset from before posts had times would not be found complete."""
    options = replace(OPTIONS, split_by=split_by)
    post = Post("p", "Ann", (), "🔥")
    early, late = (Chunk(0, (replace(post, time=time),)).content(options) for time in (None, 7))
    assert (early == late) == (split_by != "time")


def test_dataset_from_before_there_was_a_choice_is_by_account_and_keeps_its_identity(build, tmp_path, capsys):
    build("account")  # all of it is train
    path = tmp_path / "out" / "manifest.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["options"]["split_by"]
    for shard in content["shards"]:
        del shard["outside"]
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    manifest = read_manifest(LocalFolder(tmp_path / "out"))
    assert manifest.to_json() == path.read_text(encoding="utf-8")
    assert manifest.split_by == "account" and is_whole(tmp_path / "out")
    for split_by in ("auto", "account"):
        assert build(split_by) == manifest
    with pytest.raises(InputError, match="already holds a dataset"):
        build("post")
