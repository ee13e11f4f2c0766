"""Tables of every kind say the same of the same posts, and an image in a cell is read from where it lies."""

import csv
import io
import json
import pickle
import re
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from emojigan.datasets.build.dataset import build_shards
from emojigan.datasets.build.options import BuildOptions
from emojigan.datasets.build.survey import Source
from emojigan.datasets.errors import InputError
from emojigan.datasets.posts.formats import table
from emojigan.datasets.posts.parquet import ParquetCell
from emojigan.datasets.posts.paths import name_with_tag
from emojigan.datasets.posts.post import ImageFile, Post, Reject
from emojigan.datasets.posts.read import detect, read_posts
from emojigan.datasets.store.folder import LocalFolder

ROW = {"id": "p", "account": "Ann", "image": "a/b.jpg", "text": "hi 😍"}
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write_jsonl(path: Path, rows: Sequence[dict]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_csv(path: Path, rows: Sequence[dict], delimiter: str = ",") -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(rows[0])
        for row in rows:
            cells = [row[name] for name in rows[0]]
            writer.writerow([json.dumps(cell) if isinstance(cell, list | dict) else cell for cell in cells])


def write_parquet(path: Path, rows: Sequence[dict]) -> None:
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]}
    if "reactions" in columns:
        pairs = [list(given.items()) for given in columns["reactions"]]
        columns["reactions"] = pa.array(pairs, pa.map_(pa.string(), pa.int64()))
    pq.write_table(pa.table(columns), path, row_group_size=3)


WRITERS: dict[str, Callable[[Path, Sequence[dict]], None]] = {
    "posts.jsonl": write_jsonl,
    "posts.ndjson": write_jsonl,
    "posts.csv": write_csv,
    "posts.tsv": lambda path, rows: write_csv(path, rows, delimiter="\t"),
    "posts.parquet": write_parquet,
}
NAME = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
IMAGE = st.from_regex(r"[a-z]{1,3}(/[a-z 😍]{1,3})?\.jpg", fullmatch=True)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "id": NAME,
            "account": NAME,
            "image": st.lists(IMAGE, min_size=1, max_size=3),
            "text": TEXT,
            "comments": st.lists(TEXT, max_size=3),
            "reactions": st.dictionaries(st.sampled_from("😍😂🔥"), st.integers(0, 1 << 40), max_size=3),
        }
    ),
    min_size=1,
    max_size=8,
)


def to_post(row: dict, folder: Path) -> Post:
    images = tuple(ImageFile(str(folder / image)) for image in row["image"])
    reactions = tuple(row["reactions"].items())
    return Post(row["id"], row["account"], images, row["text"], tuple(row["comments"]), reactions)


@pytest.mark.parametrize("name", WRITERS)
@given(rows=ROWS)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_kind_of_table_gives_the_posts_that_were_written(tmp_path, name, rows):
    WRITERS[name](tmp_path / name, rows)
    assert list(read_posts([tmp_path / name])) == [to_post(row, tmp_path) for row in rows]


@pytest.mark.parametrize("name", WRITERS)
def test_one_image_comments_and_reactions_are_optional(tmp_path, name):
    WRITERS[name](tmp_path / name, [{"image": "a.jpg", "text": "hi"}, {"image": "b.jpg", "text": "ho"}])
    first, second = ids = [f"{name_with_tag(tmp_path / name, name)}/{row}" for row in (0, 1)]
    assert list(read_posts([tmp_path / name])) == [
        Post(first, first, (ImageFile(str(tmp_path / "a.jpg")),), "hi"),
        Post(second, second, (ImageFile(str(tmp_path / "b.jpg")),), "ho"),
    ]
    assert all(re.fullmatch("posts@[0-9a-f]{12}/[01]", each) for each in ids)


