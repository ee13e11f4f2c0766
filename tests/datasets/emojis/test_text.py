"""Text -> canonical emojis: what counts, how it folds, and that nothing breaks it."""

import gzip
import re
import sys
from collections import defaultdict
from pathlib import Path
from random import Random
from typing import NamedTuple

import emoji
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emojigan.datasets.emojis.text import (
    COMPONENTS,
    DEBRIS,
    TEXT_UNLESS_STYLED,
    all_canonical,
    canonical,
    display,
    extract,
    name,
    without_tone,
)

FULLY_QUALIFIED = [e for e, d in emoji.EMOJI_DATA.items() if d["status"] == emoji.STATUS["fully_qualified"]]
UNICODE_FILE = Path(__file__).parents[2] / "data" / "emoji" / "emoji-test-17.0.txt.gz"
UNICODE_VERSION = 17.0
LIBRARY_VERSION = max(float(data["E"]) for data in emoji.EMOJI_DATA.values())
# Emojis and what they are made of, in any order, among any other characters (lone surrogates, too).
PARTS = [
    *emoji.EMOJI_DATA,
    "\u200d",
    "\u200d\u200d",
    "\ufe0e",
    "\ufe0f",
    "🇫",
    "🏽",
    "🇩",
    "\u20e3",
    "\u0301",
    "\U000e0067",
    "\U000e007f",
    "\ud83d",
    "\ude0d",
    "7",
    "#",
    " x ",
]
TEXTS = st.lists(st.sampled_from(PARTS) | st.text(st.characters(), max_size=3)).map("".join)


class Form(NamedTuple):
    """A line of Unicode's file."""

    text: str
    status: str
    version: float
    name: str


def unicode_forms() -> list[Form]:
    """Every line of Unicode's emoji-test.txt that the installed `emoji` library is new enough to know."""
    line = re.compile(r"^([0-9A-F ]+?) *; ([a-z-]+) *# \S+ E([0-9.]+) (.+)$", re.MULTILINE)
    forms = [
        Form("".join(chr(int(each, 16)) for each in points.split()), status, float(version), name)
        for points, status, version, name in line.findall(gzip.decompress(UNICODE_FILE.read_bytes()).decode())
    ]
    assert len(forms) == 5225
    return [form for form in forms if form.version <= LIBRARY_VERSION]


FORMS = unicode_forms()
MISSES = COMPONENTS | DEBRIS | TEXT_UNLESS_STYLED | {sign + "\ufe0f" for sign in DEBRIS}


@pytest.mark.parametrize("keep_variants", [False, True])
def test_every_form_of_unicodes_file_gives_one_emoji_or_is_a_declared_miss(keep_variants):
    members = set(all_canonical(keep_variants=keep_variants))
    found = {form.text: extract(form.text, keep_variants=keep_variants) for form in FORMS}
    assert {text for text, emojis in found.items() if not emojis} == MISSES
    assert [text for text, emojis in found.items() if len(emojis) > 1 or not set(emojis) <= members] == []


@pytest.mark.parametrize("keep_variants", [False, True])
def test_all_forms_of_an_emoji_in_unicodes_file_give_the_same(keep_variants):
    keys = defaultdict(set)
    for form in FORMS:
        if form.text not in MISSES:
            keys[form.name] |= set(extract(form.text, keep_variants=keep_variants))
    assert {name: emojis for name, emojis in keys.items() if len(emojis) != 1} == {}
    if keep_variants:
        assert len({emojis.pop() for emojis in keys.values()}) == len(keys)  # none shared by two names


def test_an_emoji_that_unicodes_file_does_not_have_is_newer_than_it():
    texts = {form.text for form in FORMS}
    newer = {text: data["E"] for text, data in emoji.EMOJI_DATA.items() if text not in texts}
    assert all(version > UNICODE_VERSION for version in newer.values())
    assert all(extract(text, keep_variants=True) == [text] for text in newer)


