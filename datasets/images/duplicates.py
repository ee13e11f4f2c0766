"""Images that are nearly the same: reposts, other compression, a little light.

pixels ─► fingerprints, int8 [images, WIDTH] ─► neighbours on curves through them ─► pairs that are near
                                             ─► the earliest one of each neighbourhood, and who follows it
"""

import hashlib
from collections.abc import Iterator
from functools import cache

import numpy as np

GRID = 16  # cells across and down, between which the steps of brightness are taken
STEPS = 2 * GRID * (GRID - 1)
VALUES = 64  # of a fingerprint
WIDTH = VALUES + 1  # and its reach
SPREAD = 32  # standard deviation of the values, so that int8 holds four of them

# A picture with too little in it to be compared is like no other: a sky or a ground, whose steps are smaller
# than this many grey levels, as root mean square; or a word on a ground, whose steps are so unequal that they
# count as fewer than FEWEST equal ones. Of 1,500 pictures of the demo world 0.6 % are such.
SMALLEST = 1.0
FEWEST = 12

# How much of a picture's steps may not be in a near-duplicate, whatever the light: as the sine of the angle
# between the two, and in grey levels, as root mean square, for a strong frame must not hide what is in it;
# but always what rounding makes. Of the copies of an image as another JPEG (quality 30 to 95), WebP or PNG,
# scaled by 0.3 to 1 and lit by 0.9 to 1.1, 98.6 and 98.7 % are so near, measured on two demo worlds of 600
# posts; 97 % of scikit-image's pictures; of screens, whose light ground turns white in more light, 88 %. No
# different pictures are: neither of the 359,400 pairs in the two worlds nor of 40,000 cards and 10,000
# screens. Where they share more, some are: 3 % of 3,000 cards in one bold frame, and 0.3 % of 50,000 cards of
# which each has half its text from some fifty others.
NEAR = 0.10
LEFT = 1.5
ROUNDING = 0.03

# An image is compared with so many before and after it on each curve, which goes through an equal share of
# the values. Among a million others all of 3,473 copies that are near to their image were found.
CURVES = 8
NEIGHBOURS = 8
AT_ONCE = 1 << 14  # images whose comparisons are in memory together


def fingerprint(pixels: np.ndarray) -> np.ndarray:
    """The fingerprint of one square, uint8 [size, size, 3]: int8 [WIDTH]."""
    return fingerprints(pixels[None])[0]


def fingerprints(pixels: np.ndarray) -> np.ndarray:
    """What is in each picture, in so many numbers that re-encoding, rescaling and light hardly change it.

    The steps of brightness from each cell of a grid to the next on the right and below tell edges and
    texture, in which texts and photographs differ most; less their mean, so that a sky which only grows
    darker is plain. Each value adds all steps, about half of them negatively, by signs of its own: then the
    angle between the values of two pictures is about that between all their steps, give or take a tenth of it
    (Johnson and Lindenstrauss, 1984).

    Args:
        pixels: uint8 [images, size, size, 3].

    Returns:
        int8 [images, WIDTH]: the values, and their reach, the sine of the angle at which a near-duplicate may
        be, in thousandths. Zeros for a plain picture.
    """
    size = pixels.shape[1]
    grey = pixels @ np.array([299.0, 587.0, 114.0])
    cells = _overlaps(size) @ grey @ _overlaps(size).T  # size² times the mean, in 1/1000 grey level
    cells = np.rint(cells * (16 / (1000 * size**2)))  # whole numbers, so that all sums of them are exact
    right = np.diff(cells, axis=2).reshape(len(cells), -1)
    below = np.diff(cells, axis=1).reshape(len(cells), -1)
    unit = STEPS // 2
    steps = np.concatenate([unit * each - each.sum(1, keepdims=True) for each in (right, below)], axis=1)
    square = np.square(steps)
    whole = square.sum(1, keepdims=True)
    shares = np.rint(square * (2**20 / np.maximum(whole, 1)))
    told = whole >= (SMALLEST * 16 * unit) ** 2 * STEPS
    told &= np.square(shares).sum(1, keepdims=True) * FEWEST <= 2**40
    length = np.sqrt(np.where(told, whole, np.inf))
    values = np.rint(steps @ _signs() * (SPREAD / length)).clip(-127, 127)
    level = length / (16 * unit * np.sqrt(STEPS))
    reach = np.where(told, np.rint(1000 * (LEFT / level).clip(ROUNDING, NEAR)), 0)
    return np.concatenate([values, reach], axis=1).astype(np.int8)


