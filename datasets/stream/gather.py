"""Images of several shards in one look-up, straight from their memory maps.

A Python loop over slices takes half as long again, and holds the GIL meanwhile.
"""

import numpy as np


def overlapping(maps: list[np.ndarray], size: int) -> tuple[int, np.ndarray]:
    """All memory from the first to the last of some maps, as rows of `size` bytes that begin at every byte.

    So one array of row numbers gathers images from any of them. Only rows that lie in a map may be looked at.
    The maps stay mapped as long as the rows are there.

    Args:
        maps: uint8 [bytes] each.

    Returns:
        The address of the first row, and uint8 [bytes, size].
    """
    if not maps:
        return 0, np.empty((0, size), np.uint8)
    low = min(each.ctypes.data for each in maps)
    high = max(each.ctypes.data + each.nbytes for each in maps)
    return low, np.asarray(_Memory(maps, low, max(high - low - size + 1, 0), size))


class _Memory:
    """Every run of `size` bytes that begins within `length` bytes of an address, as rows that overlap.

    NumPy's array keeps a reference to it, and it keeps one to the maps, so that they stay mapped.
    """

    def __init__(self, maps: list[np.ndarray], address: int, length: int, size: int) -> None:
        self._maps = maps
        self.__array_interface__ = {
            **{"version": 3, "typestr": "|u1", "data": (address, True)},
            **{"shape": (length, size), "strides": (1, 1)},
        }
