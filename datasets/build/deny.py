r"""What must not be learnt from: emojis, accounts, and posts with certain words.

    a file, one entry a line ─► DenyList ─► digest

An entry is an emoji, an `@account`, or a word or phrase (whole words, in any case, with any blanks between
them). Empty lines and lines that begin with `#` are skipped: `\#tag` denies the hashtag #tag alone, `tag` the
word with and without #.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..emojis.text import canonical
from ..errors import InputError
from ..posts.post import Post

_PIECE = re.compile(r"\w+|\W")
_WORD = re.compile(r"\w")


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

    def has_account(self, post: Post) -> bool:
        """Whether the post is of a listed account."""
        return bool(self.accounts) and _account(post.account) in self._accounts

    def has_word(self, text: str) -> bool:
        """Whether a listed word or phrase stands in a text."""
        if not self.words:
            return False
        pieces = _pieces(text.casefold())
        if self._lengths.keys().isdisjoint(pieces):
            return False
        return any(
            pieces[start : start + length] in self._words and _stands_alone(pieces, start, start + length)
            for start, piece in enumerate(pieces)
            for length in self._lengths.get(piece, ())
        )

    def has_emoji(self, emoji: str) -> bool:
        """Whether a canonical emoji is listed; an entry without skin tone and gender denies all variants."""
        return emoji in self.emojis or canonical(emoji) in self.emojis

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
            words.add(" ".join(word.casefold().split()))
    return DenyList(tuple(sorted(emojis)), tuple(sorted(accounts)), tuple(sorted(words)))


def _pieces(text: str) -> tuple[str, ...]:
    """A folded text as its words, blanks, and each other character alone; blanks in a row are one."""
    return tuple(_PIECE.findall(" ".join(text.split())))


def _stands_alone(pieces: tuple[str, ...], start: int, stop: int) -> bool:
    """Whether no letter touches pieces[start:stop]: "c++" is not in "c++x", nor "++c" in "x++c"."""
    around = pieces[max(start - 1, 0) : start] + pieces[stop : stop + 1]
    return not any(map(_WORD.match, around))


def _account(name: str) -> str:
    return name.removeprefix("@").casefold()
