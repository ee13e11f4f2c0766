"""Archives of one person's posts, as the platforms write them: each with pictures that are like no others."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from .conftest import EMOJIS
from .datasets.posts.formats.test_instagram import POST_FOLDERS, damaged, medium
from .datasets.posts.formats.test_mastodon import attached, create
from .datasets.posts.formats.test_x import script, tweet

NUM_POSTS = 120
CAPTIONS = [f"number {number} {EMOJIS[number % 4]}" for number in range(NUM_POSTS)]


def instagram(folder: Path) -> Path:
    """The export of somebody whose hash lies in the share of test: by account, nothing would be in train."""
    export = folder / "instagram-leo-2024-05-01-x1Y2"
    uris = [f"media/posts/{number}.jpg" for number in range(NUM_POSTS)]
    posts = [{"media": [medium(uri, damaged(text))]} for uri, text in zip(uris, CAPTIONS, strict=True)]
    _write(export / POST_FOLDERS[0] / "posts_1.json", json.dumps(posts))
    _draw(export, uris)
    return export


def x(folder: Path) -> Path:
    tweets = [tweet(str(n), f"{text} https://t.co/x", (f"{n}.jpg",)) for n, text in enumerate(CAPTIONS)]
    _write(folder / "data/tweets.js", script("tweets", tweets))
    _write(folder / "data/account.js", script("account", [{"account": {"accountId": "77"}}]))
    _draw(folder / "data/tweets_media", [f"{n}-{n}.jpg" for n in range(NUM_POSTS)])
    return folder


def mastodon(folder: Path) -> Path:
    urls = [f"media_attachments/files/{n}/original/a.jpg" for n in range(NUM_POSTS)]
    items = [
        create(
            n, (attached(f"/{url}"),), content=f"<p>{text}</p>", published=f"2024-01-01T00:{n % 60:02}:00Z"
        )
        for n, (url, text) in enumerate(zip(urls, CAPTIONS, strict=True))
    ]
    _write(folder / "outbox.json", json.dumps({"orderedItems": items}))
    _draw(folder, urls)
    return folder


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def _draw(folder: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (64, 80, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
