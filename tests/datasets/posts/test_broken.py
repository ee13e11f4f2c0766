"""Files that cannot be read are told as such in every format, and what is whole of them is read."""

import json
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emojigan.datasets.errors import InputError
from emojigan.datasets.posts.limits import check_broken
from emojigan.datasets.posts.outcomes import BROKEN_FILES
from emojigan.datasets.posts.parquet import ParquetCell
from emojigan.datasets.posts.post import Post, Reject
from emojigan.datasets.posts.read import read_posts

NOBODY = 65534


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 3 // 4)


def gone(path: Path) -> None:
    """A link that leads nowhere, as of a download whose store was cleaned."""
    path.unlink()
    path.symlink_to("gone")


def unreadable(path: Path) -> None:
    """A file that opens, and of which nothing can be read: the memory of a process, at address 0."""
    path.unlink()
    path.symlink_to("/proc/self/mem")


def write_tar(path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        for number in range(40):
            member = path.with_name(f"{number}.jpg")
            member.write_bytes(b"image" * 100)
            tar.add(member, member.name)
            member.unlink()


def write_parquet(path: Path) -> None:
    pq.write_table(pa.table({"image": [b"image"], "text": ["hi"]}), path)


def write_json(document: object, before: str = "") -> Callable[[Path], object]:
    return lambda path: path.write_text(before + json.dumps(document))


INSTAGRAM = [{"media": [{"uri": f"media/{n}.jpg", "creation_timestamp": n}]} for n in range(9)]
TWEETS = [{"tweet": {"id_str": str(n), "full_text": "hi"}} for n in range(9)]
NOTE = {"type": "Create", "object": {"id": "https://a/1", "type": "Note", "content": "hi"}}
MESSAGES = [{"id": n, "type": "message", "date": "2022", "from_id": "user1", "text": "hi"} for n in range(9)]
KINDS = {  # format: a file of a source, how it is written, and one beside it that stays whole
    "webdataset": ("1.tar", write_tar, "0.tar"),
    "table": ("1.parquet", write_parquet, "0.parquet"),
    "instagram": ("content/posts_2.json", write_json(INSTAGRAM), "content/posts_1.json"),
    "x": ("data/tweets-part1.js", write_json(TWEETS, "window.YTD.tweets.part1 = "), "data/tweets.js"),
    "mastodon": ("outbox.json", write_json({"orderedItems": [NOTE]}), None),
    "telegram": ("result.json", write_json({"id": 1, "messages": MESSAGES}), None),
}
LINES = {"csv": "image,text\na.jpg,hi\n", "tsv": "image\ttext\na.jpg\thi\n", "jsonl": '{"image": "a.jpg"}\n'}


@pytest.mark.parametrize(
    ("kind", "harm"),
    [(kind, harm) for kind in KINDS for harm in (cut, unreadable)]
    + [(kind, gone) for kind in KINDS if KINDS[kind][2]],  # the others are no source without their only file
)
def test_a_broken_file_is_told_by_its_path_and_the_others_are_read(tmp_path, kind, harm):
    name, write, other = KINDS[kind]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    for each in filter(None, (path, other and tmp_path / other)):
        write(each)
    whole = list(read_posts([tmp_path], kind))
    assert all(isinstance(post, Post) for post in whole)
    harm(path)
    found = list(read_posts([tmp_path], kind))
    assert [(each.reason in BROKEN_FILES, each.file) for each in found if isinstance(each, Reject)] == [
        (True, str(path))
    ]
    assert sum(isinstance(each, Post) for each in found) >= (len(whole) // 2 if other else 0)


@pytest.mark.parametrize("ending", LINES)
@pytest.mark.parametrize("harm", [gone, unreadable])
def test_a_table_that_cannot_be_opened_is_told(tmp_path, ending, harm):
    for name in ("a", "b"):
        (tmp_path / f"{name}.{ending}").write_text(LINES[ending])
    harm(tmp_path / f"a.{ending}")
    first, second = read_posts([tmp_path], "table")
    assert (first, first.file) == (Reject(f"a.{ending}", "unreadable file"), str(tmp_path / f"a.{ending}"))
    assert isinstance(second, Post)


@contextmanager
def nobody() -> Iterator[None]:
    """Be a user to whom permissions apply: the superuser may read everything."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("kind", ["webdataset", "table"])
def test_a_folder_that_cannot_be_listed_is_told(monkeypatch, tmp_path, kind):
    _, write, name = KINDS[kind]
    for folder in ("open", "shut"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / name)
    list(read_posts([tmp_path], kind))  # imports what it needs, while it may
    monkeypatch.chdir(tmp_path)  # whose parents nobody may enter
    (tmp_path / "shut").chmod(0)
    tmp_path.chmod(0o755)
    try:
        with nobody():
            found = list(read_posts([Path(".")], kind))
    finally:
        (tmp_path / "shut").chmod(0o755)
    rejects = [each for each in found if isinstance(each, Reject)]
    assert [(each, each.file) for each in rejects] == [(Reject("shut", "unreadable folder"), "shut")]
    assert len(found) > len(rejects)


def test_a_file_that_nobody_may_read_is_told(monkeypatch, tmp_path):
    (tmp_path / "a.csv").write_text(LINES["csv"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").chmod(0)
    tmp_path.chmod(0o755)
    with nobody():
        found = list(read_posts([Path("a.csv")], "table"))
    assert found == [Reject("a.csv", "unreadable file")]


@pytest.mark.parametrize("harm", [cut, Path.unlink])
def test_cell_of_a_parquet_file_that_changed_is_nobodys_bad_image(tmp_path, harm):
    write_parquet(tmp_path / "a.parquet")
    harm(tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet changed while it was read, or went away"):
        ParquetCell(str(tmp_path / "a.parquet"), "image", 0).read()


BROKEN = {f"/posts/{number}.tar": "damaged tar" for number in range(5)}


@pytest.mark.parametrize(
    "skip", [(5,), (1, 5), (3, *list(BROKEN)[:2]), tuple(BROKEN), (*BROKEN, "/whole.tar")]
)
def test_broken_files_are_allowed_by_number_and_by_name(skip):
    check_broken(BROKEN, skip)


@pytest.mark.parametrize(
    ("skip", "named", "more", "number"),
    [
        ((), "012", "; 2 more", 5),
        ((4,), "012", "; 2 more", 5),
        ((2, 2), "012", "; 2 more", 5),
        ((1, "/posts/0.tar", "/posts/3.tar"), "124", "", 3),
        (("0.tar",), "012", "; 2 more", 5),
    ],
)
def test_others_are_refused_with_the_first_and_what_to_do(skip, named, more, number):
    with pytest.raises(InputError) as error:
        check_broken(BROKEN, skip)
    listed = "; ".join(f"/posts/{each}.tar: damaged tar" for each in named)
    assert str(error.value) == (
        f"{number} broken files, whose posts cannot be counted ({listed}{more}). Copy them again, or go on "
        f"without what cannot be read of them: --skip-broken {number}, or --skip-broken FILE for each."
    )
    assert "\n" not in str(error.value)
