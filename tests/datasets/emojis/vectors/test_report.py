"""The report on vectors: each probe finds what was put in, and the page stands alone."""

from html.parser import HTMLParser

import numpy as np
import pytest
from click.testing import CliRunner

from emojigan.datasets.emojis.text import all_canonical
from emojigan.datasets.emojis.vectors.probes import (
    Space,
    analogies,
    compositions,
    coverage,
    duplicates,
    hubs,
    median_rank,
    neighbours,
    sequences,
    space,
)
from emojigan.datasets.emojis.vectors.report import examine, format_table, write_page
from emojigan.datasets.emojis.vectors.word2vec import EmojiVectors, Origin, keyed, save_vectors, unit
from emojigan.launch.cli import main

from ....browser import NEEDS_CHROMIUM, assert_is_shown_whole

FILLED = ("🔥", "🥰")


def table(emojis, rows=None, filled=()) -> EmojiVectors:
    rows = np.random.default_rng(0).normal(size=(len(emojis), 40)) if rows is None else rows
    origin = Origin("emoji2vec", {"<b>.bin": "ab"}, {"junk": 3, "never trained": "📸"}, tuple(filled))
    return EmojiVectors(tuple(emojis), np.asarray(rows, np.float32), "f" * 64, origin)


@pytest.fixture(scope="module")
def vectors() -> EmojiVectors:
    """Emojis at random places but for sums that hold: 👸 = 🤴 − 👨 + 👩, 😻 = 😍 + 🐱, ❤‍🔥 = ❤ + 🔥."""
    emojis = [*"🤴👨👩😍🐱❤🔥🥰😂👍", "👍🏽", "🧑", "👩‍🚀", *all_canonical()[900:960:2]]
    rows = dict(zip(emojis, unit(np.random.default_rng(0).normal(size=(len(emojis), 40))), strict=True))
    rows["👸"] = rows["🤴"] - rows["👨"] + rows["👩"]
    rows["😻"] = 2 * (rows["😍"] + rows["🐱"])
    rows["❤‍🔥"] = rows["❤"] + rows["🔥"]
    return table(list(rows), list(rows.values()), FILLED)


