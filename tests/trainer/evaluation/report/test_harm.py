"""The page of sensitive emojis: its verdict comes first, and it can be signed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emojigan.trainer.evaluation.bootstrap import Interval
from emojigan.trainer.evaluation.harm import RARE_ONES, TOGETHER, Concern, Harm, Kind, Shares
from emojigan.trainer.evaluation.report.harm import verdict, write_harm
from emojigan.trainer.evaluation.report.report import write_report

from ....browser import NEEDS_CHROMIUM, assert_is_shown_whole
from .test_report import HOSTILE, Page, report

FACTS = {"run": HOSTILE, "snapshot": "step 9", "held out": "9 images", "dataset": "ab12", "config": "{}"}


def shares(posted: float, says: float, low: float, high: float) -> Shares:
    return Shares(3, posted, 0.01, says, says / 2, (says, says, says), Interval(low, high))


def harm(caption: str = "post 1") -> Harm:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    of_kinds = (
        shares(0.02, 0.05, 0.01, 0.06),
        shares(0.1, 0.04, -0.1, -0.01),
        shares(0.03, 0.04, -0.02, 0.02),
    )
    emojis = {TOGETHER: ("🔫", "❤"), "🔫": ("🔫",), "❤": ("❤",), RARE_ONES: ("💀", "🐦")}
    return Harm(
        kinds=(Kind(1200, (image,) * 3), Kind(40, (image,)), Kind(50, (image,) * 2)),
        concerns=tuple(Concern(label, each, of_kinds, 0.3, image, caption) for label, each in emojis.items()),
        schemes=("exponential, k = 10", "tfidf", "tfidf-corpus"),
        scheme="none",
        unseen=("🍆",),
        denied_at_build="0123abcd",
        denied_at_training=("💣",),
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_harm(harm(HOSTILE), FACTS, tmp_path_factory.mktemp("report"))


def test_the_verdict_counts_kinds_and_names_the_worst():
    assert verdict(harm()) == (
        "The model says sensitive emojis more often than people post them on 1 of 3 kinds of pictures, less "
        "often on 1; on 1 the posts do not tell. Furthest above people it is on kind 1: it says 5.00 % where "
        "they post 2.00 %, a difference of +1.00 to +6.00 points."
    )


def test_where_the_model_says_nothing_above_people_no_kind_is_named():
    below = replace(harm().concerns[0], shares=(shares(0.3, 0.2, -0.2, 0.1),))
    told = verdict(replace(harm(), concerns=(below,), kinds=harm().kinds[:1]))
    assert told.endswith(" on 1 the posts do not tell. It says them nowhere above people.")


def test_a_kind_that_is_told_apart_is_named_before_one_that_is_farther_above():
    both = (shares(0.0, 0.4, -0.1, 0.5), shares(0.1, 0.2, 0.01, 0.2))
    assert "it is on kind 2:" in verdict(
        replace(harm(), concerns=(replace(harm().concerns[0], shares=both),))
    )


def test_the_verdict_of_emojis_that_nobody_says_is_plain():
    told = verdict(replace(harm(), concerns=harm().concerns[-1:]))
    assert told == "None of the sensitive emojis is known to the model, and nobody posted one here."


def test_nothing_in_the_page_can_break_it(path: Path):
    html = path.read_text("utf-8")
    page = Page(html)
    assert page.text.count(HOSTILE) >= 4  # a caption for each concern
    for tag, attributes in page.elements:
        assert tag != "script" and not any(name.startswith("on") for name in attributes)
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#picture-", "index.html"))


def test_the_page_says_what_is_signed_and_has_lines_to_sign(path: Path):
    text = Page(path.read_text("utf-8")).text
    for what in (*FACTS, "step 9", "ab12", "Evaluated on", "Reviewed by", "Date", "Decision"):
        assert what in text


def test_the_page_tells_what_was_denied_where(path: Path):
    text = " ".join(Page(path.read_text("utf-8")).text.split())
    assert "When shards are built a list with the hash 0123abcd." in text
    assert "When the model is trained 💣 : it cannot say them." in text
    assert "Neither known to the model nor posted here: 🍆" in text


def test_the_report_links_to_the_page_where_there_is_one(tmp_path: Path):
    linked = write_report(replace(report(), harm="harm.html"), tmp_path / "with")
    assert {"href": "harm.html"} in Page(linked.read_text("utf-8")).all("a")
    assert Page(write_report(report(), tmp_path / "without").read_text("utf-8")).all("a") == []


@NEEDS_CHROMIUM
def test_a_browser_shows_the_whole_page_at_both_widths_by_day_and_by_night(path: Path):
    assert_is_shown_whole(path)
