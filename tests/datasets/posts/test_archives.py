"""Exports of the platforms are read safely: nothing else is opened, and nothing in them is trusted."""

import copy
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emojigan.datasets.errors import InputError
from emojigan.datasets.posts.archives import dig, image_inside
from emojigan.datasets.posts.outcomes import BROKEN_FILES
from emojigan.datasets.posts.paths import is_clean
from emojigan.datasets.posts.post import ImageFile, Post, Reject
from emojigan.datasets.posts.read import FORMATS, detect, read_posts

JPEG = b"\xff\xd8\xff\xe0 a photo"
PRIVATE = b"nobody else's business"


@dataclass(frozen=True)
class Export:
    """A small export in its true layout."""

    documents: dict[str, Any]  # of JSON; the first one holds the posts
    first: tuple[str | int, ...]  # where the first entry lies in it; the last one is a post of its own
    files: dict[str, bytes]
    opened: set[str]
    single: str | None  # the file that may be named instead of the folder
    script: str = ""  # what stands before the JSON, with {} for the kind
    posts: int = 2
    kinds: dict[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        for name, content in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        for name, document in self.documents.items():
            self.write_document(folder, name, document)

    def write_document(self, folder: Path, name: str, document: Any) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(self.script.format(self.kinds.get(name)) + json.dumps(document))


INSTAGRAM = Export(
    documents={
        "your_instagram_activity/media/posts_1.json": [
            {
                "media": [
                    {"uri": "media/posts/202401/1.jpg", "creation_timestamp": 17, "title": "one"},
                    {"uri": "media/posts/202401/2", "creation_timestamp": 17, "title": ""},
                ],
                "title": "\u00f0\u009f\u0098\u008d",
                "creation_timestamp": 17,
            },
            {"media": [{"uri": "media/posts/202401/3.jpg", "creation_timestamp": 18, "title": "two"}]},
        ]
    },
    first=(0,),
    files={
        "media/posts/202401/1.jpg": JPEG,
        "media/posts/202401/2": JPEG,
        "media/posts/202401/3.jpg": JPEG,
        "your_instagram_activity/messages/inbox/ann_1/message_1.json": PRIVATE,
        "your_instagram_activity/media/stories.json": PRIVATE,
        "personal_information/personal_information.json": PRIVATE,
    },
    opened={"your_instagram_activity/media/posts_1.json", "media/posts/202401/2"},
    single="your_instagram_activity/media/posts_1.json",
)
PHOTO = {
    "type": "photo",
    "media_url": "http://pbs.twimg.com/media/A.jpg",
    "media_url_https": "https://p/A.jpg",
}
X = Export(
    documents={
        "data/tweets.js": [
            {
                "tweet": {
                    "id_str": "11",
                    "full_text": "one &amp; only https://t.co/a",
                    "entities": {"media": [PHOTO]},
                    "extended_entities": {"media": [PHOTO, {"type": "video", "media_url": "http://p/B.jpg"}]},
                }
            },
            {"tweet": {"id_str": "12", "full_text": "two"}},
        ],
        "data/account.js": [{"account": {"accountId": "7", "email": "ann@example.org"}}],
        "data/note-tweet.js": [{"noteTweet": {"noteTweetId": "5", "core": {"text": "a long one " * 40}}}],
    },
    first=(0,),
    files={
        "data/tweets_media/11-A.jpg": JPEG,
        "data/direct-messages.js": PRIVATE,
        "data/deleted-tweets.js": PRIVATE,
        "data/tweet-headers.js": PRIVATE,
        "data/like.js": PRIVATE,
        "assets/images/twemoji/v/latest/72x72/1f60d.png": PRIVATE,
    },
    opened={"data/tweets.js", "data/account.js", "data/note-tweet.js"},
    single="data/tweets.js",
    script="window.YTD.{}.part0 = ",
    kinds={"data/tweets.js": "tweets", "data/account.js": "account", "data/note-tweet.js": "note_tweet"},
)
PUBLIC = "https://www.w3.org/ns/activitystreams#Public"
ANN = "https://example.org/users/ann"
MASTODON = Export(
    documents={
        "outbox.json": {
            "@context": "https://www.w3.org/ns/activitystreams",
            "type": "OrderedCollection",
            "orderedItems": [
                {
                    "type": "Create",
                    "actor": ANN,
                    "to": [PUBLIC],
                    "cc": [f"{ANN}/followers"],
                    "object": {
                        "id": f"{ANN}/statuses/{number}",
                        "type": "Note",
                        "content": "<p>hello &amp; 😍<br>you</p>",
                        "attachment": [
                            {
                                "type": "Document",
                                "mediaType": "image/jpeg",
                                "url": f"/media_attachments/files/{number}/original/x.jpeg",
                            }
                        ],
                    },
                }
                for number in (1, 2)
            ],
        }
    },
    first=("orderedItems", 0),
    files={
        "media_attachments/files/1/original/x.jpeg": JPEG,
        "media_attachments/files/2/original/x.jpeg": JPEG,
        "actor.json": PRIVATE,
        "likes.json": PRIVATE,
        "bookmarks.json": PRIVATE,
    },
    opened={"outbox.json"},
    single="outbox.json",
)
TELEGRAM = Export(
    documents={
        "result.json": {
            "name": "Us",
            "type": "private_group",
            "id": 9,
            "messages": [
                {
                    "id": number,
                    "type": "message",
                    "date": "2022-07-07T09:35:27",
                    "date_unixtime": str(1657186527 + number),
                    "from": "Ann",
                    "from_id": "user1",
                    "photo": f"photos/photo_{number}@07-07-2022_09-35-27.jpg",
                    "text": ["hi ", {"type": "bold", "text": "😍"}],
                    "reactions": [{"type": "emoji", "count": 2, "emoji": "👍"}],
                }
                for number in (1, 2)
            ],
        }
    },
    first=("messages", 0),
    files={
        "photos/photo_1@07-07-2022_09-35-27.jpg": JPEG,
        "photos/photo_2@07-07-2022_09-35-27.jpg": JPEG,
        "files/passport.pdf": PRIVATE,
    },
    opened={"result.json"},
    single="result.json",
)
STEM = "ann/2023-11-14_22-13-2{}_UTC"
INSTALOADER = Export(
    documents={
        STEM.format(0) + ".json": {
            "instaloader": {"node_type": "Post", "version": "4.16"},
            "node": {
                "__typename": "GraphSidecar",
                "shortcode": "abc",
                "is_video": False,
                "owner": {"id": "5", "username": "ann"},
                "edge_media_to_caption": {"edges": [{"node": {"text": "hi 😍"}}]},
                "edge_sidecar_to_children": {
                    "edges": [{"node": {"is_video": False}}, {"node": {"is_video": True}}]
                },
            },
        },
        STEM.format(0) + "_comments.json": [{"id": 1, "text": "wow", "answers": [{"id": 2, "text": "😂"}]}],
    },
    first=(),
    files={
        STEM.format(0) + "_1.jpg": JPEG,
        STEM.format(0) + "_2.jpg": JPEG,
        STEM.format(0) + ".txt": b"hi\n",
        STEM.format(1) + ".jpg": JPEG,
        STEM.format(1) + ".txt": b"no JSON\n",
        "ann/id": b"5\n",
        "ann/2023-11-14_22-13-20_UTC_profile_pic.jpg": PRIVATE,
        "ann/iterator_x.json.xz": PRIVATE,
        "ann/2023-11-14_22-13-20_UTC_location.txt": PRIVATE,
    },
    opened={STEM.format(0) + ".json", STEM.format(0) + "_comments.json", STEM.format(1) + ".txt", "ann/id"},
    single=None,
)
EXPORTS = {
    "instagram": INSTAGRAM,
    "x": X,
    "mastodon": MASTODON,
    "telegram": TELEGRAM,
    "instaloader": INSTALOADER,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each export, whole."""
    found = {name: tmp_path_factory.mktemp(name) for name in EXPORTS}
    for name, folder in found.items():
        EXPORTS[name].write(folder)
    return found


@pytest.fixture(scope="session")
def watched() -> Callable[[], list[str]]:
    """Start over the list of the files that this process opens, and give it."""
    opened: list[str] = []

    def watch(event: str, arguments: tuple) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            opened.append(os.fsdecode(arguments[0]))

    sys.addaudithook(watch)  # cannot be taken away again; it keeps names only

    def restart() -> list[str]:
        opened.clear()
        return opened

    return restart


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_is_recognised_by_its_own_format_alone(folders, name):
    modules = {each: import_module(f"emojigan.datasets.posts.formats.{each}") for each in FORMATS}
    assert [each for each in FORMATS if modules[each].recognises(folders[name])] == [name]
    if single := EXPORTS[name].single:
        assert [each for each in FORMATS if modules[each].recognises(folders[name] / single)] == [name]


@pytest.mark.parametrize("name", EXPORTS)
def test_every_post_comes_with_images_that_are_there(folders, name):
    posts = list(read_posts([folders[name]]))
    assert len(posts) == EXPORTS[name].posts
    assert all(isinstance(post, Post) and post.id.startswith(f"{name}/") for post in posts)
    images = [image for post in posts for image in post.images]
    assert images and {image.read() for image in images} == {JPEG}


@pytest.mark.parametrize("name", [name for name in EXPORTS if EXPORTS[name].single])
def test_the_file_gives_the_same_posts_as_the_folder(folders, name):
    assert list(read_posts([folders[name] / EXPORTS[name].single])) == list(read_posts([folders[name]]))


@pytest.mark.parametrize("name", EXPORTS)
def test_only_the_files_that_are_needed_are_opened(folders, watched, name):
    folder = folders[name]
    list(read_posts([folder]))  # what is imported is opened before
    opened = watched()
    list(read_posts([folder]))
    inside = {os.path.relpath(path, folder) for path in opened if path.startswith(f"{folder}{os.sep}")}
    assert inside == EXPORTS[name].opened


@pytest.mark.parametrize("form", EXPORTS)
def test_packed_export_is_refused_with_what_to_do(tmp_path, form):
    (tmp_path / "export.ZIP").write_bytes(b"PK\3\4")
    for each in ("auto", form):
        with pytest.raises(InputError, match=r"export\.ZIP: unpack it first"):
            list(read_posts([tmp_path / "export.ZIP"], each))


@pytest.mark.parametrize("form", EXPORTS)
def test_other_folder_is_not_recognised_and_refused_or_empty(tmp_path, form):
    (tmp_path / "a.jpg").write_bytes(JPEG)
    (tmp_path / "result.json").write_text('{"accuracy": 1}')
    with pytest.raises(InputError, match="not a format"):
        detect(tmp_path)
    if form in ("telegram", "instaloader"):
        assert all(isinstance(each, Reject) for each in read_posts([tmp_path], form))
    else:
        with pytest.raises(InputError, match=f"{tmp_path.name}: no "):
            list(read_posts([tmp_path], form))


def paths(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path of every value within a document."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from paths(each, (*path, key))


def changed(document: Any, path: tuple, value: Any) -> Any:
    """The document with another value in one place."""
    if not path:
        return value
    document = copy.deepcopy(document)
    dig(document, *path[:-1])[path[-1]] = value
    return document


ODD = [
    "../../x.jpg",
    "/etc/passwd",
    "..\\x",
    "C:\\x",
    "a\0b",
    "\ud800",
    "",
    "<![x[",
    "(File",
    "RT @a",
    "..",
    "service",
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(ODD),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("name", "document"), [(name, each) for name, export in EXPORTS.items() for each in export.documents]
)
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_in_any_place_gives_posts_and_rejects(folders, name, document, data):
    export, folder = EXPORTS[name], folders[name]
    whole = export.documents[document]
    untouched = list(read_posts([folder], name))
    path = data.draw(st.sampled_from(list(paths(whole))))
    try:
        export.write_document(folder, document, changed(whole, path, data.draw(VALUES)))
        found = list(read_posts([folder], name))
    finally:
        export.write_document(folder, document, whole)
    for each in found:
        if isinstance(each, Post):
            assert is_clean(each.id, each.account) and isinstance(each.caption, str)
            assert all(isinstance(text, str) for text in each.comments)
            for image in each.images:
                assert os.path.normpath(image.path).startswith(f"{folder}{os.sep}")
        else:
            assert isinstance(each, Reject) and each.reason
            assert bool(each.file) == (each.reason in BROKEN_FILES)
    if document == next(iter(export.documents)) and path[: len(export.first)] == export.first:
        assert found[-1] == untouched[-1]  # the next post does not suffer


@pytest.mark.parametrize(
    ("name", "document"), [(name, each) for name, export in EXPORTS.items() for each in export.documents]
)
@given(content=st.binary(max_size=40) | st.sampled_from([b"", b"[" * 100_000, b"=[" + b"9" * 5000 + b"]"]))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_as_a_file_are_told(folders, name, document, content):
    path = folders[name] / document
    try:
        path.write_bytes(content)
        found = list(read_posts([folders[name]], name))
    finally:
        EXPORTS[name].write_document(folders[name], document, EXPORTS[name].documents[document])
    assert any(isinstance(each, Reject) for each in found) or content.strip().endswith((b"[]", b"{}"))


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "/x", "//x", "..", "a\\..\\..\\x", "\\x", "C:x", "C:/x", "\\\\host\\share\\x"],
)
def test_image_outside_of_the_export_is_rejected(tmp_path, name):
    assert image_inside(tmp_path, name, "here") == Reject("here", "image outside the export")


@pytest.mark.parametrize(
    "name", ["a.jpg", "a/b.jpg", "./a..b/c..jpg", "photo_1@07-07-2022_09-35-27.jpg", "é 😍.jpg"]
)
def test_image_inside_of_the_export_is_taken(tmp_path, name):
    assert image_inside(tmp_path, name, "here") == ImageFile(str(tmp_path / name))
