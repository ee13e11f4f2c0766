"""Images that are nearly the same, found by their fingerprints: reposts, crops, other compression.

uint64 [images] ─► pairs that agree on some bits exactly ─► pairs within NEAR bits ─► clusters
"""

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from .fingerprints import NEAR

EDGES_AT_ONCE = 1 << 22


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
        live = np.flatnonzero(key[1:] == key[:-1])  # places with a neighbour of the same key, `lag` further
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
    nodes, places = np.unique(ends, return_inverse=True)
    rows, columns = places.reshape(ends.shape)
    graph = coo_array((np.ones(len(rows), np.bool_), (rows, columns)), shape=(len(nodes), len(nodes)))
    component = connected_components(graph, directed=False)[1]
    first = nodes[np.unique(component, return_index=True)[1]]
    return np.stack([nodes, first[component]])
