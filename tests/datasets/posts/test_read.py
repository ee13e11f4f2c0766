"""A table of posts is read whole: what is no post is a Reject with a reason, never an exception."""

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from emojigan.datasets.errors import InputError
from emojigan.datasets.posts.formats import table
from emojigan.datasets.posts.outcomes import BROKEN_FILES
from emojigan.datasets.posts.post import ImageFile, Post, Reject
from emojigan.datasets.posts.read import read_posts

GOOD = {"id": "p", "account": "Ann", "image": "a/b.jpg", "text": "hi 😍"}


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., list[Post | Reject]]:
    """Write a table into `tmp_path` and read it."""

    def write_and_read(content: bytes | str, name: str = "posts.jsonl") -> list[Post | Reject]:
        table = tmp_path / name
        table.write_bytes(content.encode() if isinstance(content, str) else content)
        return list(read_posts([table]))

    return write_and_read


def lines(*rows: dict) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def test_jsonl_gives_the_post_with_its_image_beside_the_table(read, tmp_path):
    assert read(lines(GOOD)) == [Post("p", "Ann", (ImageFile(str(tmp_path / "a/b.jpg")),), "hi 😍")]


def test_csv_gives_the_same_post(read, tmp_path):
    assert read("id,account,image,text\np,Ann,a/b.jpg,hi 😍\n", "posts.csv") == [
        Post("p", "Ann", (ImageFile(str(tmp_path / "a/b.jpg")),), "hi 😍")
    ]


def test_ending_is_known_in_capitals(read):
    assert len(read(lines(GOOD), "POSTS.JSONL")) == 1


@pytest.mark.parametrize("name", ["posts.jsonl", "posts.csv"])
def test_byte_order_mark_is_no_content(read, name):
    content = lines(GOOD) if name.endswith("jsonl") else b"id,image,text\np,a.jpg,hi\n"
    (post,) = read(b"\xef\xbb\xbf" + content, name)
    assert post.id == "p"


def test_csv_keeps_newlines_and_doubled_quotes_within_quotes(read):
    (post,) = read('id,image,text\n1,a.jpg,"one\ntwo ""three"" 😍\r\nfour"\n', "posts.csv")
    assert post.caption == 'one\ntwo "three" 😍\r\nfour'


def test_csv_takes_long_captions(read):
    (post,) = read("id,image,text\n1,a.jpg," + "😍" * 200_000 + "\n", "posts.csv")
    assert len(post.caption) == 200_000


def test_csv_columns_may_come_in_any_order_with_others(read):
    (post,) = read("likes,text,image,id\n3,hi,a.jpg,p\n", "posts.csv")
    assert (post.id, post.caption, post.account) == ("p", "hi", "p")


@pytest.mark.parametrize("account", [{}, {"account": None}, {"account": ""}])
def test_post_without_account_is_its_own_account(read, account):
    (post,) = read(lines({"id": 7, "image": "a.jpg", "text": ""} | account))
    assert post.account == "7"


def test_account_0_is_an_account(read):
    posts = read(lines(GOOD | {"id": 1, "account": 0}, GOOD | {"id": 2, "account": 0}))
    assert [post.account for post in posts] == ["0", "0"]


def test_ids_and_accounts_may_be_numbers(read):
    (post,) = read(lines(GOOD | {"id": 0, "account": 12}))
    assert (post.id, post.account) == ("0", "12")


def test_missing_text_is_an_empty_one(read):
    posts = read(lines({"id": 1, "image": "a.jpg"}, GOOD | {"text": None}))
    assert [post.caption for post in posts] == ["", ""]


def test_blank_lines_are_no_posts(read):
    assert len(read(b"\n" + lines(GOOD) + b"  \r\n\n")) == 1


@pytest.mark.parametrize(
    "line",
    [
        b'{"id": 1, "image": "a.jpg"',
        b"[1, 2]",
        b"null",
        b"[" * 100_000,
        b'{"id": ' + b"9" * 5000 + b', "image": "a.jpg"}',
        lines(GOOD | {"id": "\ud800"}).strip(),
        lines(GOOD | {"account": "\udfff"}).strip(),
        lines(GOOD | {"image": "a\0.jpg"}).strip(),
        lines(GOOD | {"id": "p\0"}).strip(),
        lines(GOOD | {"text": ["hi"]}).strip(),
        lines(GOOD | {"account": {"name": "Ann"}}).strip(),
    ],
    ids=lambda line: line[:30].decode(errors="replace"),
)
def test_broken_line_is_rejected_with_its_number_and_the_next_is_read(read, line):
    first, second, third = read(lines(GOOD) + line + b"\n" + lines(GOOD | {"id": "next"}))
    assert second == Reject("posts.jsonl:2", "broken line")
    assert (first.id, third.id) == ("p", "next")


