"""The central square of a picture, averaged over exact areas, in whole numbers.

So the bytes are the same on any processor.
"""

import math
from functools import lru_cache

import numpy as np

UNIT = 2**13  # weights are whole multiples of 1/UNIT
BAND = 4  # parts that are averaged in one product: so small that it starts no threads

Bands = tuple[tuple[slice, np.ndarray], ...]


def average_square(
    pixels: np.ndarray, full: tuple[int, int], scale: tuple[int, int], size: int
) -> np.ndarray:
    """The central square of an image of `full` width and height, given at scale[0] / scale[1] of them."""
    (over, under), side = scale, min(full)
    smooth = over < under or side < size
    spans = []
    for length in full:
        start, stop = (length - side) * over / (2 * under), (length + side) * over / (2 * under)
        first, last = math.floor(start), math.ceil(stop)
        spans.append((slice(first, last), _bands(last - first, start - first, stop - first, size, smooth)))
    (columns, across), (rows, down) = spans
    return _average(pixels[rows, columns], down, across)


def _average(pixels: np.ndarray, down: Bands, across: Bands) -> np.ndarray:
    """Weighted means of rows and then of columns: uint8 [size, size, 3].

    All sums are of whole numbers below 2^24, which float32 adds without error in any order: neither the
    processor nor the library's threads can change a byte. Between the two, means are rounded to quarters.
    """
    height, width, _ = pixels.shape
    flat = pixels.reshape(height, -1).astype(np.float32)
    rows = np.concatenate([band @ flat[touched] for touched, band in down])  # [size, width * 3]
    rows = np.rint(rows * np.float32(4 / UNIT)).reshape(-1, width, 3).transpose(0, 2, 1).reshape(-1, width)
    means = np.concatenate(
        [rows[:, touched] @ band.T for touched, band in across], axis=1
    )  # [size * 3, size]
    means = np.rint(means * np.float32(1 / (4 * UNIT))).clip(0, 255).astype(np.uint8)
    return means.reshape(-1, 3, means.shape[1]).transpose(0, 2, 1)


@lru_cache(maxsize=256)
def _bands(length: int, start: float, stop: float, size: int, smooth: bool) -> Bands:
    """The weights, BAND parts at a time: the pixels that they touch, and float32 [parts, pixels touched]."""
    weights = _weights(length, start, stop, size, smooth)
    bands = []
    for first in range(0, size, BAND):
        band = weights[first : first + BAND]
        touched = np.flatnonzero(band.any(axis=0))
        span = slice(int(touched[0]), int(touched[-1]) + 1)
        bands.append((span, np.ascontiguousarray(band[:, span], np.float32)))
    return tuple(bands)


def _weights(length: int, start: float, stop: float, size: int, smooth: bool) -> np.ndarray:
    """What each of `length` pixels adds to each of `size` equal parts of [start, stop]: [size, length].

    A part is the difference between the running sums of the pixels at its two ends. At the pixels' edges the
    running sum is exact; within a pixel it has to be interpolated. A straight line gives each part the mean
    of its exact area. If `smooth`, a cubic curve is taken, whose slope at an edge is the mean of the two
    pixels there, so that brightness changes gradually within a pixel. For pixels that are means over blocks
    themselves, as of a reduced JPEG, the result is 4 dB nearer to averaging the full image.
    """
    edges = np.linspace(start, stop, size + 1)
    pixel = np.minimum(edges.astype(int), length - 1)
    part = edges - pixel
    sums = (np.arange(length) < pixel[:, None]).astype(np.float64)  # [size + 1, length]
    edge = np.arange(size + 1)
    if smooth:
        sums[edge, pixel] += part**2 * (3 - 2 * part)
        for slope, knot in ((part * (1 - part) ** 2, pixel), (-(part**2) * (1 - part), pixel + 1)):
            sums[edge, np.maximum(knot - 1, 0)] += slope / 2
            sums[edge, np.minimum(knot, length - 1)] += slope / 2
    else:
        sums[edge, pixel] += part
    shares = np.diff(sums, axis=0) * (size / (stop - start))
    # Rounding the running sums, not the shares, makes each part's shares sum to UNIT.
    return np.diff(np.rint(shares.cumsum(axis=1) * UNIT), axis=1, prepend=0)