@pytest.mark.parametrize("name", WRITERS)
def test_columns_may_be_called_otherwise(tmp_path, name):
    WRITERS[name](tmp_path / name, [{"key": 7, "user": "Ann", "jpg": "a.jpg", "txt": "hi", "text": "no"}])
    columns = {"id": "key", "account": "user", "image": "jpg", "text": "txt"}
    assert list(read_posts([tmp_path / name], columns=columns)) == [
        Post("7", "Ann", (ImageFile(str(tmp_path / "a.jpg")),), "hi")
    ]


@pytest.mark.parametrize("name", WRITERS)
def test_time_is_a_column_that_may_be_called_otherwise(tmp_path, name):
    rows = [
        {"image": "a.jpg", "text": "hi", "time": moment} for moment in ("2023-02-22T10:00:00Z", "", "now")
    ]
    WRITERS[name](tmp_path / name, rows)
    assert [post.time for post in read_posts([tmp_path / name])] == [1677060000, None, None]
    WRITERS[name](tmp_path / name, [{"image": "a.jpg", "text": "hi", "taken": 12}])
    assert [post.time for post in read_posts([tmp_path / name], columns={"time": "taken"})] == [12]


def test_time_of_parquet_is_a_timestamp_a_date_or_a_number_and_never_a_fault(tmp_path):
    moments = {
        pa.timestamp("ns", "UTC"): 1677060000_000000001,
        pa.timestamp("ms"): 1677060000_500,
        pa.date32(): 1677060000 // 86400,
        pa.float64(): 1677060000.9,
        pa.time32("s"): 36000,
        pa.binary(): b"\xff",
        pa.timestamp("us"): 1 << 62,
    }
    found = []
    for kind, moment in moments.items():
        columns = {"image": ["a.jpg"], "text": ["hi"], "time": pa.array([moment], kind)}
        pq.write_table(pa.table(columns), tmp_path / "posts.parquet")
        found += [post.time for post in read_posts([tmp_path / "posts.parquet"])]
    assert found == [1677060000, 1677060000, 1677024000, 1677060000, None, None, None]


@pytest.mark.parametrize("name", WRITERS)
def test_caption_is_the_text_where_there_is_no_text(tmp_path, name):
    WRITERS[name](tmp_path / name, [{"image": "a.jpg", "caption": "hi"}])
    (post,) = read_posts([tmp_path / name])
    assert post.caption == "hi"


@pytest.mark.parametrize("name", ["posts.csv", "posts.parquet"])
def test_comments_are_text_enough(tmp_path, name):
    WRITERS[name](tmp_path / name, [{"image": "a.jpg", "comments": ["😍", "so nice"]}])
    (post,) = read_posts([tmp_path / name])
    assert (post.caption, post.comments) == ("", ("😍", "so nice"))


@pytest.mark.parametrize("name", ["posts.csv", "posts.parquet"])
def test_column_that_was_asked_for_must_be_there(tmp_path, name):
    WRITERS[name](tmp_path / name, [ROW])
    with pytest.raises(InputError, match="no column user, but: id, account, image, text"):
        list(read_posts([tmp_path / name], columns={"account": "user"}))


UTF16 = {
    "utf-16": b"",
    "utf-16-le": b"",
    "utf-16-be": b"",
    "utf-16-be with its mark": b"\xfe\xff",
    "utf-16-le with its mark": b"\xff\xfe",
}


@pytest.mark.parametrize("encoding", UTF16)
@pytest.mark.parametrize("name", ["posts.csv", "posts.tsv", "posts.jsonl"])
def test_utf_16_is_named_with_the_way_out(tmp_path, name, encoding):
    rows = {"posts.csv": "image,text\na.jpg,hi\n", "posts.tsv": "image\ttext\na.jpg\thi\n"}
    text = rows.get(name, '{"image": "a.jpg", "text": "hi"}\n')
    (tmp_path / name).write_bytes(UTF16[encoding] + text.encode(encoding.split()[0]))
    with pytest.raises(InputError, match=rf"{name}: not UTF-8; it looks like UTF-16\. Save it as UTF-8\.$"):
        list(read_posts([tmp_path / name]))


