"""Text -> canonical emojis: what counts, how it folds, and that nothing breaks it."""

import emoji
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emojigan.datasets.emoji_text import all_canonical, canonical, display, extract, name, without_tone

FULLY_QUALIFIED = [e for e, d in emoji.EMOJI_DATA.items() if d["status"] == emoji.STATUS["fully_qualified"]]
DEBRIS = {"♀️", "♂️", "⚕️"}
# Emojis and what they are made of, in any order, among any other characters (lone surrogates, too).
PARTS = [
    *emoji.EMOJI_DATA,
    "\u200d",
    "\u200d\u200d",
    "\ufe0e",
    "\ufe0f",
    "🇫",
    "🏽",
    "\u20e3",
    "\ud83d",
    "7",
    "#",
]
TEXTS = st.lists(st.sampled_from(PARTS) | st.text(st.characters(), max_size=3)).map("".join)


@given(TEXTS, st.booleans())
def test_any_text_gives_only_canonical_emojis(text, keep_variants):
    members = set(all_canonical(keep_variants=keep_variants))
    assert set(extract(text, keep_variants=keep_variants)) <= members


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
    assert lost == DEBRIS


@pytest.mark.parametrize("keep_variants", [False, True])
def test_canonical_is_idempotent_and_all_canonical_is_sorted(keep_variants):
    emojis = all_canonical(keep_variants=keep_variants)
    assert [canonical(e, keep_variants=keep_variants) for e in emojis] == emojis == sorted(set(emojis))


def test_folded_emojis_have_no_tone_and_no_gender_sign():
    assert [e for e in all_canonical() if without_tone(e) != e or {"♀", "♂"} & set(e)] == []


def test_no_fold_leaves_a_gendered_sequence_behind():
    assert [e for e in all_canonical() if "\u200d" in e and {"👨", "👩"} & set(e)] == []


def test_display_is_fully_qualified_and_comes_back():
    for e in all_canonical(keep_variants=True):
        assert display(e) in emoji.EMOJI_DATA
        assert canonical(display(e), keep_variants=True) == e
        assert extract(display(e), keep_variants=True) == [e]


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
        ("🐶‍🔥", "🐶 🔥"),  # a sequence nobody defined
        ("#love😍#ootd😍😍", "😍 😍 😍"),
        ("👍🏽 ☝️🏽", "👍 ☝"),
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
    assert extract("👩🏽‍🚀 🏃🏿‍♀️ ❤️", keep_variants=True) == ["👩🏽‍🚀", "🏃🏿‍♀", "❤"]


@pytest.mark.parametrize("not_an_emoji", ["", "a", "7", "🏽", "♀️", "😀😀", "\ud83d", "\u200d", "🇩"])
def test_what_is_not_one_emoji_is_a_declared_miss(not_an_emoji):
    assert canonical(not_an_emoji) is None


def test_names_are_plain_english():
    assert (name("❤"), name("🧑‍🚀"), name("🇫🇷")) == ("red heart", "astronaut", "France")


def test_an_unknown_emoji_is_shown_as_it_is():
    assert (display("\U0001faff"), name("\U0001faff")) == ("\U0001faff", "\U0001faff")
