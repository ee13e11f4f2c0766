"""Instagram's own export: captions repaired, media that are images, and the folders of different years."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emojigan.datasets.errors import InputError
from emojigan.datasets.posts.archives import hidden
from emojigan.datasets.posts.formats.instagram import POST_FOLDERS, repair
from emojigan.datasets.posts.post import ImageFile, Post, Reject
from emojigan.datasets.posts.read import read_posts

HEADS = {  # of media without an ending
    "jpeg": b"\xff\xd8\xff\xe1",
    "png": b"\x89PNG\r\n\x1a\n",
    "webp": b"RIFF\x10\x00\x00\x00WEBPVP8 ",
    "gif": b"GIF89a",
    "heic": b"\x00\x00\x00\x18ftypheic\x00",
}


def damaged(text: str) -> str:
    """As the exporter writes it: each byte of UTF-8 as a character."""
    return text.encode().decode("latin-1")


def medium(uri: str = "media/posts/202401/a.jpg", title: str = "") -> dict:
    return {"uri": uri, "creation_timestamp": 1334009249, "title": title}


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., list[Post | Reject]]:
    """Write posts_1.json into a folder that is called as Instagram does, and read it."""

    def write_and_read(*posts, within: str = POST_FOLDERS[0]) -> list[Post | Reject]:
        folder = tmp_path / "instagram-ann.b-2024-05-01-x1Y2"
        (folder / within).mkdir(parents=True, exist_ok=True)
        (folder / within / "posts_1.json").write_text(json.dumps(posts))  # pure ASCII, as theirs
        return list(read_posts([folder]))

    return write_and_read


@given(st.text())
def test_repair_inverts_the_damage_of_any_text(text):
    assert repair(damaged(text)) == text


@given(st.text(), st.characters(min_codepoint=0x100, exclude_categories=()), st.text())
def test_repair_leaves_text_that_no_exporter_can_have_damaged(before, character, after):
    assert repair(before + character + after) == before + character + after


@given(st.text(st.characters(max_codepoint=127)))
def test_repair_leaves_ascii(text):
    assert repair(text) == text


@pytest.mark.parametrize("text", ["é", "café ©", "señor 😍", "Ünïcödé", "\ud83d"])
def test_repair_is_idempotent_on_right_text(text):
    assert repair(text) == text


def test_repair_makes_no_copyright_sign_of_an_accent():
    assert repair("caf\u00c3\u00a9") == "café"


def test_caption_of_one_medium_is_its_title(read):
    (post,) = read({"media": [medium(title=damaged("été 😍"))]})
    assert post.caption == "été 😍"


def test_caption_of_a_carousel_is_the_title_at_the_top(read, tmp_path):
    uris = ["media/posts/a.jpg", "media/posts/b.webp"]
    (post,) = read({"media": [medium(uri) for uri in uris], "title": damaged("🌅"), "creation_timestamp": 1})
    folder = tmp_path / "instagram-ann.b-2024-05-01-x1Y2"
    assert post.caption == "🌅"
    assert post.images == tuple(ImageFile(str(folder / uri)) for uri in uris)


def test_title_at_the_top_leads_and_an_empty_one_does_not(read):
    first, second = read(
        {"media": [medium("a.jpg", "below")], "title": "top"},
        {"media": [medium("b.jpg", "below")], "title": ""},
    )
    assert (first.caption, second.caption) == ("top", "below")


def test_account_is_the_name_in_the_name_of_the_folder(read):
    first, second = read({"media": [medium("a.jpg")]}, {"media": [medium("b.jpg")]})
    assert first.account == second.account == "instagram/ann.b"
    assert (first.id, second.id) == tuple(
        f"instagram/{hidden(each)}" for each in ("instagram/ann.b/a.jpg", "instagram/ann.b/b.jpg")
    )


def test_account_of_a_renamed_folder_is_its_name(tmp_path):
    (tmp_path / "mine/content").mkdir(parents=True)
    (tmp_path / "mine/content/posts_1.json").write_text(json.dumps([{"media": [medium()]}]))
    (post,) = read_posts([tmp_path / "mine"])
    assert post.account == "instagram/mine"


def test_time_is_that_of_the_post_else_of_its_first_medium(read):
    first, second = read({"media": [medium("a.jpg")], "creation_timestamp": 7}, {"media": [medium("b.jpg")]})
    assert (first.time, second.time) == (7, 1334009249)


@pytest.mark.parametrize("folder", POST_FOLDERS)
def test_posts_are_found_in_the_folders_of_every_year(read, folder):
    assert len(read({"media": [medium()]}, within=folder)) == 1


def test_parts_come_by_number(tmp_path):
    (tmp_path / "content").mkdir()
    for number in (10, 9, 1):
        posts = [{"media": [medium(f"{number}.jpg")]}]
        (tmp_path / f"content/posts_{number}.json").write_text(json.dumps(posts))
    (tmp_path / "content/archived_posts.json").write_text("[]")
    assert [Path(post.images[0].path).stem for post in read_posts([tmp_path])] == ["1", "9", "10"]


@pytest.mark.parametrize("content", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("ending", ["", ".mp4"])
def test_image_is_known_by_its_first_bytes_where_its_name_does_not_tell(read, tmp_path, content, ending):
    folder = tmp_path / "instagram-ann.b-2024-05-01-x1Y2"
    folder.mkdir()
    (folder / f"x{ending}").write_bytes(content)
    (post,) = read({"media": [medium(f"x{ending}")]})
    assert [image.read() for image in post.images] == [content]


@pytest.mark.parametrize("ending", ["", ".mp4"])
def test_video_is_left_out_and_its_post_kept(read, tmp_path, ending):
    folder = tmp_path / "instagram-ann.b-2024-05-01-x1Y2"
    folder.mkdir()
    (folder / f"x{ending}").write_bytes(b"\x00\x00\x00\x18ftypisom\x00\x00")
    (post,) = read({"media": [medium(f"x{ending}", "hi")]})
    assert (post.images, post.caption) == ((), "hi")


def test_missing_medium_is_an_image_unless_named_as_a_video(read):
    first, second = read({"media": [medium("gone")]}, {"media": [medium("gone.mp4")]})
    assert (len(first.images), len(second.images)) == (1, 0)


def test_post_whose_media_are_gone_is_a_post(read):
    (post,) = read({"media": [], "title": "hi", "creation_timestamp": 12})
    assert post == Post(f"instagram/{hidden('instagram/ann.b/12')}", "instagram/ann.b", (), "hi", time=12)


@pytest.mark.parametrize(
    "entry",
    [7, {}, {"media": {}}, {"media": [medium()], "title": 3}, {"media": [{"title": "x"}]}, {"media": []}],
)
def test_broken_entry_is_rejected_with_where_it_stands(read, entry):
    first, second = read({"media": [medium()]}, entry)
    assert isinstance(first, Post)
    assert second == Reject("posts_1.json[1]", "broken entry")


@pytest.mark.parametrize("uri", ["../../secret.jpg", "/etc/passwd", "media/../../x.jpg", "..\\x.jpg"])
def test_medium_outside_of_the_export_is_rejected(read, uri):
    assert read({"media": [medium(), medium(uri)]}) == [Reject("posts_1.json[0]", "image outside the export")]


def test_export_as_html_is_refused_with_what_to_do(tmp_path):
    (tmp_path / POST_FOLDERS[0]).mkdir(parents=True)
    (tmp_path / POST_FOLDERS[0] / "posts_1.html").write_text("<html>")
    with pytest.raises(InputError, match=r"as HTML\. Request it from Instagram as JSON"):
        list(read_posts([tmp_path]))
