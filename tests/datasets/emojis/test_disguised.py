"""An emoji that was written as something else is told, and a text that never had one is not."""

import html
import json
import re

import emoji
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emojigan.datasets.emojis.disguised import has_disguised
from emojigan.datasets.emojis.text import all_canonical, display, extract


def read_as(text: str, encoding: str) -> str:
    """UTF-8 read in another encoding; bytes that it does not have are read as browsers do."""
    content = text.encode()
    return "".join(bytes([byte]).decode(encoding, "ignore") or chr(byte) for byte in content)


WAYS = {
    "entities": lambda text: text.encode("ascii", "xmlcharrefreplace").decode(),
    "hexadecimal entities": lambda text: re.sub("[^ -~]", lambda found: f"&#x{ord(found[0]):X};", text),
    "entities of entities": lambda text: html.escape(text.encode("ascii", "xmlcharrefreplace").decode()),
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON in JSON": lambda text: json.dumps(json.dumps(text))[1:-1],
    "Python": lambda text: text.encode("unicode-escape").decode(),
    "Python's bytes": lambda text: repr(text.encode())[2:-1],
    "names": emoji.demojize,
    "aliases": lambda text: emoji.demojize(text, language="alias"),
    "Latin-1": lambda text: read_as(text, "latin-1"),
    "Windows-1252": lambda text: read_as(text, "cp1252"),
    "Windows-1252 twice": lambda text: read_as(read_as(text, "cp1252"), "cp1252"),
}
LETTERS = "Ⓜ✌❌⭕🅰🅱"  # whose aliases are single letters: x:o:x is no emoji
PLAIN = st.text(st.characters(max_codepoint=127, exclude_characters="&:\\"), max_size=20)


@pytest.mark.parametrize("way", WAYS)
def test_every_emoji_is_recognised_in_every_disguise(way):
    shown = [display(each) for each in all_canonical(keep_variants=True) if each not in LETTERS]
    disguised = {each: WAYS[way](f"so {each} it is") for each in shown}
    assert [each for each in shown if extract(disguised[each]) or not has_disguised(disguised[each])] == []


@pytest.mark.parametrize("way", WAYS)
@given(st.lists(st.sampled_from("😂❤😍🥰") | PLAIN | st.sampled_from("é—“ñ"), min_size=1))
@settings(max_examples=30)
def test_emojis_among_other_characters_are_recognised(way, parts):
    text = "".join(parts)
    assert has_disguised(WAYS[way](text)) or not extract(text)


@given(PLAIN, st.lists(st.sampled_from(["&amp;", "&lt;3", "é", "“ñ”", "12:30:45", r"\u00e9", r"C:\users"])))
def test_what_is_no_emoji_is_not_told_as_one(text, parts):
    assert not has_disguised(text.join(parts) + text)


@given(st.text(st.characters()) | st.text(st.sampled_from("&#x:;\\uUd83¤ðŸ˜‚â")))
def test_any_text_is_looked_at_without_an_exception(text):
    has_disguised(text)


@pytest.mark.parametrize(
    "text", ["love:heart:0", ":100:", ":heart_eyes::joy:", ":+1:", "&#x1F602;", r"\u2764\ufe0f"]
)
def test_disguises_of_real_tables_are_recognised(text):
    assert has_disguised(text)


@pytest.mark.parametrize(
    "text", ["", "12:30:45", ":blobcat:", "naïve façade — “ok” …", "&amp; 10 :)", "Ã©tÃ©"]
)
def test_ordinary_texts_are_not_told(text):
    assert not has_disguised(text)
