"""WebDataset tars become posts; whatever happens to a tar, no image gets the text of another sample."""

import io
import json
import pickle
import re
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from webdataset.writer import TarWriter

from emojigan.datasets.build.dataset import build_shards
from emojigan.datasets.build.options import BuildOptions
from emojigan.datasets.build.survey import Source
from emojigan.datasets.errors import InputError
from emojigan.datasets.posts.formats.webdataset import TarSlice
from emojigan.datasets.posts.post import Post, Reject
from emojigan.datasets.posts.read import detect, read_posts
from emojigan.datasets.store.folder import LocalFolder

IMG2DATASET = Path(__file__).parents[3] / "data" / "img2dataset"
FUZZ = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
Members = Sequence[tuple[str, bytes]]


def write_tar(path: Path, members: Members) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def read(tmp_path: Path) -> Callable[[Members], list[Post | Reject]]:
    """Write a tar into `tmp_path` and read it."""
    return lambda members: list(read_posts([write_tar(tmp_path / "00.tar", members)]))


def sample(key: str) -> list[tuple[str, bytes]]:
    """Three members of which each says whose it is."""
    return [
        (f"{key}.jpg", f"image {key}".encode()),
        (f"{key}.txt", f"text {key}".encode()),
        (f"{key}.json", json.dumps({"id": key, "author": f"Ann {key}"}).encode()),
    ]


def check_no_chimera(rows: list[Post | Reject]) -> None:
    """An image, its text, its id and its account, where it has them, are of one sample."""
    for post in rows:
        if isinstance(post, Post):
            images = {image.read().decode().removeprefix("image ") for image in post.images}
            key = untagged(post.id).removeprefix("00/")
            assert images == {key}
            assert post.caption in ("", f"text {key}")
            assert post.account in (post.id, f"Ann {key}")


def untagged(identity: str) -> str:
    """A made-up id without the hash of the tar's content."""
    return re.sub("@[0-9a-f]{12}/", "/", identity)


def without_tag(row: Post | Reject) -> Post | Reject:
    if isinstance(row, Reject):
        return row
    return replace(row, id=untagged(row.id), account=untagged(row.account))


def test_img2datasets_output_is_read():
    posts = list(read_posts([IMG2DATASET]))
    assert detect(IMG2DATASET) == "webdataset"
    assert {untagged(post.id): (post.account, post.caption) for post in posts} == {
        "00000/000000": ("Ann a", "at the beach 🌊😍"),
        "00000/000001": ("Ann b", "our dog 🐶"),
        "00000/000002": ("Ann c", 'pizza night 🍕🔥 "yes, again"'),
        "00000/000003": ("Ann d", "no emoji here"),
        "00001/000010": ("Ann e", "fin 🎉\nof two lines ❤️"),
    }
    for post in posts:
        (image,) = post.images
        assert Image.open(io.BytesIO(image.read())).size == (64, 64)


def test_one_tar_of_img2dataset_is_read():
    assert [untagged(post.id) for post in read_posts([IMG2DATASET / "00001.tar"])] == ["00001/000010"]


def test_img2datasets_output_is_built_into_shards(tmp_path):
    options = BuildOptions(min_count=1, val_share=0, test_share=0)
    folder = LocalFolder(tmp_path / "shards")
    manifest = build_shards(Source([IMG2DATASET]), folder, options, workers=1, max_bad=0)
    assert manifest is not None and manifest.posts == {"read": 5, "used": 4, "without emoji": 1}
    assert manifest.vocabulary.keys() == set("🌊😍🐶🍕🔥🎉❤")


def test_our_own_shards_are_read_with_their_posts_accounts_and_emojis(tmp_path, posts_folder):
    options = BuildOptions(images_per_shard=200, encoding="jpg", val_share=0, test_share=0)
    source, folder = Source([posts_folder / "posts.jsonl"]), LocalFolder(tmp_path / "shards")
    build_shards(source, folder, options, workers=1, max_bad=0)
    posts = list(read_posts([tmp_path / "shards"]))
    texts = {post.id: post.caption for post in read_posts([posts_folder / "posts.jsonl"])}
    assert len(posts) == 270
    assert all(f"hello {post.caption}" == texts[post.id] for post in posts)
    assert {len(post.account) for post in posts} == {32}