def test_column_that_is_none_of_ours_is_refused(tmp_path):
    write_jsonl(tmp_path / "posts.jsonl", [ROW])
    with pytest.raises(InputError, match="txet: not a column of ours"):
        list(read_posts([tmp_path / "posts.jsonl"], columns={"txet": "caption"}))


@pytest.mark.parametrize(
    "change",
    [
        {"comments": "so nice"},
        {"comments": [1]},
        {"comments": {"a": "b"}},
        {"reactions": {"😍": "many"}},
        {"reactions": {"😍": -1}},
        {"reactions": {"😍": True}},
        {"reactions": ["😍"]},
        {"reactions": 3},
        {"reactions": "😍"},
    ],
    ids=str,
)
def test_comments_and_reactions_of_another_shape_are_rejected(tmp_path, change):
    write_jsonl(tmp_path / "posts.jsonl", [ROW | change])
    assert list(read_posts([tmp_path / "posts.jsonl"])) == [Reject("posts.jsonl:1", "broken line")]


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("image", ["/etc/passwd", "../secret.jpg", "a/../../b.jpg", "..", "a\\..\\..\\b.jpg"])
def test_image_outside_the_tables_folder_is_rejected(tmp_path, name, image):
    WRITERS[name](tmp_path / name, [ROW | {"image": image}, ROW | {"image": "a..b/..c.jpg"}])
    first, second = read_posts([tmp_path / name])
    assert first.reason == "image outside the table's folder"
    assert second.images == (ImageFile(str(tmp_path / "a..b/..c.jpg")),)


def images_of(path: Path, **columns: str) -> list[bytes]:
    """The images of a table's only post, read."""
    (post,) = read_posts([path], columns=columns)
    assert pickle.loads(pickle.dumps(post)) == post
    assert len({repr(image) for image in post.images}) == len(post.images)
    return [image.read() for image in post.images]


@pytest.mark.parametrize(
    "cells",
    [
        pa.array([b"one"]),
        pa.array([b"one"], pa.large_binary()),
        pa.array([b"one"]).dictionary_encode(),
        pa.array([{"bytes": b"one", "path": None}], STRUCT),
        pa.array([{"bytes": b"one", "path": "gone.jpg"}], STRUCT),
        pa.array([{"bytes": None, "path": "one.jpg"}], STRUCT),
        pa.array([{"path": "one.jpg"}]),
        pa.array([{"bytes": b"one"}]),
        pa.array(["one.jpg"]),
        pa.array(["one.jpg"], pa.large_string()),
        pa.array(["one.jpg"]).dictionary_encode(),
    ],
    ids=lambda cells: str(cells.type)[:60],
)
def test_image_is_read_from_whatever_a_cell_holds(tmp_path, cells):
    (tmp_path / "one.jpg").write_bytes(b"one")
    pq.write_table(pa.table({"image": cells, "text": ["hi"]}), tmp_path / "posts.parquet")
    assert images_of(tmp_path / "posts.parquet") == [b"one"]


@pytest.mark.parametrize(
    "cells",
    [
        pa.array([[b"one", b"two"]]),
        pa.array([[b"one", b"two"]], pa.large_list(pa.large_binary())),
        pa.array([[b"one", b"two"]], pa.list_(pa.binary(), 2)),
        pa.array([[{"bytes": b"one", "path": None}, {"bytes": b"two", "path": "x"}]], pa.list_(STRUCT)),
        pa.array([[{"bytes": b"one", "path": None}, {"bytes": None, "path": "two.jpg"}]], pa.list_(STRUCT)),
        pa.array([["one.jpg", "two.jpg"]]),
    ],
    ids=lambda cells: str(cells.type)[:60],
)
def test_several_images_of_a_row_come_in_order(tmp_path, cells):
    (tmp_path / "one.jpg").write_bytes(b"one")
    (tmp_path / "two.jpg").write_bytes(b"two")
    pq.write_table(pa.table({"image": cells, "text": ["hi"]}), tmp_path / "posts.parquet")
    assert images_of(tmp_path / "posts.parquet") == [b"one", b"two"]


