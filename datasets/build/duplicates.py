"""Images that are nearly the same: reposts, other compression, a little light.

pixels ─► fingerprints, uint64 [images] ─► pairs that agree on some bits exactly
                                        ─► pairs within NEAR bits ─► clusters
"""

from collections.abc import Iterator
from itertools import combinations

import numpy as np

EDGES_AT_ONCE = 1 << 22

# Bits in which the fingerprints of near-duplicates differ at most. Measured on two demo worlds of 600 posts:
# of the copies of an image as another JPEG (quality 30 to 95), WebP or PNG, scaled by 0.3 to 1 and lit by 0.9
# to 1.1, 98.6 and 99.2 % are within it. Of pairs of different crops of one photograph 0.02 and 0.04 % are;
# the median of such pairs is 30 bits. Of 338,530 pairs of different photographs none is.
NEAR = 2


def fingerprint(pixels: np.ndarray) -> int:
    """The fingerprint of one square, uint8 [size, size, 3]: 64 bits."""
    return int(fingerprints(pixels[None])[0])


def fingerprints(pixels: np.ndarray) -> np.ndarray:
    """64 bits of each picture, of which re-encoding, rescaling or a little light change hardly any.

    A difference hash of half horizontal and half vertical steps: whether the next cell of a 4 x 9 grid to the
    right, and of a 9 x 4 grid below, is brighter. A step of half a grey level or less counts as none: else
    a plain sky would give noise.

    Args:
        pixels: uint8 [images, size, size, 3].

    Returns:
        uint64 [images].
    """
    size = pixels.shape[1]
    grey = pixels @ np.array([299.0, 587.0, 114.0])  # whole numbers, so that all sums of them are exact
    half = 0.5 * 1000 * size**2  # half a grey level, in the units of _cells(grey)
    right = np.diff(_cells(grey, 4, 9), axis=2) > half
    below = np.diff(_cells(grey, 9, 4), axis=1) > half
    bits = np.concatenate([right.reshape(-1, 32), below.reshape(-1, 32)], axis=1)
    return np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64)


def _cells(grey: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Sums over the areas of a grid of equal cells, [images, rows, columns]: size² times the mean."""
    size = grey.shape[1]
    return _overlaps(size, rows) @ grey @ _overlaps(size, columns).T


def _overlaps(size: int, parts: int) -> np.ndarray:
    """How much of each of `size` pixels lies in each of `parts` equal parts: [parts, size], in 1/parts."""
    edges, pixels = np.arange(parts + 1)[:, None] * size, np.arange(size) * parts
    return np.diff((edges - pixels).clip(0, parts), axis=0).astype(np.float64)


def near_clusters(fingerprints: np.ndarray) -> np.ndarray:
    """Cluster images that a chain of near-duplicates connects.

    Args:
        fingerprints: uint64 [images].

    Returns:
        int64 [images], equal within a cluster; less than the number of images. A plain picture, whose
        fingerprint is 0, is like no other.
    """
    cluster = np.arange(len(fingerprints))
    told = np.flatnonzero(fingerprints)
    unique, image, inverse = np.unique(fingerprints[told], return_index=True, return_inverse=True)
    found = np.arange(len(unique))
    edges = [np.empty((2, 0), np.int64)]
    waiting = 0
    for pairs in _near_pairs(unique):
        edges.append(pairs)
        waiting += pairs.shape[1]
        if waiting > EDGES_AT_ONCE:
            edges, waiting = [_spanning(edges)], 0
    near, first = _spanning(edges)
    found[near] = first
    cluster[told] = told[image[found]][inverse]
    return cluster


def _near_pairs(unique: np.ndarray) -> Iterator[np.ndarray]:
    """Every pair of positions whose fingerprints differ in NEAR bits at most, int64 [2, pairs].

    Of NEAR + 2 blocks of bits at least two are untouched by NEAR changes (Manku, Jain and Das Sarma, 2007:
    "Detecting near-duplicates for web crawling"): for each two blocks, compare those that agree on them.
    """
    blocks = np.array_split(np.arange(64, dtype=np.uint64), NEAR + 2)
    masks = [np.bitwise_or.reduce(np.uint64(1) << block) for block in blocks]
    for one, other in combinations(masks, 2):
        key = unique & (one | other)
        order = np.argsort(key, kind="stable")
        key = key[order]
        lag = 1
        live = np.flatnonzero(key[1:] == key[:-1])  # positions whose key comes again `lag` further on
        while len(live):
            pairs = order[[live, live + lag]]
            yield pairs[:, np.bitwise_count(unique[pairs[0]] ^ unique[pairs[1]]) <= NEAR]
            lag += 1
            live = live[live + lag < len(key)]
            live = live[key[live] == key[live + lag]]


def _spanning(edges: list[np.ndarray]) -> np.ndarray:
    """The fewest edges that connect what edges connect: each position and the first one of its cluster."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.concatenate(edges, axis=1)
    nodes, position = np.unique(ends, return_inverse=True)
    rows, columns = position.reshape(ends.shape)
    graph = coo_array((np.ones(len(rows), np.bool_), (rows, columns)), shape=(len(nodes), len(nodes)))
    component = connected_components(graph, directed=False)[1]
    first = nodes[np.unique(component, return_index=True)[1]]
    return np.stack([nodes, first[component]])
