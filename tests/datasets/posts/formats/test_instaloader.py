"""Folders of Instaloader, written by Instaloader itself: only the pictures do not come from the web."""

import json
from collections.abc import Callable
from pathlib import Path

import instaloader
import pytest
from PIL import Image

from emojigan.datasets.errors import InputError
from emojigan.datasets.posts.archives import hidden
from emojigan.datasets.posts.post import Post, Reject
from emojigan.datasets.posts.read import detect, read_posts

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Instaloader's own use of datetime

MOMENT = 1700000000
STEM = "2023-11-14_22-13-20_UTC"


def node(kind: str = "GraphImage", caption: str | None = "hi 😍", code: str = "abc", **more) -> dict:
    """What Instagram tells of a post."""
    edges = [] if caption is None else [{"node": {"text": caption}}]
    return {
        "__typename": kind,
        "shortcode": code,
        "id": "3141592653589793238",
        "owner": {"id": "5", "username": "ann"},
        "taken_at_timestamp": MOMENT,
        "display_url": "https://example.org/a.jpg",
        "is_video": kind == "GraphVideo",
        "video_url": "https://example.org/a.mp4" if kind == "GraphVideo" else None,
        "edge_media_to_caption": {"edges": edges},
        "edge_media_preview_like": {"count": 3},
        "edge_media_to_comment": {"count": 0},
    } | more


def slides(*kinds: str) -> dict:
    return {
        "edge_sidecar_to_children": {
            "edges": [
                {
                    "node": {
                        "is_video": kind == "video",
                        "display_url": f"https://example.org/{number}.{'jpg' if kind == 'video' else kind}",
                        "video_url": f"https://example.org/{number}.mp4" if kind == "video" else None,
                    }
                }
                for number, kind in enumerate(kinds)
            ]
        }
    }