@pytest.mark.parametrize(
    "cells",
    [
        pa.array([None, b"two"]),
        pa.array([None, {"bytes": b"two", "path": None}], STRUCT),
        pa.array([{"bytes": None, "path": None}, {"bytes": b"two", "path": None}], STRUCT),
        pa.array([{"bytes": None, "path": "gone.jpg"}, {"bytes": b"two", "path": None}], STRUCT),
        pa.array([{"bytes": None, "path": "../there.jpg"}, {"bytes": b"two", "path": None}], STRUCT),
        pa.array([[None], [b"two"]]),
    ],
    ids=str,
)
def test_image_that_a_cell_lacks_is_missing_and_the_next_row_keeps_its_own(tmp_path, cells):
    (tmp_path / "there.jpg").write_bytes(b"outside")
    (tmp_path / "table").mkdir()
    path = tmp_path / "table/posts.parquet"
    pq.write_table(pa.table({"image": cells, "text": ["a", "b"]}), path)
    first, second = read_posts([path])
    with pytest.raises(FileNotFoundError):
        first.images[0].read()
    assert [image.read() for image in second.images] == [b"two"]


@pytest.mark.parametrize("nothing", [None, []])
def test_row_without_images_is_rejected(tmp_path, nothing):
    cells = pa.array([nothing, [b"two"]], pa.list_(pa.binary()))
    pq.write_table(pa.table({"image": cells, "text": ["a", "b"]}), tmp_path / "posts.parquet")
    first, second = read_posts([tmp_path / "posts.parquet"])
    assert first == Reject("posts.parquet:0", "no id or image")
    assert [image.read() for image in second.images] == [b"two"]


def test_no_column_of_truths_is_taken_for_images(tmp_path):
    pq.write_table(pa.table({"image": [True], "text": ["hi"]}), tmp_path / "posts.parquet")
    assert list(read_posts([tmp_path / "posts.parquet"])) == [Reject("posts.parquet:0", "no id or image")]


def test_huggingfaces_image_column_is_found_by_its_metadata(tmp_path):
    about = {"info": {"features": {"text": {"dtype": "string", "_type": "Value"}, "img": {"_type": "Image"}}}}
    rows = pa.table({"text": ["hi"], "img": pa.array([{"bytes": b"one", "path": None}], STRUCT)})
    rows = rows.replace_schema_metadata({"huggingface": json.dumps(about)})
    pq.write_table(rows, tmp_path / "posts.parquet")
    assert images_of(tmp_path / "posts.parquet") == [b"one"]


@pytest.mark.parametrize("about", [b"{", b"[]", b'{"info": 3}', b'{"info": {"features": []}}', b"\xff"])
def test_odd_metadata_is_no_metadata(tmp_path, about):
    rows = pa.table({"text": ["hi"], "image": ["a.jpg"]}).replace_schema_metadata({"huggingface": about})
    pq.write_table(rows, tmp_path / "posts.parquet")
    assert len(list(read_posts([tmp_path / "posts.parquet"]))) == 1


@given(
    cells=st.lists(st.none() | st.binary(max_size=8), min_size=1, max_size=150),
    groups=st.integers(1, 150),
    order=st.randoms(),
    dictionary=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_each_cell_is_read_as_it_was_written_in_any_order(tmp_path_factory, cells, groups, order, dictionary):
    path = tmp_path_factory.mktemp("table") / "posts.parquet"
    rows = pa.table({"image": pa.array(cells, pa.binary()), "text": [str(row) for row in range(len(cells))]})
    pq.write_table(rows, path, row_group_size=groups, use_dictionary=dictionary)
    posts = list(read_posts([path]))
    assert [int(post.caption) for post in posts] == list(range(len(cells)))
    order.shuffle(posts)
    for post in posts:
        if (content := cells[int(post.caption)]) is not None:
            assert post.images[0].read() == content


def test_images_are_not_read_for_the_posts(tmp_path, monkeypatch):
    asked = []
    ask = pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile,
        "iter_batches",
        lambda *args, **keys: asked.append(keys["columns"]) or ask(*args, **keys),
    )
    cells = pa.array([{"bytes": b"one", "path": None}], STRUCT)
    pq.write_table(pa.table({"image": cells, "text": ["hi"]}), tmp_path / "posts.parquet")
    (post,) = read_posts([tmp_path / "posts.parquet"])
    assert asked == [["text"]]
    assert post.images == (ParquetCell(str(tmp_path / "posts.parquet"), "image", 0),)


