r"""Emojis that an export or a wrong encoding turned into something else.

    &#128514; \ud83d\ude02 :joy: ðŸ˜‚ ─► each undone, twice ─► are there emojis now?

Such a text is told from one without emojis, so that nobody wonders where theirs went. It is not repaired: who
wrote the file knows what was done to it, and a guess would put emojis where people put none.
"""

import html
import re
from functools import cache

import emoji

from .text import extract

_ESCAPES = re.compile(r"(?:\\{1,4}(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}))+")
# :joy: and :100:, but no single letters, and not the 30 of 12:30:45; the last colon can begin another name.
_NAMES = re.compile(r":(?!\d+:)[^\s:]{2,100}(?=:)|(?<!\d):\d{2,4}(?=:(?!\d))")
_BYTES = {chr(byte): byte for byte in range(0x80, 0x100)}  # what a byte may have been read as
_BYTES |= {read: byte for byte in range(0x80, 0xA0) if (read := bytes([byte]).decode("cp1252", "ignore"))}
_MOJIBAKE = re.compile(f"[{''.join(_BYTES)}]{{3,}}")


def has_disguised(text: str) -> bool:
    """Whether emojis come out where escapes, HTML entities, :names: and UTF-8 read as Latin-1 are undone."""
    once = _undo(text)
    return once != text and bool(extract(once) or extract(_undo(once)))


def _undo(text: str) -> str:
    text = html.unescape(_ESCAPES.sub(_unescape, text))
    return _MOJIBAKE.sub(_reread, _NAMES.sub(_unname, text))


def _unescape(found: re.Match[str]) -> str:
    """What JSON and Python write for characters beyond ASCII: pairs of surrogates, code points, or bytes."""
    points = (int(each, 16) for each in re.findall("[xuU]([0-9a-fA-F]+)", found[0]))
    text = "".join(chr(point) for point in points if point <= 0x10FFFF)
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _unname(found: re.Match[str]) -> str:
    return _named().get(found[0][1:].lower(), found[0])


@cache
def _named() -> dict[str, str]:
    """The emoji of each name that is written between colons, as far as the `emoji` library knows them."""
    return {
        name.strip(":").lower(): each
        for each, data in emoji.EMOJI_DATA.items()
        if data["status"] == emoji.STATUS["fully_qualified"]
        for name in (data["en"], *data.get("alias", ()))
    }


def _reread(found: re.Match[str]) -> str:
    """UTF-8 that was read as Latin-1 or Windows-1252, read as UTF-8."""
    return bytes(_BYTES[each] for each in found[0]).decode(errors="replace")
