"""Telegram Desktop's export as JSON: result.json of one chat or of all, and the photos beside it.

    result.json ─► messages of a chat ─► those of one album together ─► Post

The photos of an album are messages of their own, of one moment and one sender; the caption is on one of them.
Reactions are counts. Stickers and videos are no images, service messages are no posts. The file is held in
memory as a whole, at ten times its size: export chat by chat where that is too much.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..archives import dig, image_inside, read_json, refuse_zip
from ..outcomes import BROKEN_ENTRY, IMAGE_NOT_EXPORTED, NO_CHATS, UNREADABLE_CHAT, UNREADABLE_CHATS
from ..paths import is_clean
from ..post import ImageFile, Post, Reject
from ..times import to_seconds


@dataclass(frozen=True)
class _Message:
    where: str
    id: str
    account: str
    album: str  # equal for the messages of one album
    text: str
    image: ImageFile | Reject | None  # a Reject where there was one that cannot be had
    reactions: tuple[tuple[str, int], ...]
    time: int | None


def recognises(source: Path) -> bool:
    """Whether there is a result.json that begins as Telegram's: other programs use the name, too."""
    path = _find(source)
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        head = file.read(4096)
    return b'"messages"' in head or b'"about"' in head


def read(source: Path, columns: Mapping[str, str]) -> Iterator[Post | Reject]:
    """Yield the messages of every chat as posts, in the order of the file.

    Raises:
        InputError: there is no result.json, or the export is packed.
    """
    path = _find(source)
    if not path.is_file():
        raise InputError(f"{source}: no result.json in it. Export from Telegram Desktop as JSON.")
    content = read_json(path)
    if isinstance(content, Reject):
        yield content
        return
    chats = [(path.name, content)] if dig(content, "messages") is not None else []
    for key in ("chats", "left_chats"):
        listed = dig(content, key, "list")
        if isinstance(listed, list):
            chats += [(f"{path.name} {key}[{number}]", chat) for number, chat in enumerate(listed)]
        elif dig(content, key) is not None:
            yield Reject(f"{path.name} {key}", UNREADABLE_CHATS, str(path))
    if not chats:
        yield Reject(path.name, NO_CHATS, str(path))
    for where, chat in chats:
        yield from _read_chat(chat, where, path)


def _find(source: Path) -> Path:
    refuse_zip(source)
    return source if source.name == "result.json" else source / "result.json"


def _read_chat(chat: Any, where: str, file: Path) -> Iterator[Post | Reject]:
    identity, entries = _number(dig(chat, "id")), dig(chat, "messages")
    if identity is None or not isinstance(entries, list):
        yield Reject(where, UNREADABLE_CHAT, str(file))
        return
    messages = (
        message
        for number, entry in enumerate(entries)
        if (message := _to_message(entry, f"{where}[{number}]", identity, file.parent))
    )
    for _, album in groupby(
        messages, key=lambda each: each.where if isinstance(each, Reject) else each.album
    ):
        yield from _to_posts(list(album))


def _to_posts(album: list[_Message | Reject]) -> Iterator[Post | Reject]:
    """One post with what was exported, and a Reject for each that was not."""
    yield from (each for each in album if isinstance(each, Reject))
    messages = [each for each in album if isinstance(each, _Message)]
    lost = [each.image for each in messages if isinstance(each.image, Reject)]
    images = tuple(each.image for each in messages if isinstance(each.image, ImageFile))
    yield from lost
    if not messages or (lost and not images):
        return
    caption = "\n".join(each.text for each in messages if each.text)
    reactions: Counter[str] = Counter()
    for emoji, count in (pair for each in messages for pair in each.reactions):
        reactions[emoji] += count
    first = messages[0]
    given = tuple(reactions.items())
    yield Post(first.id, first.account, images, caption, reactions=given, time=first.time)


def _to_message(entry: Any, where: str, chat: str, folder: Path) -> _Message | Reject | None:
    """None for a service message. A sender who is not told is the message's own account."""
    kind, number, sender = dig(entry, "type"), _number(dig(entry, "id")), dig(entry, "from_id")
    text, reactions = _text(dig(entry, "text")), _reactions(dig(entry, "reactions"))
    if kind == "service":
        return None
    if kind != "message" or number is None or text is None or reactions is None:
        return Reject(where, BROKEN_ENTRY)
    if not isinstance(sender, str | None) or not is_clean(sender or ""):
        return Reject(where, BROKEN_ENTRY)
    identity = f"{chat}/{number}"
    return _Message(
        where=where,
        id=f"telegram/{identity}",
        account=f"telegram/{sender or identity}",
        album=_album(entry) or where,
        text=text,
        image=_image(entry, where, folder),
        reactions=reactions,
        # Exports up to 2021 tell the exporter's local time alone: in order, if some hours off.
        time=to_seconds(dig(entry, "date_unixtime") or dig(entry, "date")),
    )


def _number(value: Any) -> str | None:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: Any) -> str | None:
    """The text of pieces, each plain or with a style; None where it is neither."""
    pieces = [each if isinstance(each, str) else dig(each, "text") for each in _as_list(value)]
    return "".join(pieces) if all(isinstance(piece, str) for piece in pieces) else None


def _as_list(value: Any) -> list:
    return value if isinstance(value, list) else [] if value is None else [value]


def _reactions(value: Any) -> tuple[tuple[str, int], ...] | None:
    """(emoji, count) of the reactions that are Unicode; None where they are broken."""
    pairs = []
    for each in _as_list(value):
        kind, emoji, count = (dig(each, key) for key in ("type", "emoji", "count"))
        if kind == "emoji":
            if not isinstance(emoji, str) or _number(count) is None or count < 1:
                return None
            pairs.append((emoji, count))
        elif not isinstance(kind, str):
            return None
    return tuple(pairs)


def _image(entry: Any, where: str, folder: Path) -> ImageFile | Reject | None:
    """The photo, or the image that was sent as a file."""
    name, kind = dig(entry, "photo"), dig(entry, "mime_type")
    if name is None and dig(entry, "media_type") is None and str(kind).startswith("image/"):
        name = dig(entry, "file")
    if name is None:
        return None
    if not isinstance(name, str):
        return Reject(where, BROKEN_ENTRY)
    if name.startswith("("):  # (File not included. Change data exporting settings to download.)
        return Reject(where, IMAGE_NOT_EXPORTED)
    return image_inside(folder, name, where)


def _album(entry: Any) -> str | None:
    """What the messages of one album have in common; None for a message without media.

    Messages that are forwarded together have one moment and one sender, too, but several origins.
    """
    if dig(entry, "photo") is None and dig(entry, "file") is None:
        return None
    moment = dig(entry, "date_unixtime") or dig(entry, "date")
    return repr((moment, dig(entry, "from_id"), dig(entry, "forwarded_from"))) if moment else None
