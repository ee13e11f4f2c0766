"""What is denied is in no tuple, and how much that was is told."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emojigan.datasets.build.deny import DenyList, fold, read_deny_list
from emojigan.datasets.build.digest import Chunk, digest_chunk
from emojigan.datasets.build.labels import emojis_of
from emojigan.datasets.build.options import BuildOptions
from emojigan.datasets.build.parts import read_part
from emojigan.datasets.errors import InputError
from emojigan.datasets.posts.post import ImageFile, Post
from emojigan.datasets.store.folder import LocalFolder


def write(tmp_path: Path, text: str) -> Path:
    (tmp_path / "deny.txt").write_text(text, encoding="utf-8")
    return tmp_path / "deny.txt"


def test_entries_are_told_apart(tmp_path):
    path = write(tmp_path, "\ufeff# people\n@Ann\n\n  🔥 \n❤️\n#️⃣\nBad  Word\nstraße\n@\n")
    expected = DenyList(("#\u20e3", "❤", "🔥"), ("ann",), ("@", "bad word", "strasse"))
    assert read_deny_list(path) == expected


def test_a_hashtag_is_an_entry_behind_a_backslash_and_a_comment_without(tmp_path):
    deny = read_deny_list(write(tmp_path, "\\#Ad\n#tag\n# note\na\\#b\n"))
    assert deny.words == ("#ad", "a\\#b")
    assert deny.has_word("buy #AD now") and not deny.has_word("buy ad now, #tag, #adx, x#ad")


def test_other_encodings_are_refused(tmp_path):
    (tmp_path / "deny.txt").write_bytes("straße".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        read_deny_list(tmp_path / "deny.txt")


@pytest.mark.parametrize(
    "text, found",
    [
        ("a bad word.", True),
        ("BAD\n WORD", True),
        ("#bad word", True),
        ("badword", False),
        ("a bad wordy thing", False),
        ("STRASSE", True),
        ("Straßen", False),
        ("c++!", True),
        ("c", False),
        ("", False),
    ],
)
def test_whole_words_in_any_case_are_found(text, found):
    assert DenyList(words=("bad word", "c++", "strasse")).has_word(text) is found


PARTS = [
    "a",
    "A",
    "b",
    "ß",
    "SS",
    "ſ",
    "İ",
    "_",
    "1",
    " ",
    "\n",
    "\u3000",
    "#",
    "+",
    ".",
    "\u0301",
    "e",
    "’",
    "\u200b",
    "ｋ",
    "猫",
    "ｶ",
    "😍",
    "\ud83d",
]
ANY_TEXT = st.lists(st.sampled_from(PARTS) | st.text(max_size=2), max_size=12).map("".join)


def found_by_a_regular_expression(words: list[str], text: str) -> bool:
    """What a listed word is, as one expression: as slow as the list is long."""
    listed = "|".join(r"\s+".join(map(re.escape, word.split())) for word in words)
    return re.search(rf"(?<!\w)(?:{listed})(?!\w)", fold(text)) is not None


@given(st.lists(ANY_TEXT.filter(fold), min_size=1, max_size=6), ANY_TEXT, ANY_TEXT, st.data())
@settings(max_examples=300, deadline=None)
def test_words_are_found_as_a_regular_expression_finds_them(entries, before, after, data):
    words = sorted(set(map(fold, entries)))
    middle = data.draw(st.sampled_from(["", *entries]))
    for text in (before, before + middle + after, before + " " + middle.upper() + "\n" + after):
        assert DenyList(words=tuple(words)).has_word(text) is found_by_a_regular_expression(words, text)


@pytest.mark.parametrize(
    "entry, text",
    [
        ("don't panic", "don’t panic"),
        ("don’t panic", "Don't panic"),
        ("don't", "donʼt"),
        ("café", "a cafe\u0301!"),
        ("cafe\u0301", "CAFÉ"),
        ("kitten", "ｋｉｔｔｅｎ"),
        ("kitten", "kit\u200bten"),
        ("kit\u00adten", "kitten"),
        ("kitten", "Kitten™"),
        ("猫咪", "我喜欢猫咪🐱"),
        ("猫", "my猫x"),
        ("ねこ", "かわいいねこです"),
        ("ガチャ", "ｶﾞﾁｬが好き"),
        ("c++", "猫c++猫"),
    ],
)
def test_other_spellings_of_a_word_are_found(tmp_path, entry, text):
    assert read_deny_list(write(tmp_path, entry)).has_word(text)


@pytest.mark.parametrize(
    "entry, text", [("猫咪", "猫和咪"), ("cafe", "café"), ("dont", "don’t"), ("кот", "котик")]
)
def test_other_words_are_not_found(tmp_path, entry, text):
    assert not read_deny_list(write(tmp_path, entry)).has_word(text)


@given(st.text(st.sampled_from("猫咪喜ねこカ"), min_size=1), st.text(), st.text())
def test_an_entry_without_blanks_between_its_words_is_found_inside_any_text(entry, before, after):
    assert DenyList(words=(fold(entry),)).has_word(f"{before}\n{entry}\n{after}".replace("\n", "我"))


@given(ANY_TEXT | st.text())
def test_a_folded_text_stays_as_it_is(text):
    assert fold(fold(text)) == fold(text)


def test_an_entry_of_hidden_characters_alone_is_none(tmp_path):
    assert read_deny_list(write(tmp_path, "\u200b\u00ad\n")) == DenyList()


def test_a_long_list_is_not_searched_entry_by_entry():
    """However many entries begin alike, a text's word is looked up once for each length that they have."""
    deny = DenyList(words=tuple(sorted(f"same beginning {number}" for number in range(20_000))))
    assert {piece: len(lengths) for piece, lengths in deny._lengths.items()} == {"same": 1}
    assert deny.has_word("a Same  beginning\n19999!") and not deny.has_word("same beginning 20000")


