"""A Mastodon outbox: what the account wrote itself, as text, with its images."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emojigan.datasets.posts.archives import hidden
from emojigan.datasets.posts.formats.mastodon import to_text
from emojigan.datasets.posts.post import ImageFile, Post, Reject
from emojigan.datasets.posts.read import read_posts

ANN = "https://example.org/users/ann"
PUBLIC = "https://www.w3.org/ns/activitystreams#Public"


def create(number: int = 1, attachment: tuple = (), **note) -> dict:
    content = {"id": f"{ANN}/statuses/{number}", "type": "Note", "content": "<p>hi</p>", "summary": None}
    return {
        "id": f"{ANN}/statuses/{number}/activity",
        "type": "Create",
        "actor": ANN,
        "to": [PUBLIC],
        "cc": [f"{ANN}/followers"],
        "object": content | {"attachment": list(attachment)} | note,
    }


def attached(url: str, kind: str = "image/jpeg") -> dict:
    return {"type": "Document", "mediaType": kind, "url": url, "name": "alt 🐶", "blurhash": "U"}


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., list[Post | Reject]]:
    """Write an outbox, and read it."""

    def write_and_read(*items) -> list[Post | Reject]:
        outbox = {"id": "outbox.json", "type": "OrderedCollection", "orderedItems": items}
        (tmp_path / "outbox.json").write_text(json.dumps(outbox))
        return list(read_posts([tmp_path]))

    return write_and_read


def test_post_has_the_ids_of_the_web(read, tmp_path):
    url = "/media_attachments/files/109/original/a.jpeg"
    image = ImageFile(str(tmp_path / url[1:]))
    assert read(create(7, [attached(url)])) == [
        Post(f"mastodon/{hidden(ANN + '/statuses/7')}", f"mastodon/{ANN}", (image,), "hi")
    ]


def test_time_is_that_of_its_publication(read):
    first, second = read(create(1, published="2023-02-22T10:00:00Z"), create(2))
    assert (first.time, second.time) == (1677060000, None)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("<p>one<br>two<br />three</p>", "one\ntwo\nthree"),
        ("<p>one</p><p>two</p>", "one\n\ntwo"),
        ("<p>me &amp; you &lt;3 &#128525; &hearts;</p>", "me & you <3 😍 ♥"),
        ('<p>a <a href="https://x.org/😍"><span class="invisible">https://</span>x</a></p>', "a https://x"),
        ("<p>:blobcat: hi 👩‍🚀</p>", ":blobcat: hi 👩‍🚀"),
        ("no tags", "no tags"),
        ("a < b &", "a < b &"),
        ("", ""),
    ],
)
def test_html_becomes_text(content, text):
    assert to_text(content) == text


@given(st.text(st.sampled_from("<>!-[]/&;#? apxBR😍\"'=\n\0")))
def test_any_html_is_text_or_a_value_error(content):
    try:
        assert isinstance(to_text(content), str)
    except ValueError:
        assert "<![" in content


def test_broken_html_is_rejected(read):
    assert read(create(content="<![x[")) == [Reject("outbox.json[0]", "broken entry")]


@pytest.mark.parametrize("kind", ["video/mp4", "audio/ogg"])
def test_attachment_that_is_no_image_is_left_out(read, kind):
    (post,) = read(create(attachment=[attached("/media_attachments/a.mp4", kind)]))
    assert post.images == ()


@pytest.mark.parametrize(
    "prefix", ["", "/", "/indiewebsocial/", "https://files.example.org/", "/system/cache/"]
)
def test_what_stands_before_the_path_is_tolerated(read, tmp_path, prefix):
    path = "media_attachments/files/109/original/a.jpeg"
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_bytes(b"image")
    (post,) = read(create(attachment=[attached(prefix + path)]))
    assert [image.read() for image in post.images] == [b"image"]


def test_prefix_that_is_a_folder_of_the_archive_is_kept(read, tmp_path):
    path = "social/media_attachments/files/a.jpeg"
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_bytes(b"image")
    (post,) = read(create(attachment=[attached("/" + path)]))
    assert [image.read() for image in post.images] == [b"image"]


@pytest.mark.parametrize(
    "url", ["/../x.jpg", "/media_attachments/../../x.jpg", "a/media_attachments/../../x"]
)
def test_image_outside_of_the_archive_is_rejected(read, url):
    assert read(create(attachment=[attached(url)])) == [Reject("outbox.json[0]", "image outside the export")]


def test_absolute_path_behind_a_prefix_stays_inside(read, tmp_path):
    (post,) = read(create(attachment=[attached("a/media_attachments//etc/passwd")]))
    assert post.images[0].path.startswith(str(tmp_path))


def test_boosts_are_passed_over(read):
    boost = {"type": "Announce", "actor": ANN, "object": "https://other.org/users/bob/statuses/1"}
    assert [post.id for post in read(boost, create(2))] == [f"mastodon/{hidden(ANN + '/statuses/2')}"]


BOB, GROUP = "https://other.org/users/bob", "https://other.org/users/group"
FOLLOWERS = f"{ANN}/followers"


@pytest.mark.parametrize(
    ("to", "cc", "is_read"),
    [
        pytest.param([PUBLIC], [FOLLOWERS], True, id="public"),
        pytest.param([PUBLIC], [FOLLOWERS, BOB], True, id="public with a mention"),
        pytest.param([FOLLOWERS], [PUBLIC], True, id="unlisted"),
        pytest.param(["as:Public"], [], True, id="public in short"),
        pytest.param([FOLLOWERS], [], True, id="followers only"),
        pytest.param([FOLLOWERS], [BOB], True, id="followers only with a mention"),
        pytest.param([BOB], [], False, id="direct"),
        pytest.param(BOB, None, False, id="direct, not in a list"),
        pytest.param([GROUP, f"{GROUP}/followers"], [], False, id="direct to a group"),
        pytest.param([], [], False, id="to oneself"),
        pytest.param(None, None, False, id="to nobody"),
        pytest.param([f"{ANN}/lists/Public"], [], False, id="to a list that is called Public"),
        pytest.param([{"id": BOB}, 7], [], False, id="to what is no name"),
    ],
)
def test_what_is_neither_public_nor_for_all_followers_is_passed_over(read, to, cc, is_read):
    assert len(read(create() | {"to": to, "cc": cc})) == is_read


def test_post_that_does_not_say_to_whom_it_is_addressed_is_read(read):
    entry = create()
    del entry["to"], entry["cc"]
    assert len(read(entry)) == 1


def test_post_without_an_actor_is_its_own_account(read):
    (post,) = read(create() | {"actor": None})
    assert post.account == post.id


@pytest.mark.parametrize(
    "item",
    [
        None,
        {},
        create() | {"object": "https://example.org/1"},
        create() | {"actor": 3},
        create(content=None),
        create(id=""),
        create(id="\ud800"),
        create(attachment=[3]),
        create() | {"type": 3},
    ],
)
def test_broken_entry_is_rejected_with_where_it_stands(read, item):
    first, second = read(create(), item)
    assert isinstance(first, Post)
    assert second == Reject("outbox.json[1]", "broken entry")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"orderedItems": 3}'])
def test_unreadable_outbox_is_told(tmp_path, content):
    (tmp_path / "outbox.json").write_text(content)
    assert list(read_posts([tmp_path])) == [Reject("outbox.json", "unreadable file")]
