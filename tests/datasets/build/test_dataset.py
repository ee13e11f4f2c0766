"""Posts become shards that stock WebDataset reads, the same bytes whatever happens on the way."""

import hashlib
import json
import os
import tarfile
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

from emojigan.datasets.build import dataset as builder
from emojigan.datasets.build import digest, survey
from emojigan.datasets.build import shard as shard_module
from emojigan.datasets.build.dataset import build_shards
from emojigan.datasets.build.deny import DenyList
from emojigan.datasets.build.labels import hash64, hash_account, splits_of
from emojigan.datasets.build.options import BuildOptions
from emojigan.datasets.build.survey import Source
from emojigan.datasets.emojis.text import extract
from emojigan.datasets.errors import InputError
from emojigan.datasets.images.read import read_image
from emojigan.datasets.posts.post import ImageFile, Post
from emojigan.datasets.shards.encoding import decode
from emojigan.datasets.shards.index import Index
from emojigan.datasets.shards.layout import SPLITS
from emojigan.datasets.shards.manifest import Manifest, read_manifest
from emojigan.datasets.shards.tar import index_shard
from emojigan.datasets.store.folder import LocalFolder
from emojigan.datasets.stream.split import Split

OPTIONS = BuildOptions(images_per_shard=50)
SMALL = BuildOptions(images_per_shard=4, min_count=1, val_share=0, test_share=0)


def draw(path: Path, number: int) -> None:
    """An image that is like no other."""
    pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(path, compress_level=0)


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Manifest]:
    """Build from a list of posts, in chunks of three.

    "image" defaults to one of its own, <number>.png, and the dataset is `tmp_path / "out"`.
    """
    monkeypatch.setattr(survey, "CHUNK", 3)

    def build(*posts: dict | str, options: BuildOptions = SMALL, max_bad: float = 0) -> Manifest:
        lines = []
        for number, post in enumerate(posts):
            if not isinstance(post, str):
                post = json.dumps({"id": number, "image": f"{number}.png", **post})
                draw(tmp_path / f"{number}.png", number)
            lines.append(post + "\n")
        (tmp_path / "posts.jsonl").write_text("".join(lines), encoding="utf-8")
        source, folder = Source([tmp_path / "posts.jsonl"]), LocalFolder(tmp_path / "out")
        manifest = build_shards(source, folder, options, workers=1, max_bad=max_bad)
        assert manifest is not None
        return manifest

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
        for shard in read_manifest(LocalFolder(folder)).shards:
            dataset = webdataset.WebDataset(str(folder / shard.name), shardshuffle=False).decode("rgb8")
            for sample in dataset:
                found.append((shard.split, sample["json"], sample.get("npy", sample.get("jpg"))))
    return found


@pytest.mark.parametrize("encoding", ["npy", "jpg"])
def test_stock_webdataset_reads_what_our_index_says(posts_folder, tmp_path, encoding):
    options = replace(OPTIONS, encoding=encoding)
    folder = LocalFolder(tmp_path / "out")
    manifest = build_shards(Source([posts_folder / "posts.jsonl"]), folder, options, workers=1, max_bad=0)
    assert manifest is not None
    for name in SPLITS:
        split = Split(folder, manifest, name)
        stock = [(label, pixels) for of, label, pixels in samples(tmp_path / "out") if of == name]
        rows = [(n, row) for n, entry in enumerate(split.shards) for row in range(entry.images)]
        assert len(rows) == len(stock) > 0
        for (number, row), (label, pixels) in zip(rows, stock, strict=True):
            index, decoded = split.read_index(number), np.empty((64, 64, 3), np.uint8)
            decode(split.open_shard(number).member(row), encoding, decoded)
            np.testing.assert_array_equal(decoded, pixels)
            assert index.post_of_image()[row] == label["post"]
            assert [index.emojis[e] for e in index.emoji[index.image == row]] == label["emojis"]


