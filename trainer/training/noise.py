"""All randomness of training. It is keyed, so that there is no state to lose or to save.

    seed ─► initial_weights ─► networks as they are before the first step
    (seed, purpose, number, row, column) ─► Philox ─► Noise: what each update draws

A number is a hash of where it is used, computed there, on any device, inside a compiled or captured step. A
row is that of the global batch, so that a tuple meets the same noise on any number of ranks, and in whatever
parts a rank takes its batch.
"""

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

WORD = 0xFFFFFFFF
ROUNDS = 10
PURPOSES = {
    purpose: int.from_bytes(hashlib.blake2b(purpose.encode(), digest_size=4).digest(), "little")
    for purpose in ("augment", "critic", "latent")
}
"""Half of the key of what a draw is for. Made here, for a compiler cannot look into hashlib."""


@contextmanager
def initial_weights(seed: int) -> Iterator[None]:
    """Networks made meanwhile have weights of this seed; afterwards torch's own generator is as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


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
        high_a, low_a = _multiply(0xD2511F53, a)
        high_c, low_c = _multiply(0xCD9E8D57, c)
        a, b = high_c ^ b ^ (key[0] + turn * 0x9E3779B9 & WORD), low_c
        c, d = high_a ^ d ^ (key[1] + turn * 0xBB67AE85 & WORD), low_a
    return a, b, c, d


def _multiply(factor: int, number: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The high and the low 32 bits of a product of two 32-bit numbers, in steps that fit 63 bits."""
    low, high = factor * (number & 0xFFFF), factor * (number >> 16)
    return (high + (low >> 16)) >> 16, (((high & 0xFFFF) << 16) + low) & WORD


@dataclass(frozen=True)
class Noise:
    """Draws rows for tuples."""

    seed: int  # below 2³²

    def uniform(self, purpose: str, place: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        """Uniform in [0, 1), float32 [rows, columns]: multiples of 2⁻²⁴.

        Args:
            place: int64 [2], on the device: number of the update, and of the first of the rows in its batch.
        """
        words = torch.stack(self._words(purpose, place, rows, -(-columns // 4)), dim=2)
        return (words >> 8).flatten(1)[:, :columns].float() * 2**-24

    def normal(self, purpose: str, place: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        """Standard normal, float32 [rows, columns], by Box and Muller's transform; as `uniform`."""
        words = self._words(purpose, place, rows, -(-columns // 4))
        a, b, c, d = ((word >> 8).float() * 2**-24 for word in words)
        drawn = [*_box_muller(a, b), *_box_muller(c, d)]
        return torch.stack(drawn, dim=2).flatten(1)[:, :columns]

    def _words(self, purpose: str, place: torch.Tensor, rows: int, fours: int) -> tuple[torch.Tensor, ...]:
        """Four times int64 [rows, fours], in [0, 2³²)."""
        number, first = place.unbind()
        row = first + torch.arange(rows, device=place.device)[:, None]
        column = torch.arange(fours, device=place.device)
        return philox((row, column, number & WORD, number >> 32), (self.seed, PURPOSES[purpose]))


def _box_muller(one: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    radius, angle = (-2 * torch.log1p(-one)).sqrt(), 2 * math.pi * other  # 1 − u is never 0
    return radius * angle.cos(), radius * angle.sin()