def test_reposts_of_an_image_are_posts(read):
    label = {"post": "1", "account": "Ann", "emojis": ["😍"]}
    repost = {"post": "2", "account": "Bob", "emojis": ["🔥", "🐶"]}
    posts = read([("0.jpg", b"x"), ("0.json", json.dumps(label | {"reposts": [repost]}).encode())])
    assert [(post.id, post.account, post.caption) for post in posts] == [
        ("1", "Ann", "😍"),
        ("2", "Bob", "🔥 🐶"),
    ]
    assert posts[0].images == posts[1].images


def test_webdatasets_own_writer_is_read(tmp_path):
    with TarWriter(str(tmp_path / "00.tar")) as writer:
        for key in "ab":
            writer.write({"__key__": f"some/folder/{key}", "png": b"x", "txt": f"text {key}"})
    posts = list(read_posts([tmp_path / "00.tar"]))
    assert [(untagged(post.id), post.caption) for post in posts] == [
        ("00/some/folder/a", "text a"),
        ("00/some/folder/b", "text b"),
    ]


def test_image_is_a_slice_that_travels_to_other_processes(read, tmp_path):
    (post,) = read([("a.jpg", b"image a")])
    assert post.images == (TarSlice(str(tmp_path / "00.tar"), 512, 7),)
    assert pickle.loads(pickle.dumps(post)).images[0].read() == b"image a"
    assert repr(post.images[0]).startswith("TarSlice(path=")


@pytest.mark.parametrize("content", [b"12345", None])
def test_image_of_a_tar_that_shrank_or_went_away_is_nobodys_bad_image(tmp_path, content):
    if content:
        (tmp_path / "00.tar").write_bytes(content)
    with pytest.raises(InputError, match=r"00\.tar changed while it was read, or went away"):
        TarSlice(str(tmp_path / "00.tar"), 3, 4).read()


@pytest.mark.parametrize("extension", ["jpg", "JPG", "jpeg", "png", "webp", "gif"])
def test_image_endings(read, extension):
    (post,) = read([(f"a.{extension}", b"x")])
    assert (untagged(post.id), untagged(post.account), post.caption) == ("00/a", "00/a", "")


@pytest.mark.parametrize(
    ("members", "caption"),
    [
        ([("a.txt", b"hi")], "hi"),
        ([("a.txt", b"\xef\xbb\xbfhi")], "hi"),
        ([("a.json", b'{"caption": "hi"}')], "hi"),
        ([("a.json", b'{"text": "hi"}')], "hi"),
        ([("a.json", b'{"caption": null, "text": "hi"}')], "hi"),
        ([("a.txt", b"hi"), ("a.json", b'{"caption": "no"}')], "hi"),
        ([("a.txt", b""), ("a.json", b'{"caption": "hi"}')], "hi"),
        ([("a.json", b"{}")], ""),
        ([("a.cls", b"7"), ("a.pyd", b"cos\nsystem\n."), ("a.pth", b"x"), ("a.seg.png", b"mask")], ""),
    ],
)
def test_text_of_a_sample(read, members, caption):
    (post,) = read([("a.jpg", b"image"), *members])
    assert post.caption == caption
    assert [image.read() for image in post.images] == [b"image"]


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("a.txt", b"hi")], "no id or image"),
        ([("a.npy", b"x"), ("a.txt", b"hi")], "no id or image"),
        ([("README", b"hi")], "no id or image"),
        ([("a.jpg", b"1"), ("a.jpg", b"2"), ("a.txt", b"hi")], "repeated member in a tar"),
        ([("a.jpg", b"1"), ("a.txt", b"hi"), ("a.txt", b"ho")], "repeated member in a tar"),
        ([("/a.jpg", b"1")], "unsafe name in a tar"),
        ([("../a.jpg", b"1")], "unsafe name in a tar"),
        ([("x/../a.jpg", b"1")], "unsafe name in a tar"),
        ([(".hidden.jpg", b"1")], "unsafe name in a tar"),
        ([("caf\udce9.jpg", b"1")], "unsafe name in a tar"),
        ([("a.jpg", b"1"), ("a.txt", b"caf\xe9")], "not UTF-8"),
        ([("a.jpg", b"1"), ("a.json", b'{"caption": "caf\xe9"}')], "not UTF-8"),
        ([("a.jpg", b"1"), ("a.json", b"{")], "broken json"),
        ([("a.jpg", b"1"), ("a.json", b"[1]")], "broken json"),
        ([("a.jpg", b"1"), ("a.json", b"[" * 100_000)], "broken json"),
        ([("a.jpg", b"1"), ("a.json", b'{"caption": ["hi"]}')], "broken json"),
        ([("a.jpg", b"1"), ("a.json", b'{"id": "\\ud800"}')], "broken json"),
        ([("a.jpg", b"1"), ("a.json", b'{"post": 1, "account": 2, "emojis": 3}')], "broken json"),
        ([("a.jpg", b"1"), ("a.json", b'{"post": 1, "account": 2, "emojis": [3]}')], "broken json"),
    ],
)
def test_sample_that_is_not_plainly_one_is_rejected_and_the_next_is_read(read, members, reason):
    first, second = read([*members, ("next.jpg", b"x")])
    assert (first.reason, first.where[:7]) == (reason, "00.tar:")
    assert first.where.encode() and untagged(second.id) == "00/next"