@given(st.text(), st.text(min_size=1).filter(str.strip))
def test_any_entry_and_any_text_are_taken_without_an_exception(text, word):
    DenyList(words=tuple(filter(None, [fold(word)]))).has_word(text)


@pytest.mark.parametrize("listed, variants", [("👍", ["👍", "👍🏽", "👍🏿"]), ("👍🏽", ["👍🏽"])])
def test_entry_without_tone_stands_for_all_tones(tmp_path, listed, variants):
    deny = read_deny_list(write(tmp_path, listed), keep_variants=True)
    assert [emoji for emoji in ["👍", "👍🏽", "👍🏿"] if deny.has_emoji(emoji)] == variants


def test_fingerprint_tells_lists_apart_and_not_their_comments(tmp_path):
    lists = [read_deny_list(write(tmp_path, text)) for text in ("a\n@b", "@b\n# x\na\n", "a\nb", "# none")]
    prints = [deny.fingerprint() for deny in lists]
    assert prints[0] == prints[1] != prints[2] and prints[3] is None


def outcomes(tmp_path: Path, deny: DenyList, *posts: Post) -> tuple[list[str], list[list[str]], int]:
    """What becomes of posts, their emojis, and how many tuples were denied in those that are used."""
    (tmp_path / "image.png").write_bytes(GIF)
    options = BuildOptions(texts=("caption", "comments", "reactions"), deny=deny)
    folder = LocalFolder(tmp_path / "out")
    digest_chunk(folder, options, Chunk(0, posts))
    part = read_part(folder, 0)
    return [part.reasons[each] for each in part.outcome], part.emojis, part.denied


GIF = bytes.fromhex("47494638396101000100800000ff00000000002c00000000010001000002024401003b")


def test_posts_and_tuples_are_denied_for_the_right_reason(tmp_path):
    image = (ImageFile(str(tmp_path / "image.png")),)
    found, emojis, denied = outcomes(
        tmp_path,
        DenyList(("🔥",), ("ann",), ("bad",)),
        Post("0", "Ann", image, "🍕"),
        Post("1", "@ANN", image, "🍕"),
        Post("2", "Bob", image, "🍕 bad"),
        Post("3", "Bob", image, "🍕", comments=("so Bad",)),
        Post("4", "Bob", image, "🍕🔥", reactions=(("🔥", 7), ("🎉", 2))),
        Post("5", "Bob", image, "🔥"),
        Post("6", "Bob", image, "badge 🍕"),
        Post("7", "Bob", (), "🍕"),
        Post("8", "Bob", image, "none"),
    )
    assert found == [
        *("denied account", "denied account", "denied word", "denied word", "used", "denied emoji", "used"),
        *("without image", "without emoji"),
    ]
    assert (emojis[4], emojis[6], denied) == (["🍕", "🎉"], ["🍕"], 1)


POST = Post("p", "a", (), "🔥🔥🍕", ("🍕", "no 🎉🎉"), (("🔥", 3), (":blob:", 9), ("💔", 0), ("😍", 10**12)))


@pytest.mark.parametrize(
    "texts, repeat, expected",
    [
        (("caption",), "once", "🔥🍕"),
        (("caption",), "all", "🔥🔥🍕"),
        (("comments",), "all", "🍕🎉🎉"),
        (("reactions",), "once", "🔥😍"),
        (("reactions",), "all", "🔥🔥🔥" + "😍" * 1000),
        (("caption", "comments", "reactions"), "once", "🔥🍕🎉😍"),
        (("caption", "comments"), "all", "🔥🔥🍕🍕🎉🎉"),
    ],
)
def test_emojis_come_from_the_texts_that_are_chosen_as_often_as_they_count(texts, repeat, expected):
    assert emojis_of(POST, BuildOptions(texts=texts, repeat=repeat)) == list(expected)