@pytest.mark.parametrize(
    "change",
    [{"id": None}, {"id": ""}, {"id": [1]}, {"id": 1.5}, {"image": ""}, {"image": 3}, {"image": None}],
)
def test_post_without_id_or_image_is_rejected(read, change):
    assert read(lines(GOOD | change)) == [Reject("posts.jsonl:1", "no id or image")]


def test_lone_surrogate_in_a_caption_costs_only_itself(read):
    (post,) = read(lines(GOOD | {"text": "\ud83d 😍"}))
    assert post.caption.endswith("😍")


def test_jsonl_line_that_is_no_utf8_is_rejected(read):
    rows = read(b'{"id": 1, "image": "a.jpg", "text": "caf\xe9"}\n' + lines(GOOD))
    assert rows[0] == Reject("posts.jsonl:1", "not UTF-8")
    assert rows[1].id == "p"


def test_csv_row_that_is_no_utf8_is_rejected(read):
    rows = read(b"id,image,text\ncaf\xe9,a.jpg,hi\na,b.jpg,caf\xe9 hi\nb,b.jpg,hi\n", "posts.csv")
    assert rows[:2] == [Reject("posts.csv:2", "not UTF-8"), Reject("posts.csv:3", "not UTF-8")]
    assert rows[2].id == "b"


def test_column_that_is_not_read_may_be_in_any_encoding(read):
    (post,) = read(b"id,image,text,place\n1,a.jpg,hi,caf\xe9\n", "posts.csv")
    assert post.caption == "hi"


def test_csv_row_that_is_too_short_is_rejected(read):
    rows = read("id,image,text\n1\n2,b.jpg,hi\n", "posts.csv")
    assert rows[0] == Reject("posts.csv:2", "no id or image")
    assert rows[1].id == "2"


def test_open_quote_of_a_csv_swallows_no_other_posts(read):
    rest = "".join(f'{n},"{n}.jpg",hi\n' for n in range(3, 20))
    rows = read('id,image,text\n1,a.jpg,hi\n2,b.jpg,"open\n' + rest, "posts.csv")
    assert rows[1] == Reject("posts.csv:4", "broken line")
    assert [row.id for row in rows[2:]] == [str(n) for n in range(4, 20)]


HEADER, ROW = "id,image,text\n", "1,a.jpg,hi\n"
CUT = {  # what is read before, and what is broken
    "an open quote that swallows posts": ("posts.csv", HEADER + ROW, '2,b.jpg,"hi 😂\n' + ROW * 149),
    "an open quote in the last row": ("posts.csv", HEADER + ROW, '2,b.jpg,"hi\n'),
    "a quote that was cut": ("posts.csv", HEADER + ROW, '2,b.jpg,"hi'),
    "a row that was cut": ("posts.csv", HEADER + ROW, "2,b.j"),
    "a letter that was cut": ("posts.csv", HEADER + ROW, "2,b.jpg,hi 😂".encode()[:-1]),
    "zeros for rows": ("posts.csv", HEADER + ROW, "\0" * 5000),
    "zeros for the end of a row": ("posts.csv", HEADER + ROW, "2,b.jpg,h" + "\0" * 5000),
    "a line that was cut": ("posts.jsonl", lines(GOOD), lines(GOOD)[:-9]),
    "zeros for lines": ("posts.jsonl", lines(GOOD), "\0" * 5000),
    "zeros for the end of a line": ("posts.jsonl", lines(GOOD), lines(GOOD)[:-9] + b"\0" * 5000),
}


@pytest.mark.parametrize("what", CUT)
def test_a_table_that_ends_within_a_row_is_a_broken_file_and_what_was_read_before_is_used(
    read, tmp_path, what
):
    name, whole, broken = CUT[what]
    whole, broken = (part if isinstance(part, bytes) else part.encode() for part in (whole, broken))
    first, second = read(whole + broken, name)
    assert isinstance(first, Post)
    assert second == Reject(f"{name}:{whole.count(10) + 1}", "row cut off or in open quotes")
    assert second.reason in BROKEN_FILES and second.file == str(tmp_path / name)