def test_images_of_a_parquet_file_are_built_into_shards(tmp_path):
    cells = []
    for shade in range(5):
        buffer = io.BytesIO()
        Image.new("L", (9, 9), shade).save(buffer, "PNG")
        cells.append({"bytes": buffer.getvalue(), "path": None})
    rows = pa.table({"image": pa.array(cells, STRUCT), "text": ["😍"] * 5, "account": list("abcde")})
    pq.write_table(rows, tmp_path / "posts.parquet", row_group_size=2)
    options = BuildOptions(min_count=1, val_share=0, test_share=0, images_per_shard=2)
    source, folder = Source([tmp_path / "posts.parquet"]), LocalFolder(tmp_path / "shards")
    manifest = build_shards(source, folder, options, workers=1, max_bad=0)
    assert manifest is not None and manifest.posts == {"read": 5, "used": 5, "without emoji": 0}


def test_pandas_tables_are_read(tmp_path):
    frame = pd.DataFrame(
        {
            "id": [1, 2],
            "image": ["a.jpg", "b.jpg"],
            "text": ["hi 😍", None],
            "reactions": [{"😍": 2}, {"🔥": 1}],
        }
    )
    frame.to_parquet(tmp_path / "posts.parquet")
    posts = list(read_posts([tmp_path / "posts.parquet"]))
    assert [(post.id, post.caption, post.reactions) for post in posts] == [
        ("1", "hi 😍", (("😍", 2),)),
        ("2", "", (("🔥", 1),)),
    ]


def test_pandas_index_is_no_column(tmp_path):
    pd.DataFrame({"image": ["a.jpg", "b.jpg"], "text": ["hi", "ho"]}).to_csv(tmp_path / "posts.csv")
    posts = list(read_posts([tmp_path / "posts.csv"]))
    tagged = name_with_tag(tmp_path / "posts.csv", "posts.csv")
    assert [(post.id, post.account) for post in posts] == [(f"{tagged}/{row}",) * 2 for row in (0, 1)]


def test_parquet_text_that_is_no_utf8_is_rejected_alone(tmp_path):
    raw = pa.array([b"hi", b"caf\xe9", b"ho"])
    text = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    pq.write_table(pa.table({"image": ["a.jpg"] * 3, "text": text}), tmp_path / "posts.parquet")
    first, second, third = read_posts([tmp_path / "posts.parquet"])
    assert second == Reject("posts.parquet:1", "not UTF-8")
    assert (first.caption, third.caption) == ("hi", "ho")


def test_a_damaged_row_group_costs_its_own_rows_and_each_is_told(tmp_path):
    path = tmp_path / "posts.parquet"
    rows = pa.table({"image": ["a.jpg"] * 9, "text": [f"caption {row}" for row in range(9)]})
    pq.write_table(
        rows, path, row_group_size=3, use_dictionary=False, compression="none", write_page_checksum=True
    )
    content = bytearray(path.read_bytes())
    content[content.index(b"caption 4")] ^= 1
    path.write_bytes(content)
    posts = list(read_posts([path]))
    assert posts[3:6] == [Reject(f"posts.parquet:{row}", "unreadable row group") for row in (3, 4, 5)]
    assert [post.caption[-1] for post in posts[:3] + posts[6:]] == list("012678")