@pytest.fixture(scope="module")
def page(vectors, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("page") / "new" / "report.html"
    write_page(examine(vectors, "<script>.bin", {"😂": 80, "🥰": 10, "👍🏿": 8, "🇫🇷": 2}), path)
    return path.read_text(encoding="utf-8")


def test_a_vocabulary_is_served_by_own_filled_or_relatives_vectors_or_none(vectors):
    found = coverage(vectors, {"😂": 50, "🥰": 20, "👍🏿": 15, "🇫🇷": 10, "👩🏽‍🚀": 5})
    assert {kind: cover.emojis for kind, cover in found.items()} == {
        "trained": (("😂", "😂"),),
        "filled": (("🥰", "🥰"),),
        "relative": (("👍🏿", "👍"), ("👩🏽‍🚀", "👩‍🚀")),
        "none": (("🇫🇷", None),),
    }
    assert [cover.share for cover in found.values()] == pytest.approx([0.5, 0.2, 0.2, 0.1])


def test_a_space_holds_no_tones_and_genders_only_where_they_matter(vectors):
    assert not {"👍🏽", "👩‍🚀"} & set(space(vectors, variants=False).emojis)
    assert set(vectors.emojis) - set(space(vectors, variants=True).emojis) == {"👍🏽"}


def test_known_sums_are_solved_by_the_sum_alone(vectors):
    among = space(vectors, variants=True)
    for riddles, answer in [(analogies(among), "👸"), (compositions(among), "😻"), (sequences(among), "❤‍🔥")]:
        (riddle,) = (each for each in riddles if each.answer == answer)
        assert riddle.rank == 1
        assert riddle.nearest[0] == answer
        assert not {*riddle.plus, *riddle.minus} & set(riddle.nearest)


def test_riddles_whose_emojis_lack_are_left_out(vectors):
    among = space(vectors, variants=True)
    assert [riddle.answer for riddle in analogies(among)] == ["👸"]
    assert [riddle.plus for riddle in sequences(among)] == [("❤", "🔥")]


def test_in_a_random_table_answers_are_at_chance():
    among = space(table(all_canonical()), variants=True)
    riddles = sequences(among)
    assert len(riddles) > 40
    middle = len(among.emojis) / 2
    assert abs(median_rank(riddles) - middle) < middle / 2


def test_ranks_count_from_one_without_the_terms():
    emojis = ("❤", "🔥", "🐶", "😂", "❤‍🔥")
    rows = unit(np.array([[1, 0], [0, 1], [1, 0.9], [1, 1.5], [1, -1.0]]))
    (riddle,) = sequences(Space(emojis, rows))
    assert (riddle.rank, riddle.rank_of_best_part, riddle.nearest) == (3, 2, ("🐶", "😂", "❤‍🔥"))


def test_neighbours_come_nearest_first_without_the_emoji_itself():
    rows = unit(np.array([[1, 0], [1, 0.1], [0, 1], [1, 0.5]]))
    near = neighbours(Space(("a", "b", "c", "d"), rows), "a", 3)
    assert [e for e, _ in near] == ["b", "d", "c"]
    assert near[0][1] == pytest.approx(rows[0] @ rows[1])


def test_a_hub_is_found_and_centring_removes_it():
    rng = np.random.default_rng(0)
    rows = np.concatenate([np.zeros((1, 30)), rng.normal(size=(200, 30))]) + 3
    found = hubs(Space(tuple(map(str, range(201))), unit(rows)), 3)
    emoji, lists = found.most[0]
    assert emoji == "0"
    assert lists > 190
    assert found.skew > 2 * found.skew_centred


def test_hubs_count_every_list():
    rng = np.random.default_rng(0)
    found = hubs(Space(tuple(map(str, range(50))), unit(rng.normal(size=(50, 5)))), 50)
    assert sum(count for _, count in found.most) == 50 * 10
    assert found.in_none == sum(count == 0 for _, count in found.most)


def test_duplicates_are_grouped():
    rows = np.random.default_rng(0).normal(size=(8, 20))
    rows[3], rows[5], rows[6] = rows[1] * 2, rows[1] * 3, rows[2] + 1e-4
    assert duplicates(Space(tuple("abcdefgh"), unit(rows))) == [("b", "d", "f"), ("c", "g")]


def test_the_page_stands_alone(page):
    assert all(word not in page for word in ("http:", "https:", "<script", "@import", "url("))
    tags: list[str] = []

    class Balance(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "link"):
                tags.append(tag)

        def handle_endtag(self, tag):
            assert tags.pop() == tag

    Balance().feed(page)
    assert tags == []


def test_the_page_shows_everything(page, vectors):
    assert "&lt;script&gt;.bin" in page  # the file's name
    assert "&lt;b&gt;.bin" in page  # its source's
    assert "never trained" in page
    assert "98.0 %" in page  # coverage
    assert 'title="red heart"' in page
    assert page.count(' filled"') >= len(FILLED)
    assert page.count("<text") == len(space(vectors, variants=False).emojis)


def test_the_page_without_shards_says_nothing_about_them(vectors, tmp_path):
    write_page(examine(vectors, "v.bin", None), tmp_path / "r.html")
    assert "shards" not in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_the_table_is_short_and_aligned(vectors):
    lines = format_table(examine(vectors, "v.bin", {"😂": 3, "🇫🇷": 1})).splitlines()
    folded = len(space(vectors, variants=False).emojis)
    assert lines[0].endswith(f"  46 of 40 dimensions, 2 filled; {folded} without variants")
    start = lines[0].index("46 of")
    assert all(line[start - 1] == " " != line[start] for line in lines)
    assert any("1, 25.0% of the tuples" in line for line in lines)
    assert len(lines) <= 10


def test_the_command_reports_on_shards(shards, vectors_file, tmp_path):
    emojis = all_canonical()[::40]
    save_vectors(keyed(emojis, table(emojis).matrix), tmp_path / "v.bin")
    out = tmp_path / "report.html"
    result = CliRunner().invoke(
        main, ["vectors", "report", str(tmp_path / "v.bin"), "--shards", str(shards), "--out", str(out)]
    )
    assert result.exit_code == 0, result.output
    assert "vocabulary: none" in result.output
    assert "The file does not say" in out.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["missing.bin"], "no vectors at missing.bin"),
        (["v.bin", "--shards", "."], "not a dataset"),
        (["v.bin"], "vectors of 2 emojis: a report needs 12"),
    ],
)
def test_what_cannot_be_reported_is_refused_in_one_line(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    save_vectors(keyed(["😀", "🔥"], np.eye(2, dtype=np.float32)), tmp_path / "v.bin")
    result = CliRunner().invoke(main, ["vectors", "report", *options, "--out", "r.html"])
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@NEEDS_CHROMIUM
def test_a_browser_shows_the_whole_page_at_both_widths_by_day_and_by_night(vectors, tmp_path):
    path = tmp_path / "report.html"
    write_page(examine(vectors, "made.bin", {"😂": 80, "🥰": 10, "👍🏿": 8, "🇫🇷": 2}), path)
    assert_is_shown_whole(path)
