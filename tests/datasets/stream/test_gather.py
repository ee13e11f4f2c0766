"""One look-up gathers images of several memory maps, and cannot outlive them."""

import gc
import weakref
from pathlib import Path

import numpy as np

from emojigan.datasets.stream.gather import overlapping

SIZE = 12  # bytes of an image


def maps_of(folder: Path, rng: np.random.Generator) -> list[np.ndarray]:
    maps = []
    for number, length in enumerate((100, 4096, 37)):
        path = folder / str(number)
        path.write_bytes(rng.integers(0, 256, length, np.uint8).tobytes())
        maps.append(np.memmap(path, np.uint8, "r"))
    return maps


def test_a_row_is_the_bytes_at_its_position_in_any_map(tmp_path: Path):
    maps = maps_of(tmp_path, np.random.default_rng(0))
    low, rows = overlapping(maps, SIZE)
    for each in maps:
        base = each.ctypes.data - low
        chosen = np.array([0, 1, len(each) - SIZE])
        expected = [each[start : start + SIZE] for start in chosen]
        np.testing.assert_array_equal(rows[base + chosen], expected)


def test_the_maps_stay_mapped_as_long_as_the_rows_are_there(tmp_path: Path):
    maps = maps_of(tmp_path, np.random.default_rng(1))
    expected, base = maps[1][5 : 5 + SIZE].copy(), maps[1].ctypes.data
    alive = [weakref.ref(each) for each in maps]
    low, rows = overlapping(maps, SIZE)
    del maps
    gc.collect()
    assert all(each() is not None for each in alive)
    np.testing.assert_array_equal(rows[base - low + 5], expected)
    del rows
    gc.collect()
    assert all(each() is None for each in alive)