def test_samples_are_the_posts_with_their_emojis_and_pixels(posts_folder, shards):
    found = {label["post"]: (label["emojis"], pixels) for _, label, pixels in samples(shards)}
    posts = {post["id"]: post for post in posts_of(posts_folder) if extract(post["text"])}
    assert found.keys() == posts.keys()
    for identity, (emojis, pixels) in found.items():
        assert emojis == extract(posts[identity]["text"])
        np.testing.assert_array_equal(
            pixels, read_image((posts_folder / posts[identity]["image"]).read_bytes())
        )


def test_members_are_plain_ustar_with_fixed_width_keys(shards):
    for shard in read_manifest(LocalFolder(shards)).shards:
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
    manifest = read_manifest(LocalFolder(shards))
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
    manifest = read_manifest(LocalFolder(shards))
    assert manifest.to_json() == (shards / "manifest.json").read_text(encoding="utf-8")
    assert manifest.sha256() == hashlib.sha256((shards / "manifest.json").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "text, message",
    [("{", "damaged"), ('{"format_version": 99}', "format version 99"), ("{}", "version None")],
)
def test_manifest_of_another_kind_is_refused(tmp_path, text, message):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_manifest(LocalFolder(tmp_path))


def test_folder_without_manifest_is_no_dataset(tmp_path):
    with pytest.raises(InputError, match="is not a dataset"):
        read_manifest(LocalFolder(tmp_path))


def test_index_survives_being_written(shards):
    shard = shards / read_manifest(LocalFolder(shards)).shards[0].name
    index = index_shard(shard)
    again = Index.from_bytes(index.to_bytes())
    for name, value in vars(index).items():
        np.testing.assert_array_equal(getattr(again, name), value)
        assert np.asarray(getattr(again, name)).dtype == np.asarray(value).dtype


def test_nobody_is_in_two_splits(posts_folder, shards):
    account = {post["id"]: post["account"] for post in posts_of(posts_folder)}
    seen = {(account[label["post"]], split) for split, label, _ in samples(shards)}
    assert len(seen) == len({who for who, _ in seen}) == 71


def splits(accounts: list[str], options: BuildOptions) -> list[str]:
    return [SPLITS[split] for split in splits_of(np.array(list(map(hash64, accounts)), np.uint64), options)]


@given(st.text(min_size=1), st.floats(0, 0.5), st.floats(0, 0.5))
@settings(max_examples=50)
def test_the_split_of_an_account_does_not_depend_on_its_posts(account, val_share, test_share):
    options = BuildOptions(val_share=val_share, test_share=test_share)
    first, second = splits([hash_account(Post(identity, account, ())) for identity in "ab"], options)
    assert first == second


def test_splits_have_their_shares():
    options = BuildOptions(val_share=0.1, test_share=0.2)
    counts = Counter(splits([str(account) for account in range(20_000)], options))
    assert counts["val"] == pytest.approx(2000, abs=240)
    assert counts["test"] == pytest.approx(4000, abs=320)


def test_more_test_accounts_take_nobody_from_test():
    accounts = [str(account) for account in range(1000)]
    small, large = (splits(accounts, BuildOptions(test_share=share)) for share in (0.1, 0.2))
    assert {(a, b) for a, b in zip(small, large, strict=True) if a == "test"} == {("test", "test")}


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


@pytest.mark.parametrize("post, reason", [*REJECTS, ({"text": "🔥", "image": "n" * 300}, "missing image")])
def test_bad_post_under_max_bad_is_counted_by_its_reason(make, post, reason):
    manifest = make({"text": "🔥"}, {"text": "🔥"}, post, {"text": "🔥"}, max_bad=0.25)
    assert manifest.posts == {"read": 4, "used": 3, "without emoji": 0, reason: 1}


@pytest.mark.parametrize("post, reason", REJECTS)
def test_bad_post_past_max_bad_is_refused_by_name_without_a_manifest(make, tmp_path, post, reason):
    with pytest.raises(
        InputError,
        match=rf"1 of 4 posts are bad \(1 {reason}\), .*0\.24.*: (post|posts\.jsonl:3).*: {reason}",
    ):
        make({"text": "🔥"}, {"text": "🔥"}, post, {"text": "🔥"}, max_bad=0.24)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_the_first_offenders_are_named(make, tmp_path):
    with pytest.raises(InputError) as error:
        make(
            {"text": "🔥"}, *({"id": f"x{n}", "image": "no.png", "text": "🔥"} for n in range(9)), max_bad=0.5
        )
    assert "post x0: missing image; post x1: missing image; post x2: missing image." in str(error.value)
    assert "x3" not in str(error.value)
    assert str(error.value).endswith(f" All: {tmp_path}/out/rejects.jsonl.")
    assert len((tmp_path / "out" / "rejects.jsonl").read_text().splitlines()) == 9


