"""Archives of X: photos of a tweet, its text as it was written, and no retweets."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from emojigan.datasets.posts.post import ImageFile, Post, Reject
from emojigan.datasets.posts.read import read_posts

LONG = "It was a long day & we walked along the shore 🌊 until the sun had gone. " * 5 + "The end 🌅"


def script(kind: str, entries: list, part: int = 0) -> str:
    return f"window.YTD.{kind}.part{part} = {json.dumps(entries, indent=2)}"


def tweet(number: str = "1", text: str = "hi", photos: tuple[str, ...] = (), **more) -> dict:
    media = [
        {"type": "photo", "media_url": f"http://pbs.twimg.com/media/{photo}", "url": "https://t.co/x"}
        for photo in photos
    ]
    content = {"id_str": number, "full_text": text, "created_at": "Wed Feb 22 10:00:00 +0000 2023"}
    if media:
        content |= {"entities": {"media": media[:1]}, "extended_entities": {"media": media}}
    return {"tweet": content | more}


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., list[Post | Reject]]:
    """Write an archive of some tweets, and read it."""

    def write_and_read(*tweets: dict, notes: tuple[str, ...] = ()) -> list[Post | Reject]:
        data = tmp_path / "data"
        (data / "tweets_media").mkdir(parents=True, exist_ok=True)
        (data / "tweets.js").write_text(script("tweets", list(tweets)))
        (data / "account.js").write_text(script("account", [{"account": {"accountId": "77"}}]))
        if notes:
            entries = [{"noteTweet": {"noteTweetId": "9", "core": {"text": note}}} for note in notes]
            (data / "note-tweet.js").write_text(script("note_tweet", entries))
        return list(read_posts([tmp_path]))

    return write_and_read


def test_every_photo_of_a_tweet_comes_from_its_own_file(read, tmp_path):
    (post,) = read(tweet("12", "look 😍", ("A.jpg", "B.png")))
    media = tmp_path / "data/tweets_media"
    images = (ImageFile(str(media / "12-A.jpg")), ImageFile(str(media / "12-B.png")))
    assert post == Post("x/12", "x/77", images, "look 😍", time=1677060000)


@pytest.mark.parametrize("moment", [None, 7, "yesterday", "Wed Feb 30 10:00:00 +0000 2023"])
def test_tweet_of_an_unknown_time_is_a_post(read, moment):
    (post,) = read(tweet(created_at=moment))
    assert post.time is None


@pytest.mark.parametrize("kind", ["video", "animated_gif"])
def test_video_is_left_out_and_its_tweet_kept(read, kind):
    media = [{"type": kind, "media_url": "http://pbs.twimg.com/ext_tw_video_thumb/1/pu/img/C.jpg"}]
    (post,) = read(tweet(extended_entities={"media": media}))
    assert post.images == ()


def test_retweets_are_passed_over(read):
    assert [post.id for post in read(tweet("1", "RT @ann: 😍"), tweet("2", "not RT @ann"))] == ["x/2"]


def test_text_is_unescaped_once(read):
    (post,) = read(tweet(text="me &amp; you &lt;3 &amp;amp;"))
    assert post.caption == "me & you <3 &amp;"


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ("hi 😍 https://t.co/aB1", "hi 😍"),
        ("hi 😍\nhttps://t.co/a https://t.co/b \n", "hi 😍"),
        ("https://t.co/a", ""),
        ("see https://t.co/a now", "see https://t.co/a now"),
        ("hi https://t.co/a😍", "hi https://t.co/a😍"),
        ("hi https://example.org/a", "hi https://example.org/a"),
    ],
)
def test_links_at_the_end_alone_are_taken_off(read, text, caption):
    (post,) = read(tweet(text=text))
    assert post.caption == caption


def test_long_text_takes_the_place_of_its_beginning(read):
    beginning = LONG[:270].replace("&", "&amp;")
    (post,) = read(tweet(text=f"{beginning}… https://t.co/a"), notes=("another " * 40, LONG))
    assert post.caption == LONG


@pytest.mark.parametrize("notes", [(LONG, LONG + "!"), ("another " * 40,)])
def test_text_stays_where_no_or_no_single_long_one_begins_so(read, notes):
    (post,) = read(tweet(text=LONG[:270]), notes=notes)
    assert post.caption == LONG[:270].rstrip()


def test_short_text_that_begins_a_long_one_stays(read):
    (post,) = read(tweet(text="It was a long day"), notes=(LONG,))
    assert post.caption == "It was a long day"


def test_parts_come_by_number_after_the_first(tmp_path):
    (tmp_path / "data").mkdir()
    for part, name in enumerate(["tweets.js", "tweets-part1.js", "tweets-part2.js", "tweets-part10.js"]):
        entries = [tweet(str(part))]
        (tmp_path / "data" / name).write_text(script("tweets", entries, part))
    assert [post.id for post in read_posts([tmp_path])] == ["x/0", "x/1", "x/2", "x/3"]


@pytest.mark.parametrize("data", ["data", "."])
def test_archive_of_2018_is_read(tmp_path, data):
    """tweet.js, tweet_media, and the tweet without a wrapper."""
    (tmp_path / data / "tweet_media").mkdir(parents=True)
    entries = [tweet("1", photos=("A.jpg",))["tweet"]]
    (tmp_path / data / "tweet.js").write_text(script("tweet", entries))
    (post,) = read_posts([tmp_path])
    assert post.images == (ImageFile(str(tmp_path / data / "tweet_media/1-A.jpg")),)


def test_tweet_is_its_own_account_where_the_account_was_taken_out(tmp_path):
    (tmp_path / "tweets.js").write_text(script("tweets", [tweet("5")]))
    (post,) = read_posts([tmp_path / "tweets.js"])
    assert post.account == "x/5"


@pytest.mark.parametrize(
    ("content", "reason"),
    [("window.YTD.account.part0 = [", "unreadable file"), ("window.YTD.account.part0 = []", "no account")],
)
def test_broken_account_is_told(read, tmp_path, content, reason):
    read(tweet())
    (tmp_path / "data/account.js").write_text(content)
    assert next(read_posts([tmp_path])) == Reject("account.js", reason)


@pytest.mark.parametrize(
    "entry",
    [
        None,
        {},
        {"tweet": {"id_str": "1"}},
        tweet(number=""),
        tweet(number=3),
        tweet(extended_entities={"media": 1}),
        tweet(extended_entities={"media": [{"type": "photo"}]}),
    ],
)
def test_broken_entry_is_rejected_with_where_it_stands(read, entry):
    first, second = read(tweet("1"), entry)
    assert isinstance(first, Post)
    assert second == Reject("tweets.js[1]", "broken entry")


def test_tweet_whose_photo_would_lie_outside_is_rejected(read):
    assert read(tweet("../../x", photos=("A.jpg",))) == [Reject("tweets.js[0]", "image outside the export")]
