"""A Mastodon archive: outbox.json, and the images in media_attachments.

    outbox.json ─► what the account wrote itself ─► HTML to text ─► Post

Boosts of others (Announce) are passed over, and so are direct messages and notes to oneself, which stand in
the same file. A custom emoji is no Unicode: its :name: stays in the text. The outbox is held in memory as a
whole.
"""

from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..archives import dig, hidden, image_inside, read_list, refuse_zip
from ..outcomes import BROKEN_ENTRY
from ..paths import is_clean
from ..post import ImageFile, Post, Reject
from ..times import to_seconds

_MEDIA = "media_attachments/"
_PUBLIC = {"https://www.w3.org/ns/activitystreams#Public", "as:Public", "Public"}


def recognises(source: Path) -> bool:
    """Whether there is an outbox.json."""
    return _find(source).is_file()


def read(source: Path, columns: Mapping[str, str]) -> Iterator[Post | Reject]:
    """Yield what the account posted, in the order of the outbox.

    Raises:
        InputError: there is no outbox, or the archive is packed.
    """
    outbox = _find(source)
    if not outbox.is_file():
        raise InputError(f"{source}: no outbox.json in it.")
    for where, entry in read_list(outbox, "orderedItems"):
        post = entry if isinstance(entry, Reject) else _to_post(entry, where, outbox.parent)
        if post:
            yield post


def to_text(content: str) -> str:
    """The text of a post's HTML: a line for each <br>, an empty one between paragraphs.

    Raises:
        ValueError: the parser gives up, as it does on "<![x[".
    """
    parser = _Text()
    try:
        parser.feed(content)
        parser.close()
    except AssertionError as error:
        raise ValueError(str(error)) from error
    return "".join(parser.pieces).strip()


class _Text(HTMLParser):
    def __init__(self):
        super().__init__()
        self.pieces: list[str] = []

    def handle_data(self, data: str):
        self.pieces.append(data)

    def handle_starttag(self, tag: str, attrs: list):
        if tag == "br":
            self.pieces.append("\n")

    def handle_endtag(self, tag: str):
        if tag == "p":
            self.pieces.append("\n\n")


def _find(source: Path) -> Path:
    refuse_zip(source)
    return source if source.name == "outbox.json" else source / "outbox.json"


def _to_post(entry: Any, where: str, folder: Path) -> Post | Reject | None:
    """None for what is no post of the account's own."""
    kind, actor, note = (dig(entry, key) for key in ("type", "actor", "object"))
    if not isinstance(kind, str):
        return Reject(where, BROKEN_ENTRY)
    if kind != "Create" or _is_private(entry, actor):
        return None
    identity, content = dig(note, "id"), dig(note, "content")
    if not isinstance(identity, str) or not identity or not isinstance(content, str):
        return Reject(where, BROKEN_ENTRY)
    account = hidden(identity) if actor in (None, "") and is_clean(identity) else actor
    if not isinstance(account, str) or not is_clean(identity, account):
        return Reject(where, BROKEN_ENTRY)
    images = _images(note, where, folder)
    if isinstance(images, Reject):
        return images
    try:
        text = to_text(content)
    except ValueError:
        return Reject(where, BROKEN_ENTRY)
    time = to_seconds(dig(note, "published"))
    return Post(f"mastodon/{hidden(identity)}", f"mastodon/{account}", images, text, time=time)


def _is_private(entry: Any, actor: Any) -> bool:
    """Whether it is addressed neither to the public nor to all followers of its author.

    Mastodon (app/lib/activitypub/tag_manager.rb) addresses a direct message to those whom it mentions, and if
    one is a group to the group's followers, too; a note to oneself, which mentions nobody, to nobody. An
    entry that does not say at all to whom it is addressed is not Mastodon's, and taken for public.
    """
    if not {"to", "cc"} & entry.keys():
        return False
    addressed = [dig(entry, key) for key in ("to", "cc")]
    readers = [each for some in addressed for each in (some if isinstance(some, list) else [some])]
    return not any(
        each in _PUBLIC or each == f"{actor}/followers" for each in readers if isinstance(each, str)
    )


def _images(note: Any, where: str, folder: Path) -> tuple[ImageFile, ...] | Reject:
    attachments = dig(note, "attachment") or []
    if not isinstance(attachments, list):
        return Reject(where, BROKEN_ENTRY)
    images = []
    for attachment in attachments:
        kind, url = dig(attachment, "mediaType"), dig(attachment, "url")
        if not isinstance(kind, str) or not isinstance(url, str):
            return Reject(where, BROKEN_ENTRY)
        if kind.startswith("image/"):
            path = url.lstrip("/")
            # Some servers write the name of their store before the path, which the archive may lack.
            if path.find(_MEDIA) > 0 and not (folder / path).is_file():
                path = path[path.find(_MEDIA) :]
            image = image_inside(folder, path, where)
            if isinstance(image, Reject):
                return image
            images.append(image)
    return tuple(images)
