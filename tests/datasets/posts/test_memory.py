"""How large something is, is known before it is read: a source of gigabytes takes no gigabytes."""

import json
import lzma
import os
import subprocess
import sys
import tarfile
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emojigan.datasets.images.read import MAX_BYTES, ImageError, load_image
from emojigan.datasets.posts.formats import table
from emojigan.datasets.posts.post import Post, Reject
from emojigan.datasets.posts.read import read_posts

HUGE = 2**32  # bytes, of files without content that take no place on the disk
ROOM = 3 * 2**27  # bytes that reading may take
READ = """
import json, resource, sys
from pathlib import Path
from emojigan.datasets.images.read import ImageError, load_image
from emojigan.datasets.posts.post import Reject
from emojigan.datasets.posts.read import read_posts
import pyarrow.parquet

def outcomes(source):
    try:
        for post in read_posts([source]):
            if isinstance(post, Reject):
                yield post.reason
            else:
                for image in post.images:
                    try:
                        yield len(load_image(image))
                    except ImageError as error:
                        yield str(error)
    except MemoryError:
        yield "no memory"

size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + int(sys.argv[1]),) * 2)
print(json.dumps({source: list(outcomes(Path(source))) for source in sys.argv[2:]}))
"""


def empty(path: Path, start: bytes, size: int = HUGE) -> Path:
    """A file of zeros behind its first bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(start)
    os.truncate(path, size)
    return path


def members(path: Path, *sizes: tuple[str, int], long_name: int | None = None) -> Path:
    """A tar whose members are zeros of that many bytes."""
    with open(path, "wb") as file:
        for number, (name, size) in enumerate(sizes):
            info = tarfile.TarInfo(name)
            info.size = size
            info.type = tarfile.GNUTYPE_LONGNAME if number == long_name else tarfile.REGTYPE
            file.write(info.tobuf(tarfile.GNU_FORMAT))
            file.seek(size + -size % 512, os.SEEK_CUR)
        file.write(bytes(1024))
    return path


def huge_image(folder: Path) -> Path:
    empty(folder / "a.jpg", b"\xff\xd8\xff")
    (folder / "posts.jsonl").write_text('{"image": "a.jpg", "text": "hi"}\n')
    return folder / "posts.jsonl"


def huge_image_beside_a_parquet_file(folder: Path) -> Path:
    empty(folder / "a.jpg", b"\xff\xd8\xff")
    cells = pa.array([{"bytes": None, "path": "a.jpg"}])
    pq.write_table(pa.table({"image": cells, "text": ["hi"]}), folder / "posts.parquet")
    return folder / "posts.parquet"


def packed_post(folder: Path) -> Path:
    stem = folder / "ann" / "2023-11-14_22-13-20_UTC"
    stem.parent.mkdir()
    Path(f"{stem}.json.xz").write_bytes(lzma.compress(bytes(2**25), preset=0) * 16)
    return folder


SOURCES = {
    "a file": (huge_image, ["image too large"]),
    "a file beside a Parquet file": (huge_image_beside_a_parquet_file, ["image too large"]),
    "an image in a tar": (
        lambda folder: members(folder / "0.tar", ("0.txt", 0), ("0.jpg", HUGE // 2)),
        ["image too large"],
    ),
    "a text in a tar": (
        lambda folder: members(folder / "0.tar", ("0.txt", HUGE), ("0.jpg", 1)),
        ["text too long"],
    ),
    "texts of one name in a tar": (
        lambda folder: members(folder / "0.tar", *[("0.txt", 2**24)] * 40),
        ["repeated member in a tar"],
    ),
    "a name in a tar": (
        lambda folder: members(folder / "0.tar", ("0.jpg", 2**26), ("0.jpg", 1), long_name=0),
        ["damaged tar"],
    ),
    "a JSON line": (
        lambda folder: empty(folder / "posts.jsonl", b'{"image": "a', 2**28),
        ["row cut off or in open quotes"],
    ),
    "a line of a CSV": (
        lambda folder: empty(folder / "posts.csv", b"image,text\na.jpg,", 2**28),
        ["row cut off or in open quotes"],
    ),
    "Instagram's JSON": (
        lambda folder: empty(folder / "content/posts_1.json", b"[").parents[1],
        ["file too large"],
    ),
    "X's JSON": (
        lambda folder: empty(folder / "data/tweets.js", b"window.YTD.tweets.part0 = [").parents[1],
        ["file too large"],
    ),
    "Telegram's JSON": (lambda folder: empty(folder / "result.json", b'{"messages": ['), ["file too large"]),
    "a post of Instaloader's": (packed_post, ["broken json"]),
}


@pytest.fixture(scope="module")
def read(tmp_path_factory) -> dict[str, list[str]]:
    """What becomes of each source where reading has no more than ROOM."""
    folders = {what: tmp_path_factory.mktemp("source") for what in SOURCES}
    sources = {what: str(make(folders[what])) for what, (make, _) in SOURCES.items()}
    words = [sys.executable, "-c", READ, str(ROOM), *sources.values()]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    return {what: found[source] for what, source in sources.items()}


@pytest.mark.parametrize("what", SOURCES)
def test_what_is_huge_is_told_and_not_read(read, what):
    assert read[what] == SOURCES[what][1]


def test_a_row_of_endless_lines_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "LONGEST_ROW", 1000)
    rows = ["image,text", "a.jpg,one", '"', *['","'] * 300, '"', 'b.jpg,"two"', "c.jpg,three"]
    (tmp_path / "posts.csv").write_text("\n".join(rows))
    posts = list(read_posts([tmp_path / "posts.csv"]))
    assert posts[1] == Reject("posts.csv:253", "line too long")
    assert isinstance(posts[0], Post) and isinstance(posts[-1], Post)
    assert (posts[0].caption, posts[-1].caption) == ("one", "three")


@pytest.mark.parametrize("name", ["posts.jsonl", "posts.csv"])
@pytest.mark.parametrize("longer", [-1, 0, 1, 1000])
def test_a_row_is_left_out_from_a_certain_length_on_and_the_next_one_is_read(
    tmp_path, monkeypatch, name, longer
):
    monkeypatch.setattr(table, "LONGEST_ROW", 100)
    begins, ends = ("a.jpg,", "") if name.endswith("csv") else ('{"image": "a.jpg", "text": "', '"}')
    rows = [begins + "x" * (99 - len(begins + ends) + more) + ends for more in (longer, -9)]
    header = "image,text\n" if name.endswith("csv") else ""
    (tmp_path / name).write_text(header + "".join(row + "\n" for row in rows))
    first, second = read_posts([tmp_path / name])
    where = f"{name}:{2 if header else 1}"
    assert isinstance(first, Post) if longer < 0 else first == Reject(where, "line too long")
    assert isinstance(second, Post)


def test_a_large_image_in_a_parquet_cell_is_not_copied_out_of_it(tmp_path):
    pq.write_table(pa.table({"image": [bytes(MAX_BYTES + 1)], "text": ["hi"]}), tmp_path / "posts.parquet")
    (post,) = read_posts([tmp_path / "posts.parquet"])
    assert isinstance(post, Post)
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match=r"^image too large$"):
            load_image(post.images[0])
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
