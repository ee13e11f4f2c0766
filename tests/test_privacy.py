"""No name of an account, nor of a folder that is called after one, is in any byte that a build writes."""

import json
from pathlib import Path

import pytest
from PIL import Image

from emojigan.datasets.build.dataset import build_shards
from emojigan.datasets.build.options import BuildOptions
from emojigan.datasets.build.survey import Source
from emojigan.datasets.posts.post import Post
from emojigan.datasets.posts.read import read_posts
from emojigan.datasets.store.folder import LocalFolder

NAME = "rumpelstiltskin"


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64), (10, 200, len(path.name))).save(path)


def instagram(folder: Path) -> Path:
    export = folder / f"instagram-{NAME}-2024-05-01-x1Y2"
    picture(export / "media/posts/0.jpg")
    media = [{"uri": "media/posts/0.jpg", "creation_timestamp": 1, "title": "\\u00f0\\u009f\\u0094\\u00a5"}]
    (export / "content").mkdir()
    text = json.dumps([{"media": media}]).replace("\\\\u", "\\u")
    (export / "content" / "posts_1.json").write_text(text)
    return export


def mastodon(folder: Path) -> Path:
    export = folder / "archive"
    picture(export / "media_attachments/files/1/original/a.jpg")
    me = f"https://mas.to/users/{NAME}"
    note = {
        **{"id": f"{me}/statuses/1", "type": "Note", "content": "<p>🔥</p>"},
        "attachment": [{"mediaType": "image/jpeg", "url": "/media_attachments/files/1/original/a.jpg"}],
    }
    public = "https://www.w3.org/ns/activitystreams#Public"
    item = {"type": "Create", "actor": me, "object": note, "to": [public]}
    (export / "outbox.json").write_text(json.dumps({"type": "OrderedCollection", "orderedItems": [item]}))
    return export


def instaloader(folder: Path) -> Path:
    profile = folder / NAME
    for second in (20, 21):
        picture(profile / f"2023-11-14_22-13-{second}_UTC.jpg")
    (profile / "2023-11-14_22-13-20_UTC.txt").write_text("🔥\n", encoding="utf-8")
    (profile / "2023-11-14_22-13-21_UTC.txt").write_bytes(b"\xff\xfe broken")
    return profile


@pytest.mark.parametrize("export", [instagram, mastodon, instaloader])
def test_names_are_in_no_byte_that_is_written(export, tmp_path):
    source, out = export(tmp_path), tmp_path / "out"
    assert any(isinstance(post, Post) and post.images for post in read_posts([source]))
    options = BuildOptions(min_count=1, val_share=0, test_share=0)
    manifest = build_shards(Source([source]), LocalFolder(out), options, workers=1, max_bad=1)
    assert manifest is not None and manifest.vocabulary == {"🔥": 1}
    for path in out.rglob("*"):
        assert NAME not in str(path.relative_to(out))
        assert path.is_dir() or NAME.encode() not in path.read_bytes(), path
