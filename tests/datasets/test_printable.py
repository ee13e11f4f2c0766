"""Nothing that a terminal would obey, and no password, comes from what is printed."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emojigan.datasets.printable import printable, printable_json

OBEYED = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
EVIL = st.text(st.sampled_from("a/:@?\0\x1b\x07\x9b\n\r\t\u2028\u202e\u2066\ud83d😂👩‍💻❤️ ") | st.characters())


@given(EVIL)
def test_what_is_printable_is_one_line_without_orders_and_stays_as_it_is(text: str):
    once = printable(text)
    assert not OBEYED.search(once)
    assert printable(once) == once


@given(st.recursive(EVIL | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(EVIL, inner)))
def test_json_says_the_same_without_orders(content: object):
    for indent in (None, 1):
        text = printable_json(content, indent)
        assert not OBEYED.search(text.replace("\n", "") if indent else text)
        assert json.loads(text) == content


@pytest.mark.parametrize(
    "text", ["😍 🏴󠁧󠁢󠁳󠁣󠁴󠁿 👩🏽‍💻 ❤️", "Ελληνικά, עברית, 日本語", "ann@example.org", "s3://bucket/a b/c.jpg"]
)
def test_what_is_harmless_stays_as_it_is(text: str):
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("https://ann:s3cret@host:5000/api?x=1", "https://***@host:5000/api?x=1"),
        ("https://s3cret@host", "https://***@host"),
        ("postgresql+psycopg2://ann:s3@cret@db/mlflow", "postgresql+psycopg2://***@db/mlflow"),
        ("postgresql://ann:s3/cret#?@db/mlflow", "postgresql://***@db/mlflow"),
        ("to http://a:s3cret@h/x and http://b:s3cret@i/y!", "to http://***@h/x and http://***@i/y!"),
    ],
)
def test_passwords_of_addresses_are_masked(text: str, printed: str):
    assert printable(text) == printed