def test_reasons_and_uses_add_up_to_the_posts(make):
    manifest = make({"text": "🔥"}, {"text": ""}, *(post for post, _ in REJECTS), max_bad=1)
    assert manifest.posts.pop("read") == sum(manifest.posts.values())


@pytest.mark.parametrize(
    "posts, message",
    [
        ((), r"There are no posts that may be used: private ones .*\. Name other sources"),
        (
            ({"text": "no"}, {"text": "🔥", "image": "x"}),
            "None of 2 .*1 without emoji, 1 missing image.*--text",
        ),
        (({"text": "🔥", "image": "x"},), r"None of 1 posts .*: 1 missing image\. Mend"),
        (({"text": "🔥", "account": "spam"},), r"None of 1 posts .*: 1 denied account\. Shorten the --deny"),
    ],
    ids=["empty", "no emoji", "no image", "denied"],
)
def test_nothing_to_train_on_is_refused_with_its_cause(make, tmp_path, posts, message):
    with pytest.raises(InputError, match=message):
        make(*posts, max_bad=1, options=replace(SMALL, deny=DenyList(accounts=("spam",))))
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize(
    "unknown, told",
    [
        ((), ""),
        (("x/ann",), "1 accounts of the deny list are nobody's here: @x/ann. "),
        (("a", "b", "c", "d"), "4 accounts of the deny list are nobody's here: @a, @b, @c, …. "),
    ],
)
def test_accounts_of_the_deny_list_that_are_nobodys_are_told_in_one_line(make, capfd, unknown, told):
    posts = [{"text": "🔥", "account": name} for name in ("Eve", "Bob", "Cid", "Dan")]
    make(*posts, options=replace(SMALL, deny=DenyList(accounts=("eve", *unknown))))
    lines = [line for line in capfd.readouterr().err.splitlines() if "deny list" in line]
    assert [line[: len(told)] for line in lines] == [told] * bool(told)


def test_emojis_that_are_all_too_rare_are_refused_with_what_would_do(make):
    posts = [{"text": "🔥"}, {"text": "🔥🍕"}, {"text": ""}]
    told = "comes 2 times. Of 3 posts 2 are used, and 1 without emoji. .* lower --min-count to 2 at most"
    with pytest.raises(InputError, match=f"No emoji comes 5 times in train: the most frequent {told}"):
        make(*posts, options=replace(SMALL, min_count=5))


@pytest.mark.parametrize("split_by, remedy", [("account", "--split-by post"), ("post", "Add posts")])
def test_posts_that_all_fell_to_val_and_test_are_refused_with_the_cause(make, split_by, remedy):
    options = replace(SMALL, split_by=split_by, val_share=0.5, test_share=0.5)
    with pytest.raises(InputError, match=f"6 of 6 tuples are in val and test, .*{remedy}.*lower --val-share"):
        make(*({"account": "Ann", "text": "🔥"} for _ in range(6)), options=options)


def test_tars_of_something_else_are_not_overwritten(make, tmp_path):
    (tmp_path / "out" / "train").mkdir(parents=True)
    foreign = tmp_path / "out" / "train" / "000000.tar"
    foreign.write_bytes(b"somebody's")
    with pytest.raises(InputError, match="something else"):
        make({"text": "😍"})
    assert foreign.read_bytes() == b"somebody's"


@pytest.mark.parametrize(
    "text, options", [("🍕", SMALL), ("🔥🔥", SMALL), ("🔥", replace(SMALL, min_count=2))]
)
def test_dataset_of_other_posts_or_options_is_not_overwritten(make, tmp_path, text, options):
    make({"text": "🔥"})
    before = content(tmp_path / "out")
    with pytest.raises(InputError, match="already holds a dataset"):
        make({"text": text}, options=options)
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


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_full_disk_leaves_nothing_half_written(make, tmp_path, monkeypatch, call):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(OSError, match="No space"):
        make({"text": "🔥"})
    assert content(tmp_path / "out") == {}


