"""An archive of X (Twitter): data/tweets.js with its parts, and the photos in data/tweets_media.

    account.js ─► account      note-tweet.js ─► long texts
    tweets.js, tweets-part1.js… ─► no retweets ─► text unescaped, its last links gone ─► Post

Retweets are not the account's own words, and come without media: they are passed over. Nothing else of the
archive is opened, which holds direct messages, too. A tweets.js is held in memory as a whole.
"""

import html
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..archives import dig, image_inside, read_json, read_list, refuse_zip
from ..outcomes import BROKEN_ENTRY, NO_ACCOUNT
from ..paths import is_clean
from ..post import ImageFile, Post, Reject
from ..times import to_seconds

_PART = re.compile(r"tweets?(?:-part(\d+))?\.js")
_LAST_LINK = re.compile(r"https://t\.co/\w+\Z")
_SHORTEST_NOTE = 100  # characters that a tweet and its long text share at least; tweets are cut near 280


def recognises(source: Path) -> bool:
    """Whether there is a tweets.js, or the tweet.js of older archives."""
    return bool(_find(source))


def read(source: Path, columns: Mapping[str, str]) -> Iterator[Post | Reject]:
    """Yield the tweets of an archive, retweets excepted, in the order of its files.

    Raises:
        InputError: there are no tweets, or the archive is packed.
    """
    parts = _find(source)
    if not parts:
        raise InputError(f"{source}: no data/tweets.js in it.")
    data = parts[0].parent
    account = _read_account(data)
    if isinstance(account, Reject):
        yield account
        account = None
    notes: dict[str, list[str]] = {}  # beginning of a long text → the texts
    for note in _read_notes(data):
        if isinstance(note, Reject):
            yield note
        else:
            notes.setdefault(note[:_SHORTEST_NOTE], []).append(note)
    media = data / ("tweets_media" if (data / "tweets_media").is_dir() else "tweet_media")
    for part in parts:
        for where, entry in read_list(part, after=b"="):
            post = entry if isinstance(entry, Reject) else _to_post(entry, where, media, account, notes)
            if post:
                yield post


def _find(source: Path) -> list[Path]:
    """The files of tweets, by their number; archives of 2018 have no folder `data`."""
    refuse_zip(source)
    if source.is_file():
        return [source] if _PART.fullmatch(source.name) else []
    for folder in (source / "data", source):
        named = [(path, _PART.fullmatch(path.name)) for path in folder.glob("tweet*.js")]
        if found := sorted((int(part[1] or 0), path) for path, part in named if part):
            return [path for _, path in found]
    return []


def _read_account(data: Path) -> str | Reject | None:
    """The account's number; None in archives from which the file was taken out."""
    path = data / "account.js"
    if not path.exists():
        return None
    content = read_json(path, after=b"=")
    number = dig(content, 0, "account", "accountId")
    if isinstance(number, str) and number and is_clean(number):
        return number
    return content if isinstance(content, Reject) else Reject(path.name, NO_ACCOUNT, str(path))


def _read_notes(data: Path) -> Iterator[str | Reject]:
    path = data / "note-tweet.js"
    if not path.exists():
        return
    for where, entry in read_list(path, after=b"="):
        text = dig(entry, "noteTweet", "core", "text")
        if isinstance(text, str):
            yield text
        else:
            yield entry if isinstance(entry, Reject) else Reject(where, BROKEN_ENTRY)


def _to_post(
    entry: Any, where: str, folder: Path, account: str | None, notes: Mapping[str, list[str]]
) -> Post | Reject | None:
    """None for a retweet. Without an account the tweet is its own, as in a table."""
    tweet = dig(entry, "tweet") or entry  # archives of 2018 have the tweet itself
    identity, text = dig(tweet, "id_str"), dig(tweet, "full_text")
    if not isinstance(identity, str) or not identity or not is_clean(identity) or not isinstance(text, str):
        return Reject(where, BROKEN_ENTRY)
    if text.startswith("RT @"):
        return None
    images = _images(tweet, identity, where, folder)
    if isinstance(images, Reject):
        return images
    text = _whole(html.unescape(_without_last_links(text)), notes)
    time = _time(dig(tweet, "created_at"))
    return Post(f"x/{identity}", f"x/{account or identity}", images, text, time=time)


def _time(value: Any) -> int | None:
    """The seconds of "Wed Feb 22 10:00:00 +0000 2023"; None for anything else."""
    try:
        return to_seconds(datetime.strptime(value, "%a %b %d %H:%M:%S %z %Y"))
    except (TypeError, ValueError):
        return None


def _images(tweet: Any, identity: str, where: str, folder: Path) -> tuple[ImageFile, ...] | Reject:
    """The photos; `entities` would name only the first of them. Videos are left out."""
    media = dig(tweet, "extended_entities", "media")
    if media is None:
        return () if dig(tweet, "extended_entities") is None else Reject(where, BROKEN_ENTRY)
    if not isinstance(media, list):
        return Reject(where, BROKEN_ENTRY)
    images = []
    for medium in media:
        kind, url = dig(medium, "type"), dig(medium, "media_url") or dig(medium, "media_url_https")
        if not isinstance(kind, str) or (kind == "photo" and not isinstance(url, str)):
            return Reject(where, BROKEN_ENTRY)
        if kind == "photo":
            image = image_inside(folder, f"{identity}-{url.rpartition('/')[2]}", where)
            if isinstance(image, Reject):
                return image
            images.append(image)
    return tuple(images)


def _without_last_links(text: str) -> str:
    """The text before the links at its end, which stand for its media or a quoted tweet."""
    text = text.rstrip()
    while link := _LAST_LINK.search(text):
        text = text[: link.start()].rstrip()
    return text


def _whole(text: str, notes: Mapping[str, list[str]]) -> str:
    """The long text that a tweet begins, found by that beginning: the two share no number."""
    beginning = text.removesuffix("…").rstrip()
    found = {note for note in notes.get(beginning[:_SHORTEST_NOTE], ()) if note.startswith(beginning)}
    return found.pop() if len(beginning) >= _SHORTEST_NOTE and len(found) == 1 else text