@pytest.mark.parametrize("selector", ["", "\ufe0f"])
def test_no_other_character_becomes_an_emoji(selector):
    """Each code point alone, surrogates too, against the single characters of Unicode's file."""
    single = {form.text.rstrip("\ufe0f") for form in FORMS if len(form.text.rstrip("\ufe0f")) == 1}
    single |= {text for text, data in emoji.EMOJI_DATA.items() if data["E"] > UNICODE_VERSION}
    counted = single - COMPONENTS - DEBRIS - (set() if selector else TEXT_UNLESS_STYLED)
    every = map(chr, range(sys.maxunicode + 1))
    assert set(extract(" ".join(each + selector for each in every), keep_variants=True)) == {
        each for each in counted if len(each) == 1
    }


@given(st.lists(st.sampled_from([*emoji.EMOJI_DATA, "a", "7", " ", "é", "の"])))
def test_whole_emojis_are_found_as_the_library_finds_them(parts):
    text = "".join(parts)
    found = [
        canonical(match["emoji"])
        for match in emoji.emoji_list(text)
        if match["emoji"] not in TEXT_UNLESS_STYLED
    ]
    assert extract(text) == [each for each in found if each]


@given(TEXTS, TEXTS, st.booleans())
def test_what_stands_apart_is_found_apart(before, after, keep_variants):
    whole = extract(before + " x " + after, keep_variants=keep_variants)
    assert whole == [e for part in (before, after) for e in extract(part, keep_variants=keep_variants)]


def test_a_hundred_thousand_random_strings_break_nothing():
    """Emojis and their parts in any order; whatever is found is canonical."""
    random = Random(0)
    pieces = sorted({*"".join(emoji.EMOJI_DATA)} | {*PARTS[len(emoji.EMOJI_DATA) :]}) + PARTS
    members = set(all_canonical())
    texts = ["".join(random.choices(pieces, k=random.randrange(8))) for _ in range(100_000)]
    found = [extract(text) for text in texts]
    assert {each for emojis in found for each in emojis} <= members
    assert extract(" x ".join(texts[:9999])) == [each for emojis in found[:9999] for each in emojis]


@given(TEXTS, st.booleans())
def test_any_text_gives_only_canonical_emojis(text, keep_variants):
    members = set(all_canonical(keep_variants=keep_variants))
    assert set(extract(text, keep_variants=keep_variants)) <= members


@given(st.lists(st.sampled_from("🇺🇸🇫🇷🇩🇪"), max_size=12), st.sampled_from(["", "😀", "a"]))
def test_regional_indicators_pair_from_the_left(indicators, before):
    pairs = ["".join(indicators[first : first + 2]) for first in range(0, len(indicators), 2)]
    flags = [pair for pair in pairs if canonical(pair)]
    assert [each for each in extract(before + "".join(indicators)) if each != "😀"] == flags


@given(TEXTS)
def test_folding_an_emoji_kept_with_its_variants_is_extracting_it_folded(text):
    assert [canonical(e) for e in extract(text, keep_variants=True)] == extract(text)


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_never_holds_an_emoji(text):
    assert extract(text) == []


@pytest.mark.parametrize("keep_variants", [False, True])
def test_every_emoji_but_debris_has_a_canonical_form(keep_variants):
    members = set(all_canonical(keep_variants=keep_variants))
    lost = {e for e in FULLY_QUALIFIED if canonical(e, keep_variants=keep_variants) not in members}
    assert {e.rstrip("\ufe0f") for e in lost} == DEBRIS


@pytest.mark.parametrize("keep_variants", [False, True])
def test_canonical_is_idempotent_and_all_canonical_is_sorted(keep_variants):
    emojis = all_canonical(keep_variants=keep_variants)
    assert [canonical(e, keep_variants=keep_variants) for e in emojis] == emojis == sorted(set(emojis))
    assert {canonical(e, keep_variants=keep_variants) for e in emoji.EMOJI_DATA} - {None} == set(emojis)


def test_folded_emojis_have_no_tone_and_no_gender_sign():
    assert [e for e in all_canonical() if without_tone(e) != e or {"♀", "♂"} & set(e)] == []


def test_no_fold_leaves_a_gendered_sequence_behind():
    assert [e for e in all_canonical() if "\u200d" in e and {"👨", "👩"} & set(e)] == []


