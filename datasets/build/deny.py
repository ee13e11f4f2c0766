r"""What must not be learnt from: emojis, accounts, and posts with certain words.

    a file, one entry a line ─► DenyList ─► digest

An entry is an emoji, an `@account`, or a word or phrase: whole words, in any case, with any blanks between
them, however a phone spells them (see `fold`). Empty lines and lines that begin with `#` are skipped: `\#tag`
denies the hashtag #tag alone, `tag` the word with and without #.
"""

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from ..emojis.text import canonical, is_listed
from ..errors import InputError
from ..posts.post import Post

_PIECE = re.compile(r"\w+|\W")
_WORD = re.compile(r"\w")
_UNSPACED = re.compile(  # Han, Hiragana and Katakana, which are written without blanks
    "[\u2e80-\u2fdf\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U0001aff0-\U0001b16f\U00020000-\U0003ffff]"
)
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


@dataclass(frozen=True)
class DenyList:
    """Entries of each kind, sorted."""

    emojis: tuple[str, ...] = ()  # canonical
    accounts: tuple[str, ...] = ()  # folded, without @
    words: tuple[str, ...] = ()  # folded

    def fingerprint(self) -> str | None:
        """A hash of the entries, for the manifest: they may be names of people. None without entries."""
        if not (self.emojis or self.accounts or self.words):
            return None
        return hashlib.sha256(repr((self.emojis, self.accounts, self.words)).encode()).hexdigest()

    def account_of(self, post: Post) -> str:
        """The listed account that a post is of; empty where it is of none."""
        account = _account(post.account) if self.accounts else ""
        return account if account in self._accounts else ""

    def has_word(self, text: str) -> bool:
        """Whether a listed word or phrase stands in a text."""
        if not self.words:
            return False
        pieces = _pieces(fold(text))
        if self._lengths.keys().isdisjoint(pieces):
            return False
        return any(
            pieces[start : start + length] in self._words and _stands_alone(pieces, start, start + length)
            for start, piece in enumerate(pieces)
            for length in self._lengths.get(piece, ())
        )

    def has_emoji(self, emoji: str) -> bool:
        """Whether a canonical emoji is listed; an entry without skin tone and gender denies all variants."""
        return is_listed(emoji, self.emojis)

    @cached_property
    def _accounts(self) -> frozenset[str]:
        return frozenset(self.accounts)

    @cached_property
    def _words(self) -> frozenset[tuple[str, ...]]:
        return frozenset(map(_pieces, self.words))

    @cached_property
    def _lengths(self) -> dict[str, set[int]]:
        """The first piece of each entry -> how many pieces those have that begin with it."""
        lengths: dict[str, set[int]] = {}
        for pieces in self._words:
            lengths.setdefault(pieces[0], set()).add(len(pieces))
        return lengths


def read_deny_list(path: Path, *, keep_variants: bool = False) -> DenyList:
    """Read a file of entries. Raises InputError where it is not UTF-8."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8. Save it as UTF-8 text.") from error
    emojis, accounts, words = set(), set(), set()
    for line in filter(None, map(str.strip, lines)):
        if emoji := canonical(line, keep_variants=keep_variants):
            emojis.add(emoji)
        elif line.startswith("@") and line != "@":
            accounts.add(_account(line))
        elif not line.startswith("#"):
            word = line[1:] if line.startswith("\\#") else line
            words.add(fold(word))
    words.discard("")  # of format characters alone
    return DenyList(tuple(sorted(emojis)), tuple(sorted(accounts)), tuple(sorted(words)))


def fold(text: str) -> str:
    """A text in the one spelling in which it is compared.

    NFKC, in lower case, with straight apostrophes, without format characters such as soft hyphens, with one
    blank for many, and each character of Chinese and Japanese a word of its own.
    """
    if text.isascii():
        return " ".join(text.casefold().split())
    text = text.replace("™", " ").replace("℠", " ")  # which NFKC would make letters
    text = unicodedata.normalize("NFKC", text).casefold()
    for character in set(_NOT_ASCII.findall(text)):
        text = text.replace(character, _plain(character))
    return " ".join(unicodedata.normalize("NFKC", text).split())


@cache
def _plain(character: str) -> str:
    """What `fold` puts in the place of a character that is not ASCII."""
    if unicodedata.category(character) == "Cf":
        return ""
    if character in "‘’ʼ":
        return "'"
    return f" {character} " if _UNSPACED.match(character) else character


def _pieces(text: str) -> tuple[str, ...]:
    """A folded text as its words, blanks, and each other character alone."""
    return tuple(_PIECE.findall(text))


def _stands_alone(pieces: tuple[str, ...], start: int, stop: int) -> bool:
    """Whether no letter touches pieces[start:stop]: "c++" is not in "c++x", nor "++c" in "x++c"."""
    around = pieces[max(start - 1, 0) : start] + pieces[stop : stop + 1]
    return not any(map(_WORD.match, around))


def _account(name: str) -> str:
    return name.removeprefix("@").casefold()
