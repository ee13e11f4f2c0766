"""Text -> canonical emojis.

text -> runs of emoji characters -> the longest emoji at each position -> presentation rules -> canonical key

A canonical emoji is the key everything else counts by: variation selectors removed and, unless variants
are kept, skin tone and gender folded to the neutral emoji of the same meaning (👩🏽‍🚀 -> 🧑‍🚀, 🏃‍♀️ -> 🏃).

Every form of Unicode's emoji-test.txt gives exactly one canonical emoji, but for COMPONENTS, DEBRIS and
TEXT_UNLESS_STYLED below, which are left out on purpose. The emojis are those of the `emoji` library; the
search is ours, because its `emoji_list` loses ❤️ before a joiner that joins nothing, and splits 👩️‍🚀 for a
selector that it did not need.
"""

import re
from collections.abc import Collection
from functools import cache, lru_cache

import emoji

CANONICAL_VERSION = f"emoji-{emoji.__version__}/rules-3"
"""Canonical emojis are comparable only between equal versions: the emoji release and our rules."""

COMPONENTS = frozenset("🏻🏼🏽🏾🏿🦰🦱🦲🦳")
"""Skin tones and hair: never counted alone, they are parts of another emoji."""
DEBRIS = frozenset("♀♂⚕")
"""Never counted alone, however styled: what is left of broken joiner sequences."""
TEXT_UNLESS_STYLED = frozenset("©®™ℹⓂ‼⁉〰↔↕↖↗↘↙↩↪⤴⤵▪▫◻◼⚧♾✔✖")
"""Punctuation, marks and arrows of ordinary writing: emojis only where U+FE0F asks for it."""

_TEXT_STYLE, _EMOJI_STYLE, _ZWJ = "\ufe0e", "\ufe0f", "\u200d"
_UNSTYLED = str.maketrans("", "", _TEXT_STYLE + _EMOJI_STYLE)
_UNTONED = str.maketrans("", "", "🏻🏼🏽🏾🏿")
_NEUTRAL_PEOPLE = str.maketrans("👨👩👦👧", "🧑🧑🧒🧒")
_FLAGLESS = re.compile("[🇦-🇿]{2}")
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


def extract(text: str, *, keep_variants: bool = False) -> list[str]:
    """The canonical emojis of any text in reading order, repeats kept.

    A character followed by U+FE0E is text. Of those that are text by default, ♥ or ☀ count as they are
    (people post them bare), while © or ↔ count only before U+FE0F. Digits, # and * never count.
    """
    return [found for run in _runs().findall(text) for found in _emojis_of(run, keep_variants)]


@cache
def _runs() -> re.Pattern[str]:
    """Finds the runs of characters that can hold emojis, so that little else of a text is searched."""
    characters = {*"".join(_folds()), _TEXT_STYLE} - {*"0123456789#*"}
    exact = "".join(sorted(c for c in characters if not "\U0001f000" <= c < "\U00020000"))
    return re.compile(f"[0-9#*]?[{exact}{_EMOJI_STYLE}\U0001f000-\U0001ffff]+")


@lru_cache(2**14)  # people write the same few again and again
def _emojis_of(run: str, keep_variants: bool) -> tuple[str, ...]:
    """Leftmost first, the longest emoji at each position; a needless U+FE0F in it changes nothing.

    Regional indicators pair from the left, as they are drawn (Unicode's UAX #29, GB12 and GB13): 🇺🇸🇸🇺🇸 is the
    flag of the US, then S and U in a pair that is no flag, then S. Nothing is sought across such pairs: if an
    indicator was deleted, what follows it is not what somebody chose.
    """
    found, position = [], 0
    while position < len(run):
        last = min(position + _reach().get(run[position], 0), len(run))
        keys = ((end, run[position:end].replace(_EMOJI_STYLE, "")) for end in range(last, position, -1))
        end, key = next(((end, key) for end, key in keys if key in _folds()), (position + 1, None))
        if key and run[position:end] not in TEXT_UNLESS_STYLED and not run.startswith(_TEXT_STYLE, end):
            found.append(key if keep_variants else _folds()[key])
        if key is None and _FLAGLESS.match(run, position):
            end = position + 2
        position = end
    return tuple(found)


@cache
def _reach() -> dict[str, int]:
    """First character of an emoji -> how far the longest that begins with it goes, a selector after each."""
    reach = {}
    for key in _folds():
        reach[key[0]] = max(reach.get(key[0], 0), 2 * len(key))
    return reach


def canonical(emoji: str, *, keep_variants: bool = False) -> str | None:
    """The canonical key of one emoji, however it is styled; None when it is not one that we count."""
    key = emoji.translate(_UNSTYLED)
    folded = _folds().get(key)
    return key if keep_variants and folded else folded


def all_canonical(*, keep_variants: bool = False) -> list[str]:
    """Every canonical emoji, sorted by code points."""
    return sorted(_folds() if keep_variants else set(_folds().values()))


def is_listed(emoji: str, listed: Collection[str]) -> bool:
    """Whether a list has a canonical emoji; an entry without skin tone and gender stands for all variants."""
    return emoji in listed or canonical(emoji) in listed


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
    known = _qualified().keys() - DEBRIS
    return {key: _fold(key, known) for key in known}


def _fold(key: str, known: set[str]) -> str:
    plain = without_tone(key).replace(_ZWJ + "♀", "").replace(_ZWJ + "♂", "")
    plain = _SAME_AS.get(plain, plain)
    neutral = plain.translate(_NEUTRAL_PEOPLE) if _ZWJ in plain else plain
    neutral = _SAME_AS.get(neutral, neutral)
    return next(e for e in (neutral, plain, key) if e in known)