def test_every_image_with_dots_in_its_name_is_told(read):
    rows = read([("v1.2.jpg", b"2"), ("v1.2.txt", b"two"), ("v1.3.jpg", b"3"), ("v1.3.txt", b"three")])
    assert rows == [Reject("00.tar:v1", "dots in a member's name")] * 2


def test_text_that_would_fill_memory_is_not_read(read, monkeypatch):
    monkeypatch.setattr("emojigan.datasets.posts.formats.webdataset.LONGEST_TEXT", 4)
    assert read([("a.jpg", b"1"), ("a.txt", b"12345")]) == [Reject("00.tar:a", "text too long")]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE])
def test_link_is_no_image(tmp_path, kind):
    with tarfile.open(tmp_path / "00.tar", "w") as tar:
        info = tarfile.TarInfo("a.jpg")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    assert list(read_posts([tmp_path / "00.tar"])) == [Reject("00.tar:a", "no plain file in a tar")]


def test_folders_and_what_macos_adds_are_no_samples(tmp_path):
    with tarfile.open(tmp_path / "00.tar", "w") as tar:
        for name in ("./", "./._a.jpg", "./a.jpg", "./._a.txt", "./a.txt"):
            info = tarfile.TarInfo(name)
            if name == "./":
                info.type = tarfile.DIRTYPE
            info.size = 2 * (name != "./")
            tar.addfile(info, io.BytesIO(b"hi"))
    (post,) = read_posts([tmp_path / "00.tar"])
    assert (untagged(post.id), post.caption) == ("00/a", "hi")


def test_interleaved_members_are_half_samples_and_each_is_told(read):
    a, b = sample("a"), sample("b")
    rows = read([a[0], b[0], a[1], b[1]])
    check_no_chimera(rows)
    assert [type(row) for row in rows] == [Post, Post, Reject, Reject]


@given(order=st.permutations([member for key in "abc" for member in sample(key)]))
@FUZZ
def test_members_in_any_order_make_no_chimera(read, order):
    check_no_chimera(read(order))


@given(order=st.permutations(range(9)), cut=st.integers(0, 9 * 1024 + 1024))
@FUZZ
def test_a_cut_tar_is_told_unless_only_zeros_are_missing(tmp_path, order, cut):
    members = [member for key in "abc" for member in sample(key)]
    path = write_tar(tmp_path / "00.tar", [members[each] for each in order])
    whole = list(read_posts([path]))
    path.write_bytes(path.read_bytes()[:cut])
    rows = list(read_posts([path]))
    check_no_chimera(rows)
    rows, whole = ([without_tag(row) for row in each] for each in (rows, whole))
    if cut >= 9 * 1024 + 512:  # the members and one block of zeros
        assert rows == whole
    else:
        assert (rows[-1].reason, rows[:-1]) == ("damaged tar", whole[: len(rows) - 1])


@given(member=st.integers(0, 8), position=st.integers(0, 511), bit=st.integers(0, 7))
@FUZZ
def test_a_flipped_bit_in_a_header_loses_nothing_in_silence(tmp_path, member, position, bit):
    path = write_tar(tmp_path / "00.tar", [member for key in "abc" for member in sample(key)])
    whole = list(read_posts([path]))
    content = bytearray(path.read_bytes())
    content[member * 1024 + position] ^= 1 << bit
    path.write_bytes(content)
    rows = list(read_posts([path]))
    check_no_chimera(rows)
    assert rows == whole or (rows[-1].reason == "damaged tar" and rows[:-1] == whole[: len(rows) - 1])


