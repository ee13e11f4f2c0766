"""The report: one page that needs nothing else, and that nobody's caption can break."""

import base64
import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from emojigan.datasets.stream.held_out import HeldOut
from emojigan.trainer.evaluation.bootstrap import Comparison, Interval, Word
from emojigan.trainer.evaluation.judge import Judged
from emojigan.trainer.evaluation.metrics.by_emoji import OfEmoji
from emojigan.trainer.evaluation.metrics.calibration import Reliability
from emojigan.trainer.evaluation.metrics.reactions import REACTION_METRICS
from emojigan.trainer.evaluation.metrics.scene import Scene
from emojigan.trainer.evaluation.metrics.table import METRICS
from emojigan.trainer.evaluation.report.examples import EmojiError, some, worst
from emojigan.trainer.evaluation.report.figures import Bar, Embedding, Example, largest
from emojigan.trainer.evaluation.report.report import (
    Report,
    format_tables,
    held_out_text,
    unsayable_text,
    verdict,
    write_report,
)
from emojigan.trainer.evaluation.report.tables import format_table, standings, table
from emojigan.trainer.evaluation.report.training import MOST, Curve, read_curves

from ....browser import NEEDS_CHROMIUM, assert_is_shown_whole

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7 * 7 }}&amp;"


class Page(HTMLParser):
    """The elements of a page, with their attributes, and its text."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def judged(label: str, scores: dict[str, float], **words: Word) -> Judged:
    """A model with intervals of ±.01, and what the first one is beside it."""
    intervals = {key: Interval(score - 0.01, score + 0.01) for key, score in scores.items()}
    beside = {key: Comparison(word, Interval(-0.02, 0.02)) for key, word in words.items()}
    return Judged(label, f"what {label} is", scores, intervals, beside)


def report(caption: str = "cat", emoji: str = "😍", *, known: bool = True) -> Report:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    bars = tuple(Bar(e, p, p / 2 if known else None) for e, p in ((emoji, 0.5), ("❤", 0.25), ("🧑‍🚀", 0.1)))
    keys = [metric.key for metric in METRICS] if known else ["energy_score", "brier", "nll", "top1", "fed"]
    in_truth = (0.4, 0.01, 0.11) if known else (math.nan,) * 3
    return Report(
        title="EmojiGAN & its reactions",
        models=(
            judged("EmojiGAN", dict.fromkeys(keys, 0.1)),
            judged("Softmax classifier", dict.fromkeys(keys, 0.2), **dict.fromkeys(keys, "better")),
            judged("Marginal", dict.fromkeys(keys, 0.3), **dict.fromkeys(keys, "level")),
        ),
        floor=dict.fromkeys(keys, 0.05) if known else {"fed": 0.05},
        embedding=Embedding(rng.normal(size=(3, 2)), np.stack([image] * 3), (emoji, "❤", "😂")),
        histogram=tuple(Bar(bar.emoji, bar.fitted, 0.2) for bar in bars),
        examples=(Example(image, caption, (emoji,), bars),) * 2,
        worst=(Example(image, f"{caption}: surprise 4.20", (emoji,), bars),),
        errors=(EmojiError(emoji, OfEmoji(0, 1200, 0.5, *in_truth, 1.5)),),
        curves=(Curve("NLL on val", "what it is", np.array([10.0, 20.0]), np.array([4.0, 2.5])),),
        facts={"dataset": "sha256:0123", "steps": "2,600"},
        reliability=Reliability(
            np.array([0.00001, 0.01, 0.6]), np.array([0.0, 0.02, 0.5]), np.array([900, 80, 20])
        ),
        held_out="9 images, 4 emojis, 12 tuples",
        split="by post: the same people are in both",
        about_reactions="None of 9 held-out reactions has two emojis: there is nothing whole to measure.",
    )


def with_reactions(shown: Report) -> Report:
    """The same, of which a baseline has scores of reactions alone."""
    keys = [metric.key for metric in REACTION_METRICS]
    others = [replace(each, scores=each.scores | dict.fromkeys(keys, 0.7)) for each in shown.models]
    words = dict.fromkeys(keys, "worse")
    only = judged("Co-occurrence model", dict.fromkeys(keys, 0.6), **words)
    return replace(shown, models=(*others, only), about_reactions="9 held-out reactions, 4 of them of more.")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(report(), tmp_path_factory.mktemp("report") / "new").parent


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    return (folder / "index.html").read_text("utf-8")


def test_all_files_are_there_and_no_other(folder: Path):
    assert {path.name for path in folder.iterdir()} == {"index.html", "fig2.png", "fig3.png", "fig4.png"}
    for path in folder.glob("*.png"):
        with Image.open(path) as picture:
            assert picture.width > 600


def test_the_page_needs_no_other_file_and_no_network(html: str):
    page = Page(html)
    for tag, attributes in page.elements:
        assert tag not in {"script", "iframe", "object", "embed", "base"}
        for attribute in {
            "src",
            "href",
            "xlink:href",
            "srcset",
            "action",
            "poster",
            "data",
        } & attributes.keys():
            assert str(attributes[attribute]).startswith("data:")
    assert not re.search(r"url\(|@import|https?:", html)
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_images_are_inline_and_whole(html: str):
    page = Page(html)
    images = [image["src"] for image in page.all("img")] + [image["href"] for image in page.all("image")]
    assert len(images) == 2 + 1 + 3
    for address in images:
        Image.open(io.BytesIO(base64.b64decode(str(address).partition("base64,")[2]))).load()


def test_every_figure_is_there_with_what_to_see_and_what_to_beware_of(html: str):
    page = Page(html)
    for number in (2, 3, 4):
        assert f"Fig. {number}." in page.text
    assert len(page.all("figure")) == len(page.all("figcaption")) == 5
    for heading, times in (("What to see.", 5), ("In the paper,", 3), ("Beware.", 5)):
        assert page.text.count(heading) == times
    assert "a generator that ignores the image scores perfectly" in page.text


def test_the_page_can_be_read_aloud(html: str):
    page = Page(html)
    assert page.all("html") == [{"lang": "en"}]
    assert "<title>EmojiGAN &amp; its reactions</title>" in html
    assert all(image["alt"] for image in page.all("img"))
    assert all(svg["aria-label"] for svg in page.all("svg"))
    assert all(header["scope"] for header in page.all("th"))
    assert all(span.get("aria-label") for span in page.all("span") if span.get("class") == "emoji")


def test_emojis_are_fully_qualified_and_in_elements_of_their_own(html: str):
    assert ">❤️</span>" in html
    assert 'aria-label="red heart"' in html
    assert not re.search("❤(?!\ufe0f)", html)
    outside = re.sub(r'<span class="emoji".*?</span>|<text .*?</text>', "", html)
    assert not re.search("[\U0001f000-\U0001ffff❤]", outside)
    assert ".emoji { font-family: var(--emoji)," in html
    assert '--emoji: "Noto Color Emoji", "Apple Color Emoji", "Segoe UI Emoji";' in html


def test_both_colour_schemes_are_there(html: str):
    assert 'name="color-scheme" content="light dark"' in html
    assert "@media (prefers-color-scheme: dark)" in html


def test_hostile_captions_and_emojis_are_text(tmp_path: Path):
    hostile = replace(report(HOSTILE, HOSTILE), title=HOSTILE, facts={HOSTILE: HOSTILE})
    html = write_report(hostile, tmp_path).read_text("utf-8")
    page = Page(html)
    assert not page.all("script")
    assert not any("onerror" in attributes for _, attributes in page.elements)
    assert "Held-out image: " + HOSTILE in {image["alt"] for image in page.all("img")}
    assert HOSTILE in page.text
    assert "{{ 7 * 7 }}" in html


def test_without_a_truth_the_page_claims_none(tmp_path: Path):
    unknown = report(known=False)
    page = Page(write_report(unknown, tmp_path).read_text("utf-8"))
    assert "Truth itself" not in page.text and "the truth" not in page.text.partition("Does 10 %")[0]
    assert "Total variation" not in page.text
    assert "Posts drawn again" in page.text and "how far chance alone is" in page.text
    assert verdict(unknown).startswith(
        "Energy score on held-out images, where lower is better: "
        "EmojiGAN 0.10, softmax classifier 0.20, marginal 0.30; on 9 images, 4 emojis, 12 tuples."
    )


def test_the_verdict_compares_like_with_like():
    """An exact distribution beside 50 samples of the truth would seem to be nearly there."""
    floor = {**report().floor, "tv": 0.0, "tv_50": 0.16}
    text = verdict(replace(report(), floor=floor))
    assert text.startswith("Total variation from the truth, where 0 is the truth itself: EmojiGAN 0.10,")
    assert "samples" not in text and "0.16" not in text
    alone = replace(report(known=False), models=report(known=False).models[:1])
    assert verdict(alone).endswith(
        ": EmojiGAN 0.10; on 9 images, 4 emojis, 12 tuples. Split by post: the same people are in both."
    )


def test_it_is_said_on_how_many_metrics_the_first_model_is_better_and_worse():
    """By the words, which come from intervals, and never by the numbers."""
    scores = {"tv": 0.18, "top1": 0.4, "entropy_ratio": 0.8, "nll": 3.0}
    models = (
        judged("EmojiGAN", scores),
        judged("Softmax classifier", scores, tv="worse", top1="level", entropy_ratio="worse", nll="better"),
        judged("Marginal", scores, tv="better", nll="better"),
    )
    assert [*standings(models)] == [
        "Beside the softmax classifier: single emojis better on 1 of 4 metrics, worse on 2, level on 1.",
        "Beside the marginal: single emojis better on 2 of 2 metrics.",
    ]


def test_the_reliability_curve_has_a_point_for_each_bin_within_its_axes(html: str):
    points = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="14"><title>(.*?)</title>', html)
    assert [tuple(map(float, point[:2])) for point in points] == [
        (0, 1000),  # less than the axis begins with
        (500, pytest.approx(1000 * -np.log(0.02) / np.log(1e4), abs=0.1)),
        (pytest.approx(1000 + 250 * np.log10(0.6), abs=0.1), pytest.approx(-250 * np.log10(0.5), abs=0.1)),
    ]
    assert points[1][2] == "told 1.00%, posted 2.00%, 80 times"


def test_emojis_that_are_erred_on_stand_with_how_much(html: str):
    told = Page(html).text.partition("Emojis that it errs most on")[2].partition("Over all held-out")[0]
    for each in ("smiling face with heart-eyes", "1,200", "50.0 %", "40.0 %", "1.0 %", "11.0 %", "1.50"):
        assert each in told


def test_curves_of_the_training_are_those_of_its_metrics(tmp_path: Path):
    """Thinned to so many points; what is damaged, not finite or constant is left out."""
    others = {"train/nll": math.nan, "train/latent_use": 0.0}
    rows = [{"step": n, "val/nll": 4 - n / 1000, **others} for n in range(999)]
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 1000, "val/nll"\n')
    (curve,) = read_curves(file)
    assert (curve.label, len(curve.step)) == ("NLL on val", MOST)
    np.testing.assert_allclose(curve.value, 4 - curve.step / 1000)
    assert read_curves(tmp_path / "none.jsonl") == ()


def test_bars_of_the_worst_pictures_stay_in_their_cells(tmp_path: Path):
    worst = tuple(replace(each, bars=(Bar("😂", 0.95, 0.01), *each.bars)) for each in report().worst)
    html = write_report(replace(report(), worst=worst), tmp_path).read_text("utf-8")
    assert max(map(float, re.findall(r"--p: ([\d.]+)%", html))) == 100


def test_a_run_whose_metrics_are_gone_has_a_page_without_curves(tmp_path: Path):
    text = Page(write_report(replace(report(), curves=()), tmp_path).read_text("utf-8")).text
    assert "How did its training go?" not in text


def test_the_page_says_how_the_posts_were_split(html: str):
    assert "Split by post: the same people are in both." in Page(html).text


def test_better_and_worse_are_told_by_intervals_alone(html: str):
    before = html.partition("Does 10 %")[0]
    assert "<b>" not in before and "*" not in format_tables(report())
    assert before.count('<small class="better">EmojiGAN better</small>') == len(METRICS)
    assert before.count('<small class="level">EmojiGAN level</small>') == len(METRICS)
    assert before.count("<small>[0.090, 0.110]</small>") == len(METRICS)
    assert Page(html).text.count("the 95 % interval, posts drawn again 1,000 times") == 1


def test_reactions_have_a_table_of_their_own(tmp_path: Path):
    page = Page(write_report(with_reactions(report()), tmp_path).read_text("utf-8"))
    tuples, reactions = page.text.partition("Does 10 %")[0].split("Does it know what goes together?")
    assert "Co-occurrence" not in tuples and "Brier score" in tuples
    for told in (
        "Co-occurrence",
        "what Co-occurrence model is",
        "Gain over independence",
        "0.600",
        "of more.",
    ):
        assert told in reactions
    assert "what Marginal is" in tuples and "what Marginal is" not in reactions
    assert "Beside the co-occurrence model: whole reactions worse on 7 of 7 metrics." in tuples
    assert "Brier score" not in reactions and "Gain over independence" not in tuples


def test_where_no_reaction_has_two_emojis_one_line_says_so(html: str):
    text = Page(html).text.partition("Does it know what goes together?")[2].partition("Does 10 %")[0]
    assert text.split() == report().about_reactions.split()
    assert report().about_reactions in format_tables(report())


def test_a_model_without_reactions_stands_in_the_table_without_scores(tmp_path: Path):
    shown = with_reactions(report())
    first, *others = shown.models
    shown = replace(shown, models=(replace(first, scores={"nll": 0.1}), *others))
    lines = format_table(table(REACTION_METRICS, shown.models, {})).splitlines()
    assert lines[0].split() == ["EmojiGAN", "Softmax", "classifier", "Marginal", "Co-occurrence", "model"]
    assert all(" – " in line for line in lines[1:])


def test_the_table_of_the_terminal_is_aligned():
    models = [
        judged("EmojiGAN", {"tv": 0.125, "nll": 12.5}),
        judged("Marginal", {"tv": 0.58}, tv="better"),
    ]
    assert format_table(table(METRICS, models, {"tv": 0, "nll": 1.7})).splitlines() == [
        "                           EmojiGAN                        Marginal  Truth itself",
        "Total variation ↓             0.125    [0.115, 0.135]  0.580 better         0.000",
        "Negative log-likelihood ↓    12.500  [12.490, 12.510]             –         1.700",
    ]
    assert "Truth" not in format_table(table(METRICS, models, {}))
    assert "-0.000" not in format_table(table(METRICS, [judged("EmojiGAN", {"tv": -1e-9})], {}))


def test_of_several_trainings_mean_and_deviation_are_told(tmp_path: Path):
    first, *others = report().models
    of_three = replace(first, seeds=dict.fromkeys(first.scores, (0.1, 0.2, 0.3)))
    shown = replace(report(), models=(of_three, *others))
    line = format_tables(shown).splitlines()[1]
    assert "0.200 ± 0.100" in line
    assert "mean and standard deviation of 3 trainings" in format_tables(shown)
    assert "0.200 ± 0.100" in write_report(shown, tmp_path).read_text("utf-8")
    assert "±" not in format_tables(report())


def test_the_tuples_that_no_model_can_get_right_are_told():
    """`shards stats` counts fewer tuples of the test split, and a reader must learn why."""
    held_out = HeldOut(
        images=torch.zeros(2, 3, 4, 4, dtype=torch.uint8),
        posts=("a", "b"),
        image=np.array([0, 1, 1]),
        emojis=tuple("😍😂🦄"),
        reaction=np.array([0, 1, 1]),
    )
    scene = Scene(held_out, tuple("😍😂🦄"), np.arange(3), np.zeros((3, 2)), np.zeros(3), None, None)
    assert held_out_text(scene) == "2 images, 3 emojis, 3 tuples"
    text = unsayable_text(scene, tuple("😍😂"))
    assert text.startswith("; 1 of them with an emoji too rare")
    assert "`shards stats`" in text
    assert unsayable_text(scene, tuple("😍😂🦄")) == ""


def scene_of(truth: np.ndarray | None, observed: list[int], groups: list[int]) -> Scene:
    """An image for each tuple."""
    number = len(observed)
    images = torch.zeros(number, 3, 4, 4, dtype=torch.uint8)
    emojis = tuple("😍😂🔥"[each] for each in observed)
    held_out = HeldOut(images, tuple(map(str, range(number))), np.arange(number), emojis, np.arange(number))
    shares = np.array([0.5, 0.3, 0.2])
    return Scene(held_out, tuple("😍😂🔥"), np.array(observed), np.eye(3), shares, truth, np.array(groups))


def test_the_worst_images_are_those_that_are_farthest_off_one_of_each_kind():
    truth = np.array([[1.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    q = np.array([[0.9, 0.1, 0], [0.3, 0.7, 0], [0.5, 0.5, 0], [0.4, 0.2, 0.4]])
    found = worst(q, scene_of(truth, [0, 0, 1, 2], [7, 7, 8, 9]))
    assert [each.caption for each in found] == [
        "post 1: total variation 0.70",
        "post 3: total variation 0.60",
        "post 2: total variation 0.50",
    ]


def test_an_example_shows_what_people_write_that_the_model_has_not_among_its_likeliest():
    emojis = tuple("😍😂🦄🔥🐶🌊🍕🎉🐱💀🚀🌟❤")
    q = np.array([[0.0, 0.0, *np.linspace(0.2, 0.05, 11)]])
    q /= q.sum()
    truth = np.array([[0.5, 0.01, *[0.49 / 11] * 11]])
    images = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    held_out = HeldOut(images, ("a",), np.array([0]), ("😍",), np.array([0]))
    nothing = np.zeros(13)
    scene = Scene(held_out, emojis, np.array([0]), np.zeros((13, 2)), nothing, truth, np.array([0]))
    (example,) = some(q, scene)
    assert [bar.emoji for bar in example.bars] == [*emojis[2:12], "😍"]  # 😂 is too rare to be missed
    assert example.bars[-1] == Bar("😍", 0.0, 0.5)
    assert largest([example]) == 0.5


@NEEDS_CHROMIUM
def test_a_browser_shows_the_whole_page_at_both_widths_by_day_and_by_night(tmp_path: Path):
    assert_is_shown_whole(write_report(with_reactions(report()), tmp_path))