@pytest.mark.parametrize(
    "name, content",
    [
        ("posts.jsonl", lines(GOOD) + b'{"id": 1, "ima\n'),
        ("posts.csv", HEADER + ROW + '2,b.jpg,"hi"x\n'),
        ("posts.csv", HEADER + ROW + "2\n"),
    ],
)
def test_a_last_line_that_is_broken_and_ends_is_one_bad_post(read, name, content):
    first, second = read(content, name)
    assert isinstance(first, Post) and second.reason not in BROKEN_FILES and not second.file


@pytest.mark.parametrize(
    "name, content", [("posts.jsonl", lines(GOOD)[:-1]), ("posts.csv", HEADER + ROW[:-1])]
)
def test_a_whole_last_line_needs_no_newline(read, name, content):
    assert [type(row) for row in read(content, name)] == [Post]


def test_an_open_quote_that_swallows_as_much_as_it_may_makes_the_file_broken(read, tmp_path, monkeypatch):
    monkeypatch.setattr(table, "LONGEST_FIELD", 100)
    found = read(HEADER + ROW + '2,b.jpg,"open\n' + ROW * 100, "posts.csv")
    assert found[1] == Reject("posts.csv:3", "row cut off or in open quotes")
    assert found[1].file == str(tmp_path / "posts.csv") and all(isinstance(row, Post) for row in found[2:])


def test_nul_in_a_csv_is_rejected(read):
    rows = read("id,image,text\n1\0,a.jpg,hi\n2,b.jpg,hi\n", "posts.csv")
    assert rows[0] == Reject("posts.csv:2", "broken line")
    assert rows[1].id == "2"


@pytest.mark.parametrize("header", ["id,image", "", "\n", '"id"x,image,text'])
def test_csv_without_a_column_is_refused(read, header):
    with pytest.raises(InputError, match="no column"):
        read(header, "posts.csv")


def test_missing_columns_are_named(read):
    with pytest.raises(InputError, match="no column image, text"):
        read("id,account\n1,2\n", "posts.csv")


def test_the_columns_that_are_there_are_named_with_the_way_out(read):
    with pytest.raises(InputError, match=r"no column image, text, but: link, words.*--column text=caption"):
        read("link,words\n1,2\n", "posts.csv")


def test_column_that_comes_twice_is_refused(read):
    with pytest.raises(InputError, match="more than one column is called text"):
        read("image,text,text\na.jpg,2,3\n", "posts.csv")


def test_unknown_ending_is_refused(read):
    with pytest.raises(InputError, match=r"posts\.xlsx: not a format that we know"):
        read(b"", "posts.xlsx")


@pytest.mark.parametrize("name", ["nowhere.jsonl", "nowhere.csv"])
def test_missing_table_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="no such file"):
        list(read_posts([tmp_path / name]))


def test_folder_named_like_a_table_is_refused(tmp_path):
    (tmp_path / "posts.csv").mkdir()
    with pytest.raises(InputError, match="not a format"):
        list(read_posts([tmp_path / "posts.csv"]))


@pytest.mark.parametrize("name", ["posts.jsonl", "posts.csv"])
@given(content=st.lists(st.binary() | st.sampled_from([b'"', b"\n", b",", b'{"id":1}', b"\0", b"\r"])))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_give_posts_and_rejects(read, name, content):
    header = b"" if name.endswith("jsonl") else b"id,image,text\n"
    table = header + b"".join(content)
    assume(not table.startswith((b"\xff\xfe", b"\xfe\xff")) and table[:64].count(0) < 4)  # taken for UTF-16
    assume(not table.startswith((b"\x1f\x8b", b"PK\x03\x04")))  # taken for packed
    for row in read(table, name):
        assert isinstance(row, Reject) or row.id.encode()


@pytest.mark.parametrize("name, mark", [("posts.csv", ";"), ("posts.csv", "\t"), ("posts.tsv", ",")])
def test_a_table_whose_columns_are_separated_otherwise_is_refused_by_what_separates_them(read, name, mark):
    with pytest.raises(InputError, match=re.escape(f"its columns are separated by {mark!r}")):
        read(f"id{mark}image{mark}text\n", name)


@pytest.mark.parametrize("pack", [gzip.compress, lambda content: b"PK\3\4" + content])
def test_a_packed_table_is_refused_with_what_to_do(read, pack):
    with pytest.raises(InputError, match=r"packed, with gzip or zip\. Unpack it first"):
        read(pack(lines(GOOD)))