def write_picture(filename: str, url: str, mtime, filename_suffix: str | None = None) -> bool:
    """In the place of `Instaloader.download_pic`: the same name, and a picture of our own."""
    ending = url.rpartition(".")[2]
    path = Path(f"{filename}_{filename_suffix}.{ending}" if filename_suffix else f"{filename}.{ending}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if ending == "mp4":
        path.write_bytes(b"\x00\x00\x00\x18ftypisom")
    elif ending == "heic":
        path.write_bytes(b"\x00\x00\x00\x18ftypheic")
    else:
        Image.new("RGB", (8, 8), "teal").save(path)
    return True


@pytest.fixture
def download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Let Instaloader write the files of posts; gives the folder of the profile."""
    monkeypatch.chdir(tmp_path)

    def download(*nodes: dict, **options) -> Path:
        loader = instaloader.Instaloader(quiet=True, max_connection_attempts=1, **options)
        monkeypatch.setattr(loader, "download_pic", write_picture)
        for each in nodes:
            loader.download_post(instaloader.Post(loader.context, each), "ann")
        loader.close()
        return tmp_path / "ann"

    return download


def names(post: Post | Reject) -> list[str]:
    assert isinstance(post, Post)
    return [Path(image.path).name for image in post.images]


@pytest.mark.parametrize("compress_json", [True, False])
def test_post_has_its_code_its_owner_its_caption_and_its_picture(download, compress_json):
    folder = download(node(), compress_json=compress_json)
    assert detect(folder) == "instaloader"
    (post,) = read_posts([folder])
    assert (post.id, post.account, post.caption) == ("instaloader/abc", "instagram/5", "hi 😍")
    assert post.time == MOMENT
    assert names(post) == [f"{STEM}.jpg"]
    assert post.images[0].read().startswith(b"\xff\xd8\xff")


def test_folder_of_profiles_is_read_as_its_folders_are(download, tmp_path):
    folder = download(node())
    assert detect(tmp_path) == "instaloader"
    assert list(read_posts([tmp_path])) == list(read_posts([folder]))


@pytest.mark.parametrize("ending", ["png", "webp", "heic"])
def test_pictures_may_have_other_endings(download, ending):
    (post,) = read_posts([download(node(display_url=f"https://example.org/a.{ending}"))])
    assert names(post) == [f"{STEM}.{ending}"]


def test_carousel_is_one_post_with_its_pictures_in_order(download):
    (post,) = read_posts([download(node("GraphSidecar", **slides(*["jpg"] * 10, "png")))])
    assert names(post) == [f"{STEM}_{number}.jpg" for number in range(1, 11)] + [f"{STEM}_11.png"]
    assert post.caption == "hi 😍"


@pytest.mark.parametrize("download_videos", [True, False])
def test_thumbnail_of_a_video_is_left_out_and_the_post_kept(download, download_videos):
    folder = download(node("GraphVideo"), download_videos=download_videos)
    assert (folder / f"{STEM}.jpg").is_file()
    (post,) = read_posts([folder])
    assert (names(post), post.caption) == ([], "hi 😍")


@pytest.mark.parametrize("download_videos", [True, False])
def test_thumbnails_within_a_carousel_are_left_out(download, download_videos):
    folder = download(node("GraphSidecar", **slides("jpg", "video", "jpg")), download_videos=download_videos)
    assert (folder / f"{STEM}_2.jpg").is_file()
    (post,) = read_posts([folder])
    assert names(post) == [f"{STEM}_1.jpg", f"{STEM}_3.jpg"]


def test_post_without_a_caption_is_a_post(download):
    (post,) = read_posts([download(node(caption=None))])
    assert (post.caption, names(post)) == ("", [f"{STEM}.jpg"])


def test_text_file_of_other_content_does_not_lead(download):
    (post,) = read_posts([download(node(), post_metadata_txt_pattern="{likes} likes 🍕")])
    assert post.caption == "hi 😍"


def test_folder_without_json_is_read_by_its_names(download):
    kinds = slides("jpg", "video", "png")
    folder = download(
        node("GraphSidecar", "two\nlines 🌊", **kinds),
        node(taken_at_timestamp=MOMENT + 1),
        save_metadata=False,
    )
    (folder / "id").write_text("5\n")  # as Instaloader keeps it for a profile
    assert not list(folder.glob("*.json*"))
    first, second = read_posts([folder])
    assert (first.id, first.account) == (f"instaloader/{hidden(f'ann/{STEM}')}", "instagram/5")
    assert (names(first), first.caption) == ([f"{STEM}_1.jpg", f"{STEM}_3.png"], "two\nlines 🌊")
    assert (names(second), second.caption) == (["2023-11-14_22-13-21_UTC.jpg"], "hi 😍")
    assert (first.time, second.time) == (MOMENT, MOMENT + 1)


def test_text_of_windows_is_the_same_text(download):
    folder = download(node(caption="two\nlines 🌊"), save_metadata=False)
    (folder / f"{STEM}.txt").write_bytes("two\r\nlines 🌊\r\n".encode())
    (post,) = read_posts([folder])
    assert post.caption == "two\nlines 🌊"


def test_post_of_nobody_known_is_its_own_account(download):
    (post,) = read_posts([download(node(), save_metadata=False)])
    assert post.account == post.id


def test_text_that_is_no_utf8_is_rejected(download):
    folder = download(node(), save_metadata=False)
    (folder / f"{STEM}.txt").write_bytes(b"caf\xe9")
    assert list(read_posts([folder])) == [Reject(STEM, "broken entry")]


def test_comments_and_their_answers_are_read(download, monkeypatch):
    def comment(number: int, text: str) -> dict:
        owner = {"id": "6", "username": "bob"}
        return {
            "id": number,
            "created_at": MOMENT,
            "text": text,
            "owner": owner,
            "edge_liked_by": {"count": 0},
        }

    def comments(post):
        answer = instaloader.structures.PostCommentAnswer(
            2, post.date_utc, "an answer 😂", instaloader.Profile(post._context, comment(2, "")["owner"]), 0
        )
        yield instaloader.structures.PostComment(post._context, comment(1, "wow 🔥"), iter([answer]), post)

    monkeypatch.setattr(instaloader.Post, "get_comments", comments)
    folder = download(node(), download_comments=True)
    assert "\\ud83d" in (folder / f"{STEM}_comments.json").read_text()
    (post,) = read_posts([folder])
    assert post.comments == ("wow 🔥", "an answer 😂")


@pytest.mark.parametrize("comments", ["{}", "[", "[3]", '[{"text": 3}]', '[{"text": "", "answers": [3]}]'])
def test_post_with_broken_comments_is_rejected(download, comments):
    folder = download(node())
    (folder / f"{STEM}_comments.json").write_text(comments)
    assert list(read_posts([folder])) == [Reject(STEM, "broken entry")]


def test_what_else_instaloader_keeps_is_no_post(download, tmp_path):
    folder = download(node())
    context = instaloader.InstaloaderContext()
    profile = instaloader.Profile(context, {"id": "5", "username": "ann"})
    instaloader.save_structure_to_file(profile, str(folder / "ann_5.json.xz"))
    story = {"id": "1", "__typename": "GraphStoryImage", "owner": {"id": "5"}, "taken_at_timestamp": 1}
    item = instaloader.StoryItem(context, story)
    instaloader.save_structure_to_file(item, str(folder / "2023-11-15_00-00-00_UTC.json.xz"))
    context.close()
    for name in (
        "2023-11-15_00-00-00_UTC.jpg",
        "2023-11-14_22-13-20_UTC_profile_pic.jpg",
        "2023-11-14_22-13-20_UTC_location.txt",
        "2023-11-14_22-13-20_UTC_old_01.txt",
        "iterator_abc.json.xz",
        "cover.jpg",
    ):
        (folder / name).write_bytes(b"other")
    posts = list(read_posts([folder]))
    assert [post.id for post in posts] == ["instaloader/abc"]
    assert names(posts[0]) == [f"{STEM}.jpg"]


def test_other_pattern_for_names_is_read_by_its_json(download):
    kinds = slides("jpg", "jpg")
    folder = download(node(), node("GraphSidecar", code="def", **kinds), filename_pattern="ann_{shortcode}_5")
    with pytest.raises(InputError, match="not a format"):
        detect(folder)
    first, second = read_posts([folder], "instaloader")
    assert names(first) == ["ann_abc_5.jpg"]
    assert names(second) == ["ann_def_5_1.jpg", "ann_def_5_2.jpg"]


@pytest.mark.parametrize("kept", [0, 6, 100])  # bytes
def test_cut_json_costs_its_own_post_and_no_more(download, kept):
    folder = download(node())
    path = folder / f"{STEM}.json.xz"
    path.write_bytes(path.read_bytes()[:kept])
    (reject,) = read_posts([folder])
    assert (reject, reject.file) == (Reject(STEM, "broken json"), "")


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"instaloader": {"node_type": "Post"}, "node": {}},
        {"instaloader": {"node_type": 3}, "node": node()},
    ],
)
def test_json_of_another_shape_is_rejected(download, content):
    folder = download(node(), compress_json=False)
    (folder / f"{STEM}.json").write_text(json.dumps(content))
    assert list(read_posts([folder])) == [Reject(STEM, "broken entry")]


def test_unreadable_folder_is_told(download, tmp_path, monkeypatch):
    download(node())
    (tmp_path / "lost+found").mkdir()
    iterdir = Path.iterdir

    def refuse(path: Path):
        if path.name == "lost+found":
            raise PermissionError(13, "Permission denied", str(path))
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refuse)  # the superuser may read every folder
    assert detect(tmp_path) == "instaloader"
    assert Reject("a profile", "unreadable folder") in list(read_posts([tmp_path]))