def test_a_cell_in_a_damaged_row_group_is_an_oserror_and_others_are_read(tmp_path):
    path = tmp_path / "posts.parquet"
    rows = pa.table({"image": [b"image %d" % row for row in range(6)], "text": ["hi"] * 6})
    pq.write_table(
        rows, path, row_group_size=3, use_dictionary=False, compression="none", write_page_checksum=True
    )
    content = bytearray(path.read_bytes())
    content[content.index(b"image 1")] ^= 1
    path.write_bytes(content)
    posts = list(read_posts([path]))
    for row in (1, 0, 1):
        with pytest.raises(OSError, match=r"CRC|damaged"):
            posts[row].images[0].read()
    assert posts[5].images[0].read() == b"image 5"


@given(
    cut=st.integers(0, 3000) | st.none(),
    flips=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 7)), max_size=4),
)
@settings(max_examples=150, deadline=None)
def test_a_mutated_parquet_gives_posts_and_rejects(tmp_path_factory, cut, flips):
    path = tmp_path_factory.mktemp("table") / "posts.parquet"
    cells = pa.array([{"bytes": b"image", "path": None}] * 7, STRUCT)
    rows = pa.table(
        {"image": cells, "text": ["hi"] * 7, "account": pa.array(["Ann"] * 7).dictionary_encode()}
    )
    pq.write_table(rows, path, row_group_size=3)
    content = bytearray(path.read_bytes()[:cut])
    for position, bit in flips:
        if content:
            content[position % len(content)] ^= 1 << bit
    path.write_bytes(content)
    with suppress(InputError):  # the name of a column changed
        for row in read_posts([path]):
            assert isinstance(row, Reject) or row.id.encode()
            with suppress(OSError):
                assert isinstance(row, Reject) or isinstance(row.images[0].read(), bytes)


def test_a_folder_of_tables_is_read_in_the_order_of_their_names(tmp_path):
    (tmp_path / "data").mkdir()
    for number in (1, 0):
        rows = [{"image": "a.jpg", "text": f"{number}"}] * 2
        write_parquet(tmp_path / f"data/train-0000{number}-of-00002.parquet", rows)
    (tmp_path / "README.md").write_text("no table")
    posts = list(read_posts([tmp_path]))
    assert detect(tmp_path) == "table"
    assert [re.sub("@[0-9a-f]{12}/", "/", post.id) for post in posts] == [
        "data/train-00000-of-00002/0",
        "data/train-00000-of-00002/1",
        "data/train-00001-of-00002/0",
        "data/train-00001-of-00002/1",
    ]
    assert [post.caption for post in posts] == ["0", "0", "1", "1"]
    assert posts[0].images == (ImageFile(str(tmp_path / "data/a.jpg")),)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("folder", [".", "train"])
def test_an_imagefolder_is_read_by_its_metadata_alone(tmp_path, name, folder):
    (tmp_path / folder).mkdir(exist_ok=True)
    WRITERS[name](tmp_path / folder / f"metadata{Path(name).suffix}", [{"file_name": "1.jpg", "text": "hi"}])
    write_csv(tmp_path / folder / "labels.csv", [{"a": 1}])
    (post,) = read_posts([tmp_path])
    assert post.images == (ImageFile(str(tmp_path / folder / "1.jpg")),)


def test_a_folder_without_tables_is_not_recognised(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / ".hidden.csv").write_text("image,text\n")
    assert not table.recognises(tmp_path)
    with pytest.raises(InputError, match="a table of posts ends in"):
        list(read_posts([tmp_path], form="table"))


@pytest.mark.parametrize("name", WRITERS)
def test_a_table_is_never_held_whole(tmp_path, name):
    rows = [ROW | {"id": str(number), "text": f"{number}" * 500} for number in range(10_000)]
    if name == "posts.parquet":
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name, compression="none")
    else:
        WRITERS[name](tmp_path / name, rows)
    del rows
    tracemalloc.start()
    assert sum(isinstance(post, Post) for post in read_posts([tmp_path / name])) == 10_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < (tmp_path / name).stat().st_size * 0.6