def _overlaps(size: int) -> np.ndarray:
    """How much of each of `size` pixels lies in each of GRID equal parts: [GRID, size], in 1/GRID."""
    edges, pixels = np.arange(GRID + 1)[:, None] * size, np.arange(size) * GRID
    return np.diff((edges - pixels).clip(0, GRID), axis=0).astype(np.float64)


@cache
def _signs() -> np.ndarray:
    """1 or -1 for each step and value, as random as a hash, so that they are the same in any version."""
    digest = hashlib.shake_256(b"near-duplicates").digest(STEPS * VALUES // 8)
    return np.unpackbits(np.frombuffer(digest, np.uint8)).reshape(STEPS, VALUES) * 2.0 - 1


def near_clusters(fingerprints: np.ndarray) -> np.ndarray:
    """Cluster images around representatives, of which each is the earliest image of its cluster.

    The others are near to the representative itself: no chain of small changes connects what looks
    different. The work for an image is bounded: it is compared with 2 * NEIGHBOURS others on each curve.

    Args:
        fingerprints: int8 [images, WIDTH].

    Returns:
        int64 [images], the position of each image's representative, which may be itself.
    """
    leader = np.arange(len(fingerprints))
    leads = fingerprints[:, VALUES] > 0
    for curve in range(CURVES):
        for pairs in _near_pairs(fingerprints, np.flatnonzero(leads), curve):
            for earlier, later in pairs.tolist():
                if leads[earlier] and leads[later]:
                    leader[later], leads[later] = earlier, False
    return _without_chains(fingerprints, leader)


def _near_pairs(fingerprints: np.ndarray, images: np.ndarray, curve: int) -> Iterator[np.ndarray]:
    """Pairs of near images among neighbours on a curve, some at a time: int64 [pairs, 2], earlier and later.

    A curve in Z order (Morton, 1966) runs through the space of its values cube by cube, and in each cube
    through the smaller cubes in it: where there are more pictures, finer differences keep them apart.
    """
    own = slice(curve * VALUES // CURVES, (curve + 1) * VALUES // CURVES)
    place = np.empty(len(images), np.uint64)
    for start in range(0, len(images), AT_ONCE):
        some = slice(start, start + AT_ONCE)
        place[some] = _on_curve(fingerprints[images[some], own])
    images = images[np.argsort(place, kind="stable")]
    for start in range(0, len(images), AT_ONCE):
        here = images[start : start + AT_ONCE + NEIGHBOURS]
        values = fingerprints[here].astype(np.float32)
        pairs = [np.empty((2, 0), np.int64)]
        for lag in range(1, min(NEIGHBOURS + 1, len(here))):
            one, other = slice(0, min(AT_ONCE, len(here) - lag)), slice(lag, lag + AT_ONCE)
            near = _are_near(values[one], values[other])
            pairs.append(np.sort([here[one][near], here[other][near]], axis=0))
        earlier, later = np.concatenate(pairs, axis=1)
        yield np.stack([earlier, later], axis=1)[np.lexsort((earlier, later))]


def _on_curve(values: np.ndarray) -> np.ndarray:
    """Where int8 [images, 8] lie on a curve, uint64 [images]: the values' first bits, then their second."""
    bits = np.unpackbits(values.view(np.uint8) ^ np.uint8(128), axis=1).reshape(-1, 8, 8)
    return np.packbits(bits.transpose(0, 2, 1).reshape(-1, 64), axis=1).view(">u8")[:, 0].astype(np.uint64)


def _are_near(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether each row is near the other's, bool [rows]. The sums are whole numbers, exact in float32."""
    reach = np.maximum(one[:, VALUES], other[:, VALUES]).astype(np.float64) / 1000
    one, other = one[:, :VALUES], other[:, :VALUES]
    product = np.einsum("iv,iv->i", one, other).astype(np.float64)
    squares = [np.einsum("iv,iv->i", each, each).astype(np.float64) for each in (one, other)]
    return (product > 0) & (product**2 >= (1 - reach**2) * squares[0] * squares[1])


def _without_chains(fingerprints: np.ndarray, leader: np.ndarray) -> np.ndarray:
    """Link an image whose representative came to follow another to the last of these, or to itself."""
    last = leader[leader]
    while (last[last] != last).any():
        last = last[last]
    chained = np.flatnonzero(last != leader)
    for start in range(0, len(chained), AT_ONCE):
        some = chained[start : start + AT_ONCE]
        values, others = (fingerprints[each].astype(np.float32) for each in (some, last[some]))
        far = some[~_are_near(values, others)]
        last[far] = far
    return last
