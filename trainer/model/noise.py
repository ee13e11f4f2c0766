"""All randomness of training. It is keyed, so that there is no state to lose or to save.

    seed ─► initial_weights ─► networks as they are before the first step
    (seed, number of the update, row, column) ─► Philox ─► uniform ─► normal: what an update draws

A number is a hash of where it is used, computed there, on any device, inside a compiled or captured step. A
row is that of the global batch, so that a tuple meets the same noise on any number of ranks, and in whatever
parts a rank takes its batch.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch.quasirandom import SobolEngine

WORD = 0xFFFFFFFF
ROUNDS = 10


@contextmanager
def initial_weights(seed: int) -> Iterator[None]:
    """Networks made meanwhile have weights of this seed; afterwards torch's own generator is as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def uniform(seed: int, place: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Uniform in [0, 1), float32 [rows, columns]: multiples of 2⁻²⁴.

    Args:
        seed: below 2³².
        place: int64 [2], on the device: number of the update, and of the first of the rows in its batch.
    """
    number, first = place.unbind()
    row = first + torch.arange(rows, device=place.device)[:, None]
    block = torch.arange(-(-columns // 4), device=place.device)
    words = torch.stack(philox((row, block, number & WORD, number >> 32), (seed, 0)), dim=2)
    return (words >> 8).flatten(1)[:, :columns].float() * 2**-24


def normal(drawn: torch.Tensor) -> torch.Tensor:
    """Standard normal from uniform numbers, [rows, columns] of an even number of columns (Box and Muller)."""
    one, other = drawn.chunk(2, dim=1)
    radius, angle = (-2 * torch.log1p(-one)).sqrt(), 2 * math.pi * other  # 1 − u is never 0
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)


def kept(drawn: torch.Tensor, dropout: float) -> torch.Tensor:
    """Factors by which features are left out, of uniform numbers: 0 for a share of them, so the others more.

    (Srivastava et al. 2014, "Dropout".)
    """
    return (drawn >= dropout) / (1 - dropout)


@lru_cache(maxsize=8)  # a model that is asked about photos one by one would draw the same again and again
def even_normal(number: int, dim: int, seed: int) -> torch.Tensor:
    """Standard normal, float32 [number, dim], spread evenly over the space, where independent draws clump.

    A mean over 500 of them is as near to the truth as one over about a thousand draws. By a scrambled
    sequence of Sobol's (Owen 1998, "Scrambling Sobol' and Niederreiter-Xing points"). Not to be written to:
    the same tensor comes again.
    """
    points = SobolEngine(dim, scramble=True, seed=seed).draw(number)
    return torch.special.ndtri(points.double().clamp(2**-30, 1 - 2**-30)).float()


def philox(counter: tuple[torch.Tensor, ...], key: tuple[int, int]) -> tuple[torch.Tensor, ...]:
    """Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").

    Args:
        counter: four int64 tensors of one shape, or of shapes that broadcast, in [0, 2³²).
        key: two numbers in [0, 2³²).

    Returns:
        Four int64 tensors in [0, 2³²), as random as independent draws for any two counters or keys.
    """
    a, b, c, d = counter
    for turn in range(ROUNDS):
        # By the factors less 2³², so that no product leaves an int64: the number is added to its high half.
        one, other = (0xD2511F53 - 2**32) * a, (0xCD9E8D57 - 2**32) * c
        a, b, c, d = (
            ((other >> 32) + c & WORD) ^ b ^ (key[0] + turn * 0x9E3779B9 & WORD),
            other & WORD,
            ((one >> 32) + a & WORD) ^ d ^ (key[1] + turn * 0xBB67AE85 & WORD),
            one & WORD,
        )
    return a, b, c, d
