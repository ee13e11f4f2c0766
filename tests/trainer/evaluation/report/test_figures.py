"""Figures: with an emoji font and without, whatever the emojis and captions are."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from emojigan.datasets.emojis import glyphs
from emojigan.datasets.emojis.glyphs import emoji_font, glyph
from emojigan.trainer.evaluation.report.figures import (
    MAX_POINTS,
    Bar,
    Embedding,
    Example,
    apart,
    fig2,
    fig3,
    fig4,
    tsne,
)

EMOJIS = (
    "😍",
    "❤",
    "🧑‍🚀",
    "🇫🇷",
    "😂",
    "☕",
)  # plain, styled, joined, a pair of letters, drawn by text fonts


@pytest.fixture(params=["with a font", "without one"])
def font(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    if request.param == "without one":
        monkeypatch.setattr(glyphs, "FONT", "NoSuchFont.ttf")
    emoji_font.cache_clear()
    glyph.cache_clear()
    if request.param == "with a font" and emoji_font() is None:
        pytest.skip("Noto Color Emoji is not installed")
    yield
    emoji_font.cache_clear()
    glyph.cache_clear()


def bars(emojis: tuple[str, ...] = EMOJIS, *, known: bool = True) -> tuple[Bar, ...]:
    return tuple(
        Bar(emoji, 0.4 / (i + 1), 0.3 / (i + 1) if known else None) for i, emoji in enumerate(emojis)
    )


def example(caption: str = "cat", *, known: bool = True) -> Example:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return Example(image, caption, EMOJIS[:2], bars(known=known))


def embedding(n: int = 6) -> Embedding:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, 64, 64, 3), dtype=np.uint8)
    return Embedding(rng.normal(size=(n, 2)), images, tuple(EMOJIS[i % 6] for i in range(n)))


def colours(figure: Figure, path: Path) -> int:
    """How many colours the saved PNG has, after a look at its size."""
    figure.savefig(path, dpi=60)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert 200 <= picture.width <= 2000 and 150 <= picture.height <= 2000
        return len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0))


@pytest.mark.usefixtures("font")
@pytest.mark.parametrize(
    "draw",
    [lambda: fig2(embedding()), lambda: fig3(bars()), lambda: fig4([example()] * 4)],
    ids=["fig2", "fig3", "fig4"],
)
def test_figures_are_drawn_with_the_font_and_without(draw, tmp_path: Path):
    assert colours(draw(), tmp_path / "figure.png") > 20


def test_one_image_is_enough(tmp_path: Path):
    assert colours(fig2(embedding(1)), tmp_path / "fig2.png") > 20
    assert colours(fig4([example()]), tmp_path / "fig4.png") > 20


def test_the_truth_of_examples_may_be_unknown(tmp_path: Path):
    assert colours(fig4([example(known=False)]), tmp_path / "fig4.png") > 20


@pytest.mark.usefixtures("font")
@pytest.mark.parametrize("text", ["$\\frac{1", "日本語 😀", "two\nlines\t$", "\x07", "", "é" * 500])
def test_no_text_breaks_a_figure(text: str, tmp_path: Path):
    unknown = bars((text, "😀"))
    assert colours(fig3(unknown), tmp_path / "fig3.png") > 20
    assert colours(fig4([Example(example().image, text, (text,), unknown)]), tmp_path / "fig4.png") > 20


@given(st.integers(1, 60), st.integers(0, 1000))
def test_points_are_moved_apart_and_all_stay_where_they_were_as_far_as_can_be(number: int, seed: int):
    rng = np.random.default_rng(seed)
    points = np.concatenate([rng.normal(size=(number, 2)), np.zeros((number, 2))])  # a pile among them
    moved = apart(points)
    between = np.abs(moved[:, None] - moved[None]).max(axis=-1)
    np.fill_diagonal(between, 1)
    assert between.min() == 1
    left, right = points[:, 0].argmin(), points[:, 0].argmax()
    assert moved[left, 0] <= moved[right, 0]


def test_points_on_a_grid_stay_there():
    side = 4
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2).astype(float)
    moved = apart(np.concatenate([grid]))
    assert (np.lexsort(moved.T) == np.lexsort(grid.T)).all()


def test_tsne_puts_clusters_apart_and_repeats_itself():
    rng = np.random.default_rng(0)
    cluster = np.repeat([0, 1, 2], 20)
    features = (10 * rng.normal(size=(3, 64))[cluster] + rng.normal(size=(60, 64))).astype(np.float32)
    plane = tsne(features)
    assert plane.shape == (60, 2)
    apart = np.linalg.norm(plane[:, None] - plane, axis=-1)
    np.fill_diagonal(apart, np.inf)
    assert (cluster[apart.argmin(1)] == cluster).all()
    assert (tsne(features) == plane).all()


@pytest.mark.parametrize("n", [2, 3, 7])
def test_tsne_takes_few_and_equal_features(n: int):
    assert np.isfinite(tsne(np.random.default_rng(0).normal(size=(n, 8)))).all()
    assert np.isfinite(tsne(np.ones((n, 8)))).all()


@pytest.mark.parametrize("n", [0, MAX_POINTS + 1])
def test_tsne_refuses_too_few_and_too_many(n: int):
    with pytest.raises(ValueError, match=f"not {n}"):
        tsne(np.zeros((n, 4)))


def test_one_image_is_somewhere():
    assert apart(tsne(np.ones((1, 4)))).tolist() == [[0, 0]]
