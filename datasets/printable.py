"""What may be written where a terminal shows it, or a log that people read.

Names and ids come from other people, and messages of servers from anywhere: a terminal would obey the control
characters in them, and an address may hold a password.
"""

import json
import re

# Control characters and lone surrogates; and what turns the direction of writing, so that one name looks like
# another.
_UNPRINTABLE = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# user:password@ of an address. Some take a password with slashes in it, unless it is only a name.
_CREDENTIALS = re.compile(r"(?<=://)(?:[^/?#\s]*|[^/?#\s:@]+:[^\s@]*)@")


def printable(text: object) -> str:
    r"""`text` in one line that is safe to print: `\x1b` for an escape, `https://***@host` for a password."""
    masked = _CREDENTIALS.sub("***@", str(text))
    return _UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], masked)


def printable_json(content: object, indent: int | None = None) -> str:
    """`content` as JSON with its emojis as they are; what a terminal would obey is escaped as JSON does."""
    text = json.dumps(content, ensure_ascii=False, indent=indent)
    return _UNPRINTABLE.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)