@pytest.mark.parametrize("zeroed", [0, 1, 4, 8])
def test_zeros_in_the_middle_do_not_end_a_tar(tmp_path, zeroed):
    path = write_tar(tmp_path / "00.tar", [member for key in "abc" for member in sample(key)])
    content = bytearray(path.read_bytes())
    content[zeroed * 1024 : zeroed * 1024 + 512] = bytes(512)
    path.write_bytes(content)
    assert list(read_posts([path]))[-1].reason == "damaged tar"


def test_sample_before_the_damage_is_lost_with_it(tmp_path):
    path = write_tar(tmp_path / "00.tar", [member for key in "abc" for member in sample(key)])
    path.write_bytes(path.read_bytes()[: 4 * 1024])  # on the boundary behind b's image
    rows = list(read_posts([path]))
    assert [type(row) for row in rows] == [Post, Reject]


def test_member_of_a_negative_size_does_not_go_round_in_circles(tmp_path):
    info = tarfile.TarInfo("a.jpg")
    info.size = -1024
    header = info.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "00.tar").write_bytes(header + bytes(10240))
    assert [row.reason for row in read_posts([tmp_path / "00.tar"])] == ["damaged tar"]


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 5000, bytes(100)])
def test_what_is_no_tar_is_told(tmp_path, content):
    (tmp_path / "00.tar").write_bytes(content)
    assert [row.reason for row in read_posts([tmp_path / "00.tar"])] == ["damaged tar"]


def test_empty_tar_has_no_posts(tmp_path):
    assert list(read_posts([write_tar(tmp_path / "00.tar", [])])) == []


@given(
    mutations=st.lists(
        st.tuples(
            st.sampled_from(["flip", "cut", "drop", "double", "swap"]), st.integers(0, 40), st.integers(0)
        ),
        max_size=4,
    ),
    form=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
@FUZZ
def test_a_mutated_tar_gives_posts_and_rejects(tmp_path, mutations, form):
    path = tmp_path / "00.tar"
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in (member for key in "abcd" for member in sample(key)):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1.5
            tar.addfile(info, io.BytesIO(content))
    content = path.read_bytes()
    blocks = [content[start : start + 512] for start in range(0, len(content), 512)]
    for kind, number, position in mutations:
        number %= len(blocks)
        if kind == "flip" and not blocks[number].startswith((b"image", b"text", b"{")):  # else it is legal
            block = bytearray(blocks[number].ljust(512, b"\0"))
            block[position % 512] ^= 1 << position % 8
            blocks[number] = bytes(block)
        elif kind == "cut":
            blocks[number:] = [blocks[number][: position % 512]]
        elif kind == "drop" and len(blocks) > 2:
            del blocks[number]
        elif kind == "double":
            blocks.insert(number, blocks[number])
        elif kind == "swap":
            other = position % len(blocks)
            blocks[number], blocks[other] = blocks[other], blocks[number]
    path.write_bytes(b"".join(blocks))
    for row in read_posts([path]):
        assert isinstance(row, Reject) or row.id


@given(content=st.lists(st.binary(max_size=600) | st.just(bytes(512))).map(b"".join))
@FUZZ
def test_any_bytes_give_posts_and_rejects(tmp_path, content):
    path = tmp_path / "00.tar"
    path.write_bytes(content)
    assert all(isinstance(row, Reject) for row in read_posts([path]))


def test_a_folder_is_read_in_the_order_of_its_tars(tmp_path):
    (tmp_path / "train").mkdir()
    for number in (1, 0):
        write_tar(tmp_path / f"train/{number}.tar", sample("a"))
    (tmp_path / "train/._0.tar").write_bytes(b"macOS")
    posts = list(read_posts([tmp_path]))
    assert [post.images[0].path[-5:] for post in posts] == ["0.tar", "1.tar"]


def test_columns_are_for_tables(tmp_path):
    with pytest.raises(InputError, match="--column is for tables"):
        list(read_posts([write_tar(tmp_path / "00.tar", [])], columns={"text": "caption"}))


def test_folder_without_tars_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no \.tar is there"):
        list(read_posts([tmp_path], form="webdataset"))