@pytest.mark.parametrize("keep_variants", [False, True])
def test_display_is_fully_qualified_and_comes_back(keep_variants):
    for e in all_canonical(keep_variants=keep_variants):
        assert emoji.EMOJI_DATA[display(e)]["status"] == emoji.STATUS["fully_qualified"]
        assert canonical(display(e), keep_variants=keep_variants) == e
        assert extract(display(e), keep_variants=keep_variants) == [e]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I ❤️ NY, I ❤ it", "❤ ❤"),
        ("❤︎ and ♥︎ are text", ""),
        ("☕️ ⭐️ ❗️", "☕ ⭐ ❗"),  # U+FE0F that they do not need
        ("call 123 #1 *x* :) <3", ""),
        ("1️⃣ 2⃣ 3⃣️ 12⃣", "1⃣ 2⃣ 3⃣ 2⃣"),
        ("© 2024 ™ → ↔ ✔", ""),
        ("©️ ™️ ↔️ ✔️", "© ™ ↔ ✔"),
        ("♀ ♂️ ⚕️", ""),
        ("🏽 🦰", ""),
        ("🇫🇷🇩🇪 🇫🇷🇩", "🇫🇷 🇩🇪 🇫🇷"),
        ("🇺🇸🇸🇺🇸 🇩🇫🇷", "🇺🇸"),  # drawn as a flag and the letters S U S, and as D F R
        ("🐶‍🔥", "🐶 🔥"),  # a sequence nobody defined
        ("#love😍#ootd😍😍", "😍 😍 😍"),
        ("👍🏽 ☝️🏽", "👍 ☝"),
        (
            "❤️\u200d ❤️\u200d\u200d🔥 🏴\U000e0067 👩🏽\u200d",
            "❤ ❤ 🔥 🏴 👩",
        ),  # nothing that was joined is lost
        ("👩️‍🚀 👨️‍👩️‍👧️ \ufe0f© \ufe0f❤", "🧑‍🚀 🧑‍🧑‍🧒 ❤"),  # U+FE0F where none belongs
        ("🏳️‍⚧ 🙂‍↔", "🏳‍⚧ 🙂‍↔"),  # ⚧ and ↔ in an emoji need no U+FE0F
        ("👨‍🚀 👩🏽‍🚀 🧑‍🚀", "🧑‍🚀 🧑‍🚀 🧑‍🚀"),
        ("🏃🏿‍♀️ 🏃‍♂️ 🧔‍♀️", "🏃 🏃 🧔"),
        ("👩🏻‍🤝‍👨🏿 👩🏻‍🤝‍👩🏿 👨🏻‍🤝‍👨🏿 🧑🏻‍🤝‍🧑🏿", "👫 👭 👬 🧑‍🤝‍🧑"),
        ("👩🏼‍❤️‍💋‍👨🏿 🧑🏻‍❤️‍💋‍🧑🏿 👨‍❤️‍👨 🫱🏻‍🫲🏿", "💏 💏 💑 🤝"),
        ("👨‍👩‍👧‍👦 👩‍👦", "🧑‍🧑‍🧒‍🧒 🧑‍🧒"),
        ("🏳️‍🌈 🏳‍🌈 🐈‍⬛ ❤️‍🔥 🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🏳‍🌈 🏳‍🌈 🐈‍⬛ ❤‍🔥 🏴󠁧󠁢󠁥󠁮󠁧󠁿"),
    ],
)
def test_extraction_follows_the_rules(text, expected):
    assert extract(text) == expected.split()


def test_variants_are_kept_on_request():
    assert extract("👩🏽‍🚀 🏃🏿‍♀️ ❤️ ☝️🏽", keep_variants=True) == ["👩🏽‍🚀", "🏃🏿‍♀", "❤", "☝🏽"]


@pytest.mark.parametrize("not_an_emoji", ["", "a", "7", "🏽", "♀️", "😀😀", "\ud83d", "\u200d", "🇩"])
def test_what_is_not_one_emoji_is_a_declared_miss(not_an_emoji):
    assert canonical(not_an_emoji) is None


def test_names_are_plain_english():
    assert (name("❤"), name("🧑‍🚀"), name("🇫🇷")) == ("red heart", "astronaut", "France")


def test_an_unknown_emoji_is_shown_as_it_is():
    assert (display("\U0001faff"), name("\U0001faff")) == ("\U0001faff", "\U0001faff")
