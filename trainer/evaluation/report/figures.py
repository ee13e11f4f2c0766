"""The paper's figures 2 to 4 as pictures.

features [n, d] ─► tsne ─► Embedding ─► fig2 ─┐
probabilities ──► Bar, Example ─► fig3, fig4 ─┴─► Figure, to be saved

Matplotlib refuses colour fonts, so Pillow draws the emojis and Matplotlib places them as images. Where no
font can draw one, its English name stands instead.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.patches import Patch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from ....datasets.emojis.glyphs import glyph
from ....datasets.emojis.text import name
from ..evaluate import MAX_POINTS

ROOM = 2  # places of a map for each point
PANEL = 470  # points [pt], the side of a panel of Fig. 2

FITTED, TRUE, INK, FAINT = "#2f6db3", "#d98324", "#22262b", "#8a9099"
_TICK = {"color": TRUE, "linewidth": 2.4, "solid_capstyle": "butt"}
_RING = {"marker": "o", "markersize": 5, "color": INK, "markerfacecolor": "none", "linestyle": "none"}

_SIDES = {  # of a point: offset [pt], and which part of the picture lies there, from (0, 0) at its lower left
    "on": ((0, 0), (0.5, 0.5)),
    "below": ((0, -5), (0.5, 1)),
    "left": ((-5, 0), (1, 0.5)),
}


@dataclass(frozen=True)
class Bar:
    """An emoji (canonical) with its probability under the model and, where known, under the truth."""

    emoji: str
    fitted: float
    true: float | None


@dataclass(frozen=True)
class Example:
    """A held-out image, the emojis people posted under it, and the likeliest emojis in falling order."""

    image: NDArray[np.uint8]  # [H, W, 3]
    caption: str
    observed: tuple[str, ...]
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Embedding:
    """Held-out images on a plane, similar ones near each other, and the likeliest emoji of each."""

    points: NDArray[np.float64]  # [n, 2]; any two are at least 1 apart, in x or in y
    images: NDArray[np.uint8]  # [n, H, W, 3]
    emojis: tuple[str, ...]


def tsne(features: NDArray[np.floating]) -> NDArray[np.float64]:
    """Features [n, d] on a plane, [n, 2] (van der Maaten & Hinton 2008), by way of 50 principal components.

    Raises:
        ValueError: there are none, or more than MAX_POINTS.
    """
    n = len(features)
    if not 1 <= n <= MAX_POINTS:
        raise ValueError(f"t-SNE is drawn of 1 to {MAX_POINTS} images, not {n}")
    if n == 1:
        return np.zeros((1, 2))
    left, spread, _ = np.linalg.svd(features - features.mean(0, dtype=np.float64), full_matrices=False)
    components = (left * spread)[:, :50]
    start = 1e-4 * components[:, :2] / max(components[:, 0].std(), 1e-12)  # of equal features the spread is 0
    with threadpool_limits(1):  # more are no faster here, and ten times slower where the cores are shared
        plane = TSNE(perplexity=min(30, (n - 1) / 3), init=start, random_state=0).fit_transform(components)
    return plane.astype(np.float64)


def apart(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points [n, 2] moved to places of a grid, each to one of its own, so that none hides another.

    The places are ROOM times as many as the points, and all together are moved as little as can be: by the
    sum of the squares, in an assignment.
    """
    side = math.ceil(math.sqrt(ROOM * len(points)))
    low, high = points.min(axis=0), points.max(axis=0)
    spread = (points - low) / np.maximum(high - low, 1e-12) * (side - 1)
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)
    _, place = linear_sum_assignment(cdist(spread, grid, "sqeuclidean"))
    return grid[place].astype(np.float64)