def calls(monkeypatch, module, name: str) -> list:
    """Grows by the arguments of each call of a function from now on."""
    made: list = []
    function = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *a, **k: (made.append(a), function(*a, **k))[1])
    return made


def test_an_empty_manifest_is_damage_and_told_before_the_work(make, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").touch()
    digested = calls(monkeypatch, digest, "_digest_post")
    with pytest.raises(InputError, match=r"manifest\.json is damaged"):
        make({"text": "🔥"})
    assert digested == []


def test_full_disk_at_the_manifest_leaves_what_the_next_build_keeps(make, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(builder, "write_manifest", refuse)
        make({"text": "🔥"})
    digested = calls(monkeypatch, digest, "_digest_post")
    written = calls(monkeypatch, shard_module, "index_shard")
    make({"text": "🔥"})
    assert digested == written == []
    assert not (tmp_path / "out" / ".build").exists()


POSTS = [{"text": "🔥", "image": "late.png" if number == 2 else f"{number}.png"} for number in range(5)]


@pytest.fixture
def interrupted(make, tmp_path, monkeypatch) -> Path:
    """The folder of a build that lacks only its manifest; one of its five images cannot be read."""

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(builder, "write_manifest", stop)
        make(*POSTS, max_bad=0.2)
    return tmp_path / "out"


def test_finished_parts_and_shards_are_kept_with_their_rejects(make, interrupted, monkeypatch):
    digested = calls(monkeypatch, digest, "_digest_post")
    written = calls(monkeypatch, shard_module, "index_shard")
    assert make(*POSTS, max_bad=0.2).posts["missing image"] == 1
    assert digested == written == []


def test_chunk_whose_missing_image_has_come_is_digested_again(make, interrupted, monkeypatch):
    draw(interrupted.parent / "late.png", 77)
    digested = calls(monkeypatch, digest, "_digest_post")
    assert make(*POSTS).posts == {"read": 5, "used": 5, "without emoji": 0}
    assert [post.id for post, _ in digested] == ["0", "1", "2"]
    assert not (interrupted / "rejects.jsonl").exists()


def test_other_options_of_the_plan_keep_the_parts(make, interrupted, monkeypatch):
    digested = calls(monkeypatch, digest, "_digest_post")
    make(*POSTS, options=replace(SMALL, images_per_shard=2, val_share=0.5), max_bad=0.2)
    assert digested == []


@pytest.mark.parametrize(
    "options", [{"image_size": 32}, {"encoding": "jpg"}, {"keep_variants": True}, {"repeat": "all"}]
)
def test_other_options_of_the_digest_make_the_parts_anew(make, interrupted, monkeypatch, options):
    digested = calls(monkeypatch, digest, "_digest_post")
    make(*POSTS, options=replace(SMALL, **options), max_bad=0.2)
    assert len(digested) == 5


def test_parts_of_another_version_are_made_anew(make, interrupted, monkeypatch):
    monkeypatch.setattr(digest, "PART_VERSION", digest.PART_VERSION + 1)
    digested = calls(monkeypatch, digest, "_digest_post")
    make(*POSTS, max_bad=0.2)
    assert len(digested) == 5


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"x")


SHARD = ["train/000000.tar", "train/000000.index", "train/000000.stats.json"]
PART = [".build/000000.part", ".build/000000.members"]


@pytest.mark.parametrize(
    "harm, name",
    [(Path.unlink, name) for name in SHARD + PART]
    + [(damage, name) for name in [*SHARD, ".build/000000.part"]],
)
def test_what_is_not_whole_is_written_again(make, interrupted, harm, name):
    before = {name: content(interrupted)[name] for name in SHARD}
    harm(interrupted / name)
    make(*POSTS, max_bad=0.2)
    assert {name: content(interrupted)[name] for name in SHARD} == before


def test_damaged_members_are_told_with_what_to_do(make, interrupted):
    damage(interrupted / ".build/000000.members")
    (interrupted / "train/000000.tar").unlink()
    with pytest.raises(InputError, match=r"members is damaged. Remove .*out/\.build and run"):
        make(*POSTS, max_bad=0.2)


def test_shards_of_other_posts_and_of_a_killed_build_do_not_stay(make, interrupted):
    (interrupted / "train" / ".000000.tar.1.tmp").write_bytes(b"half")
    (interrupted / "train" / "notes.txt").write_text("mine")
    make({"text": "🍕"})
    left = sorted(path.name for path in (interrupted / "train").iterdir())
    assert left == ["000000.index", "000000.stats.json", "000000.tar", "notes.txt"]


def test_bytes_do_not_depend_on_the_chunks(make, tmp_path, monkeypatch):
    make(*POSTS, max_bad=0.2)
    before = content(tmp_path / "out")
    for path in sorted((tmp_path / "out").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    monkeypatch.setattr(survey, "CHUNK", 2)
    make(*POSTS, max_bad=0.2)
    assert content(tmp_path / "out") == before


def test_finished_dataset_is_found_complete_without_opening_an_image(make, tmp_path, monkeypatch, capsys):
    manifest = make({"text": "🔥"})
    before = content(tmp_path / "out")
    monkeypatch.setattr(builder, "mapper", lambda *_: pytest.fail("there is nothing to do"))
    assert make({"text": "🔥"}) == manifest
    assert "complete" in capsys.readouterr().err
    assert content(tmp_path / "out") == before


def test_rejects_are_listed_in_the_order_of_the_source(make, tmp_path):
    make({"text": "🔥"}, *(post for post, _ in REJECTS), max_bad=1)
    listed = [json.loads(line) for line in (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()]
    assert [reject["reason"] for reject in listed] == [reason for _, reason in REJECTS]
    assert [reject["where"] for reject in listed] == [
        *("post 1", "post 2", "post 3", "post 0", "post 0"),
        *("posts.jsonl:7", "posts.jsonl:8"),
    ]


def test_hopeless_source_is_given_up_early(make, tmp_path, monkeypatch):
    monkeypatch.setattr(builder, "HOPELESS", 5)
    digested = calls(monkeypatch, digest, "_digest_post")
    with pytest.raises(InputError, match=r"6 of 6 posts are bad \(6 missing image\).*: post 3: missing"):
        make(*({"text": "🔥", "image": "no.png"} for _ in range(30)), max_bad=0.1)
    assert len(digested) == 6


def test_several_sources_are_one_dataset(make, tmp_path):
    make({"text": "🔥"}, {"text": "🍕"})
    one = read_manifest(LocalFolder(tmp_path / "out"))
    for name, line in zip("ab", (tmp_path / "posts.jsonl").read_text().splitlines(), strict=True):
        (tmp_path / f"{name}.jsonl").write_text(line + "\n")
    source = Source([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])
    assert build_shards(source, LocalFolder(tmp_path / "two"), SMALL, workers=1, max_bad=0) == one


def test_long_name_of_an_image_is_a_missing_image(make):
    manifest = make({"text": "🔥"}, {"text": "🔥", "image": "x" * 3000}, max_bad=1)
    assert manifest.posts["missing image"] == 1


def test_trouble_of_the_disk_is_not_the_images(make, monkeypatch):
    def refuse(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("emojigan.datasets.posts.post.ImageFile.read", refuse)
    with pytest.raises(OSError, match="Input/output"):
        make({"text": "🔥"}, max_bad=1)


def test_equal_images_are_stored_once_with_the_emojis_of_all_their_posts(make, tmp_path):
    again = {"image": "0.png"}
    manifest = make({"text": "🔥🍕"}, {"text": "😍"}, {"text": "🍕", **again}, {"text": "🎉", **again})
    assert (manifest.posts["used"], manifest.shards[0].images, manifest.shards[0].tuples) == (4, 2, 5)
    assert manifest.vocabulary == {"🍕": 2, "🎉": 1, "😍": 1, "🔥": 1}
    (_, first, pixels), (_, second, _) = samples(tmp_path / "out")
    np.testing.assert_array_equal(pixels, read_image((tmp_path / "0.png").read_bytes()))
    assert (first["post"], first["emojis"]) == ("0", ["🔥", "🍕"])
    assert [(label["post"], label["emojis"]) for label in first["reposts"]] == [("2", ["🍕"]), ("3", ["🎉"])]
    assert (second["post"], "reposts" in second) == ("1", False)
    index = Split(LocalFolder(tmp_path / "out"), manifest, "train").read_index(0)
    assert [index.posts[post] for post in index.post] == ["0", "0", "2", "3", "1"]


def of_split(wanted: str, options: BuildOptions) -> str:
    """An account of a split."""
    accounts = map(str, range(10_000))
    return next(a for a in accounts if splits([hash_account(Post(a, a, ()))], options) == [wanted])


def test_image_that_accounts_of_two_splits_posted_stays_in_the_split_of_most_of_its_tuples(make):
    options = replace(SMALL, val_share=0.5, split_by="account")
    train, val = (of_split(split, options) for split in ("train", "val"))
    manifest = make(
        {"text": "🔥", "account": train},
        {"text": "🔥🍕", "account": val, "image": "0.png"},
        {"text": "🔥", "account": train},
        options=options,
    )
    counts = {"read": 3, "used": 2, "without emoji": 0, "near-duplicate in another split": 1}
    assert manifest.posts == counts
    assert manifest.left_out == {"images with a near-duplicate in another split": 1}
    assert [(shard.split, shard.images, shard.tuples) for shard in manifest.shards] == [
        ("train", 1, 1),
        ("val", 1, 1),
    ]


@pytest.mark.parametrize("again, told", [(98, False), (99, True)])
def test_image_that_very_many_look_like_is_told(make, capsys, again, told):
    make({"text": "🍕"}, {"text": "🔥"}, *[{"text": "🔥", "image": "1.png"}] * again)
    line = "100 images look like that of post 1, and stay in one split only."
    assert (line in capsys.readouterr().err) == told


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Manifest]:
    """Build from posts that no table can hold."""

    def from_posts(*posts: Post, max_bad: float = 0) -> Manifest:
        monkeypatch.setattr(survey, "read_posts", lambda *_: iter(posts))
        manifest = build_shards(Source([]), LocalFolder(tmp_path / "out"), SMALL, workers=1, max_bad=max_bad)
        assert manifest is not None
        return manifest

    return from_posts


def album(tmp_path: Path, *names: str | int) -> tuple[ImageFile, ...]:
    for name in names:
        if isinstance(name, int):
            draw(tmp_path / f"{name}.png", name)
    return tuple(ImageFile(str(tmp_path / f"{name}.png")) for name in names)


def test_every_emoji_of_a_post_is_a_tuple_with_each_of_its_images(build, tmp_path):
    manifest = build(
        Post("p", "a", album(tmp_path, 0, 1, 0), "🔥🍕"), Post("q", "b", album(tmp_path, 1, 2), "🔥")
    )
    assert (manifest.posts["used"], manifest.shards[0].images) == (2, 3)
    assert manifest.vocabulary == {"🔥": 4, "🍕": 2}
    assert [(label["post"], len(label.get("reposts", []))) for _, label, _ in samples(tmp_path / "out")] == [
        *(("p", 0), ("p", 1), ("q", 0)),
    ]


def test_post_with_one_good_image_is_used_and_the_bad_one_listed(build, tmp_path):
    manifest = build(Post("p", "a", album(tmp_path, 0, "no"), "🔥"))
    assert manifest.posts == {"read": 1, "used": 1, "without emoji": 0}
    assert manifest.left_out == {"bad images of posts in use": 1}
    listed = json.loads((tmp_path / "out" / "rejects.jsonl").read_text())
    assert listed == {"where": "post p, image 1", "reason": "missing image"}


def test_post_without_an_image_is_left_out_and_not_bad(build, tmp_path):
    manifest = build(Post("p", "a", album(tmp_path, 0), "🔥"), Post("q", "b", (), "🔥"), Post("r", "b", ()))
    assert manifest.posts == {"read": 3, "used": 1, "without emoji": 1, "without image": 1}
    assert not (tmp_path / "out" / "rejects.jsonl").exists()
