"""Telegram Desktop's export: messages, albums as one post, reactions as counts."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from emojigan.datasets.posts.post import ImageFile, Post, Reject
from emojigan.datasets.posts.read import read_posts

NOT_INCLUDED = "(File not included. Change data exporting settings to download.)"


def message(number: int, text="", moment: int = 0, **more) -> dict:
    return {
        "id": number,
        "type": "message",
        "date": "2022-07-07T09:35:27",
        "date_unixtime": str(1657186527 + moment),
        "from": "Ann",
        "from_id": "user1",
        "text": text,
        "text_entities": [],
    } | more


def photo(number: int, text="", moment: int = 0, **more) -> dict:
    return message(number, text, moment, photo=f"photos/photo_{number}.jpg", width=9, height=9) | more


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., list[Post | Reject]]:
    """Write the export of one chat, and read it."""

    def write_and_read(*messages) -> list[Post | Reject]:
        chat = {"name": "Us", "type": "private_group", "id": 9, "messages": messages}
        content = json.dumps(chat, indent=1, ensure_ascii=False)
        (tmp_path / "result.json").write_bytes(content.encode(errors="surrogatepass"))
        return list(read_posts([tmp_path]))

    return write_and_read


def image(tmp_path: Path, number: int) -> ImageFile:
    return ImageFile(str(tmp_path / f"photos/photo_{number}.jpg"))


def test_photo_with_its_text_and_reactions_is_a_post(read, tmp_path):
    reactions = [
        {"type": "emoji", "count": 3, "emoji": "👍", "recent": [{"from": "Bob", "from_id": "user2"}]},
        {"type": "custom_emoji", "count": 2, "document_id": "stickers/1.webp"},
        {"type": "paid", "count": 1},
        {"type": "emoji", "count": 1, "emoji": "❤"},
    ]
    assert read(photo(5, "hi 😍", reactions=reactions)) == [
        Post(
            *("telegram/9/5", "telegram/user1", (image(tmp_path, 5),), "hi 😍"),
            reactions=(("👍", 3), ("❤", 1)),
            time=1657186527,
        )
    ]


def test_text_of_pieces_is_joined(read):
    (post,) = read(
        message(1, ["see ", {"type": "link", "text": "x.org"}, {"type": "custom_emoji", "text": "🔥"}])
    )
    assert post.caption == "see x.org🔥"


def test_export_that_tells_no_unix_time_has_the_local_one(read):
    (post,) = read(photo(1, date_unixtime=None))
    assert post.time == 1657186527


def test_album_is_one_post_with_its_caption_once(read, tmp_path):
    album = [photo(3, moment=1), photo(4, "two 🌊", moment=1), photo(5, moment=1)]
    before, post, after = read(photo(2), *album, photo(6, moment=2))
    assert (before.id, after.id) == ("telegram/9/2", "telegram/9/6")
    assert post.id == "telegram/9/3"
    assert post.images == tuple(image(tmp_path, number) for number in (3, 4, 5))
    assert post.caption == "two 🌊"


def test_captions_and_reactions_of_an_album_are_joined(read):
    thumbs = [{"type": "emoji", "count": 2, "emoji": "👍"}]
    (post,) = read(photo(1, "a", reactions=thumbs), photo(2, "b", reactions=thumbs), photo(3))
    assert (post.caption, post.reactions) == ("a\nb", (("👍", 4),))


def test_video_of_an_album_gives_its_caption_and_no_image(read, tmp_path):
    video = message(2, "both 🎉", file="video_files/v.mp4", media_type="video_file", mime_type="video/mp4")
    (post,) = read(photo(1), video)
    assert (post.images, post.caption) == ((image(tmp_path, 1),), "both 🎉")


@pytest.mark.parametrize(
    "other", [{"from_id": "user2"}, {"date_unixtime": "1"}, {"forwarded_from": "Bob"}, {"photo": None}]
)
def test_message_of_another_sender_moment_origin_or_without_media_is_a_post_of_its_own(read, other):
    assert len(read(photo(1), photo(2) | other)) == 2


def test_album_of_an_older_export_is_known_by_its_date(read):
    messages = [photo(number) for number in (1, 2)]
    for each in messages:
        del each["date_unixtime"]
    assert len(read(*messages)) == 1


@pytest.mark.parametrize(
    "name", [NOT_INCLUDED, "(File exceeds maximum size. …)", "(File unavailable, please try again later)"]
)
def test_photo_that_was_not_exported_is_rejected(read, name):
    assert read(photo(1, "😍", photo=name)) == [Reject("result.json[0]", "image not exported")]


def test_album_keeps_what_was_exported_and_the_caption_of_what_was_not(read, tmp_path):
    lost, post = read(photo(1, "hi 😍", photo=NOT_INCLUDED), photo(2))
    assert lost == Reject("result.json[0]", "image not exported")
    assert (post.images, post.caption) == ((image(tmp_path, 2),), "hi 😍")


def test_image_that_was_sent_as_a_file_is_an_image(read, tmp_path):
    (post,) = read(message(1, file="files/a.png", mime_type="image/png"))
    assert post.images == (ImageFile(str(tmp_path / "files/a.png")),)


@pytest.mark.parametrize(
    "more",
    [
        {
            "file": "stickers/s.webp",
            "media_type": "sticker",
            "mime_type": "image/webp",
            "sticker_emoji": "😍",
        },
        {"file": "files/a.pdf", "mime_type": "application/pdf"},
        {"file": NOT_INCLUDED, "media_type": "video_file", "mime_type": "video/mp4"},
        {"file": "files/a.mp4", "media_type": "animation", "mime_type": "video/mp4"},
    ],
)
def test_other_files_are_no_images_and_their_message_is_kept(read, more):
    (post,) = read(message(1, "hi", **more))
    assert (post.images, post.caption) == ((), "hi")


def test_service_messages_are_passed_over(read):
    assert read({"id": 1, "type": "service", "actor": "Ann", "action": "pin_message", "text": ""}) == []


def test_message_without_a_sender_is_its_own_account(read):
    (post,) = read(message(4, from_id=None))
    assert post.account == "telegram/9/4"


def test_every_chat_of_a_whole_export_is_read(tmp_path):
    chats = [
        {"name": "a", "id": 1, "messages": [message(1)]},
        {"name": "b", "id": 2, "messages": [message(1)]},
    ]
    left = [{"name": "c", "id": 3, "messages": [message(1)]}]
    export = {"about": "Here is the data", "chats": {"list": chats}, "left_chats": {"list": left}}
    (tmp_path / "result.json").write_text(json.dumps(export))
    assert [post.id for post in read_posts([tmp_path])] == ["telegram/1/1", "telegram/2/1", "telegram/3/1"]


@pytest.mark.parametrize(
    "more",
    [
        {"id": None},
        {"id": True},
        {"text": 5},
        {"text": [{"type": "bold"}]},
        {"from_id": 5},
        {"from_id": "\ud800"},
        {"photo": 5},
        {"type": None},
        {"reactions": [{"type": "emoji", "count": "2", "emoji": "👍"}]},
        {"reactions": [{"type": "emoji", "count": -1, "emoji": "👍"}]},
    ],
)
def test_broken_message_is_rejected_with_where_it_stands(read, more):
    first, second = read(message(1), message(2, **more) if "id" not in more else message(2) | more)
    assert isinstance(first, Post)
    assert second == Reject("result.json[1]", "broken entry")


def test_photo_outside_of_the_export_is_rejected(read):
    assert read(photo(1, photo="../x.jpg")) == [Reject("result.json[0]", "image outside the export")]


@pytest.mark.parametrize(
    ("content", "where", "reason"),
    [
        ("{", "result.json", "unreadable file"),
        ("{}", "result.json", "no chats"),
        ('{"messages": 3}', "result.json", "unreadable chat"),
        ('{"chats": {"list": [{"id": 1}]}}', "result.json chats[0]", "unreadable chat"),
    ],
)
def test_unreadable_file_or_chat_is_told(tmp_path, content, where, reason):
    (tmp_path / "result.json").write_text(content)
    assert list(read_posts([tmp_path], "telegram")) == [Reject(where, reason)]