def fig2(embedding: Embedding) -> Figure:
    """Two panels with the same coordinates: the images, and the likeliest emoji of each."""
    figure = Figure(figsize=(14, 7.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    span = np.ptp(embedding.points, axis=0).max() + 2
    size = min(40.0, PANEL / span)  # points [pt]: about as far as two are apart
    for axes, title in ((left, "Held-out images"), (right, "The likeliest emoji of each")):
        _plane(axes, embedding.points, title)
    for point, image, emoji in zip(embedding.points, embedding.images, embedding.emojis, strict=True):
        _place(left, image, point, 0.92 * size)
        _place_emoji(right, emoji, point, 0.85 * size)
    return figure


def fig3(bars: Sequence[Bar]) -> Figure:
    """How often each emoji is used over all images: true and fitted."""
    figure = Figure(figsize=(14, 4.6), layout="constrained")
    axes = figure.subplots()
    x = np.arange(len(bars))
    axes.bar(x - 0.2, [bar.true or 0 for bar in bars], 0.38, color=TRUE, label="true")
    axes.bar(x + 0.2, [bar.fitted for bar in bars], 0.38, color=FITTED, label="fitted")
    axes.set(xlim=(-0.7, len(bars) - 0.3), xticks=[], ylabel="share of all emojis")
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.legend(frameon=False)
    _frame(axes, "left", "bottom")
    for i, bar in enumerate(bars):
        _place_emoji(axes, bar.emoji, (i, 0), 17, "below")
    return figure


def fig4(examples: Sequence[Example]) -> Figure:
    """Each image with its likeliest emojis as bars; a tick at the truth, a ring at what people posted."""
    columns = min(3, math.ceil(math.sqrt(len(examples))))
    rows = math.ceil(len(examples) / columns)
    figure = Figure(figsize=(5.2 * columns, 3.1 * rows), layout="constrained")
    grid = figure.subplots(rows, 2 * columns, squeeze=False, width_ratios=[1, 1.5] * columns)
    for axes in grid.flat[2 * len(examples) :]:
        axes.set_axis_off()
    most = largest(examples)
    for example, picture, bars in zip(examples, grid.flat[::2], grid.flat[1::2], strict=False):
        picture.imshow(example.image, interpolation="lanczos")
        picture.set_axis_off()
        picture.set_title(_drawable(example.caption)[:28], fontsize=10, color=INK, parse_math=False)
        _bars(bars, example, most)
    keys: list[Patch | Line2D] = [Patch(color=FITTED, label="model")]
    if any(bar.true is not None for example in examples for bar in example.bars):
        keys.append(Line2D([], [], **_TICK, label="truth"))
    if any(example.observed for example in examples):
        keys.append(Line2D([], [], **_RING, label="posted under this image"))
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys), frameon=False)
    return figure


def largest(examples: Sequence[Example]) -> float:
    """The largest probability in them: the end of the scale that all bars have."""
    return max(max(bar.fitted, bar.true or 0) for example in examples for bar in example.bars)


def _bars(axes: Axes, example: Example, most: float) -> None:
    axes.barh(range(len(example.bars)), [bar.fitted for bar in example.bars], 0.62, color=FITTED)
    for i, bar in enumerate(example.bars):
        if bar.true is not None:
            axes.plot([bar.true] * 2, [i - 0.42, i + 0.42], **_TICK)
        if bar.emoji in example.observed:
            axes.plot(max(bar.fitted, bar.true or 0) + 0.05 * most, i, **_RING)
        _place_emoji(axes, bar.emoji, (0, i), 13, "left")
    axes.set(ylim=(len(example.bars) - 0.4, -0.6), xlim=(0, 1.1 * most), yticks=[])
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.locator_params(axis="x", nbins=4)
    axes.tick_params(labelsize=8, colors=FAINT)
    _frame(axes, "bottom")


def _plane(axes: Axes, points: NDArray[np.float64], title: str) -> None:
    low, high = points.min(0), points.max(0)
    middle, half = (low + high) / 2, np.ptp(points, axis=0).max() / 2 + 1
    axes.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half))
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, color=INK)
    _frame(axes)


def _frame(axes: Axes, *sides: str) -> None:
    """Show only these sides of the frame, quietly."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in sides)
        spine.set_color(FAINT)


def _place(
    axes: Axes, pixels: NDArray[np.uint8], point: Sequence[float], size: float, side: str = "on"
) -> None:
    """Draw an image, `size` points [pt] high, on, below or left of a point of the data."""
    offset, alignment = _SIDES[side]
    image = OffsetImage(pixels, zoom=size / len(pixels))
    box = AnnotationBbox(
        image,
        (point[0], point[1]),
        xybox=offset,
        boxcoords="offset points",
        box_alignment=alignment,
        frameon=False,
        pad=0,
        annotation_clip=False,
    )
    axes.add_artist(box)


def _place_emoji(axes: Axes, emoji: str, point: Sequence[float], size: float, side: str = "on") -> None:
    pixels = glyph(emoji)
    if pixels is not None:
        _place(axes, pixels, point, size, side)
        return
    offset, (right, top) = _SIDES[side]
    axes.annotate(
        _drawable(name(emoji))[:26] or "?",
        (point[0], point[1]),
        offset,
        textcoords="offset points",
        ha="right" if right == 1 else "center",
        va="top" if top == 1 else "center",
        rotation=90 if side == "below" else 0,
        fontsize=7,
        color=INK,
        annotation_clip=False,
        parse_math=False,
    )


def _drawable(text: str) -> str:
    """The text without what Matplotlib's font lacks, for which it would draw boxes and warn."""
    font = get_font(findfont(FontProperties()))
    return "".join(letter for letter in " ".join(text.split()) if font.get_char_index(ord(letter)))
