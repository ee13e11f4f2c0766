"""Text -> canonical emojis.

text -> candidate runs -> the `emoji` library's matches -> presentation rules -> canonical key

A canonical emoji is the key everything else counts by: variation selectors removed and, unless variants
are kept, skin tone and gender folded to the neutral emoji of the same meaning (👩🏽‍🚀 -> 🧑‍🚀, 🏃‍♀️ -> 🏃).
Never counted: components (a lone skin tone, hair) and ♀ ♂ ⚕, which are the debris of broken ZWJ sequences.
"""

import re
from functools import cache

import emoji

CANONICAL_VERSION = f"emoji-{emoji.__version__}/rules-1"
"""Canonical emojis are comparable only between equal versions: the emoji release and our rules."""

_TEXT_STYLE, _EMOJI_STYLE, _ZWJ = "\ufe0e", "\ufe0f", "\u200d"
_UNSTYLED = str.maketrans("", "", _TEXT_STYLE + _EMOJI_STYLE)
_UNTONED = str.maketrans("", "", "🏻🏼🏽🏾🏿")
_NEUTRAL_PEOPLE = str.maketrans("👨👩👦👧", "🧑🧑🧒🧒")
_DEBRIS = frozenset("♀♂⚕")
# Punctuation, marks and arrows of ordinary writing: emojis only where U+FE0F asks for it.
_TEXT_UNLESS_STYLED = frozenset("©®™ℹⓂ‼⁉〰↔↕↖↗↘↙↩↪⤴⤵▪▫◻◼⚧♾✔✖")
# Sequences whose parts carry the tones; the untoned emoji is another code point.
_SAME_AS = {
    "👩‍🤝‍👨": "👫",
    "👩‍🤝‍👩": "👭",
    "👨‍🤝‍👨": "👬",
    "🧑‍❤‍🧑": "💑",
    "🧑‍❤‍💋‍🧑": "💏",
    "🧑‍🐰‍🧑": "👯",
    "🧑‍🫯‍🧑": "🤼",
    "🫱‍🫲": "🤝",
}
# All that can hold emojis; the library walks the rest, too, one character at a time in Python.
_RUNS = re.compile("[0-9#*]?[©®\u200d-\U0010ffff]+")


def extract(text: str, *, keep_variants: bool = False) -> list[str]:
    """The canonical emojis of any text in reading order, repeats kept.

    A character followed by U+FE0E is text. Of those that are text by default, ♥ or ☀ count as they are
    (people post them bare), while © or ↔ count only before U+FE0F. Digits, # and * never count.
    """
    return [
        found
        for run in _RUNS.findall(text)
        for match in emoji.emoji_list(run)
        if match["emoji"] not in _TEXT_UNLESS_STYLED
        and not run.startswith(_TEXT_STYLE, match["match_end"])
        and (found := canonical(match["emoji"], keep_variants=keep_variants))
    ]


def canonical(emoji: str, *, keep_variants: bool = False) -> str | None:
    """The canonical key of one emoji, however it is styled; None when it is not one that we count."""
    key = emoji.translate(_UNSTYLED)
    folded = _folds().get(key)
    return key if keep_variants and folded else folded


def all_canonical(*, keep_variants: bool = False) -> list[str]:
    """Every canonical emoji, sorted by code points."""
    return sorted(_folds() if keep_variants else set(_folds().values()))


def without_tone(canonical: str) -> str:
    """The emoji without its skin tones. Of a pair with two tones it may be a sequence that nobody sends."""
    return canonical.translate(_UNTONED)


def display(canonical: str) -> str:
    """The fully-qualified form, the one that fonts draw in colour (❤ -> ❤️); an unknown one as it is."""
    return _qualified().get(canonical, canonical)


def name(canonical: str) -> str:
    """The English name, such as "red heart"; an unknown emoji is its own name."""
    known = emoji.EMOJI_DATA.get(display(canonical))
    return known["en"].strip(":").replace("_", " ") if known else canonical


@cache
def _qualified() -> dict[str, str]:
    """Unstyled form -> fully-qualified form, of every emoji of the library."""
    fully = emoji.STATUS["fully_qualified"]
    return {e.translate(_UNSTYLED): e for e, data in emoji.EMOJI_DATA.items() if data["status"] == fully}


@cache
def _folds() -> dict[str, str]:
    """Unstyled form -> canonical emoji, of every emoji that we count."""
    known = _qualified().keys() - _DEBRIS
    return {key: _fold(key, known) for key in known}


def _fold(key: str, known: set[str]) -> str:
    plain = without_tone(key).replace(_ZWJ + "♀", "").replace(_ZWJ + "♂", "")
    plain = _SAME_AS.get(plain, plain)
    neutral = plain.translate(_NEUTRAL_PEOPLE) if _ZWJ in plain else plain
    neutral = _SAME_AS.get(neutral, neutral)
    return next(e for e in (neutral, plain, key) if e in known)
