"""All randomness of training. It is keyed, so that there is no state to lose or to save.

    seed ─► initial_weights ─► networks as they are before the first step
    (seed, purpose, number) ─► Noise ─► what each update draws

Every rank draws for the whole batch and keeps its own rows, so that a tuple meets the same noise on any
number of ranks.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@contextmanager
def initial_weights(seed: int) -> Iterator[None]:
    """Networks made meanwhile have weights of this seed; afterwards torch's own generator is as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@dataclass(frozen=True)
class Noise:
    """Draws rows for the tuples of this rank."""

    seed: int
    batch_size: int  # of all ranks
    rank: int
    world_size: int
    device: torch.device

    def normal(self, purpose: str, number: int, columns: int) -> torch.Tensor:
        """Standard normal [batch_per_rank, columns]."""
        generator = self._generator(purpose, number)
        return self._mine(torch.randn(self.batch_size, columns, generator=generator, device=self.device))

    def uniform(self, purpose: str, number: int, columns: int) -> torch.Tensor:
        """Uniform in [0, 1), [batch_per_rank, columns]."""
        generator = self._generator(purpose, number)
        return self._mine(torch.rand(self.batch_size, columns, generator=generator, device=self.device))

    def _generator(self, purpose: str, number: int) -> torch.Generator:
        key = f"{self.seed}/{purpose}/{number}".encode()
        seed = int.from_bytes(hashlib.blake2b(key, digest_size=7).digest(), "little")
        return torch.Generator(self.device).manual_seed(seed)

    def _mine(self, rows: torch.Tensor) -> torch.Tensor:
        per_rank = self.batch_size // self.world_size
        return rows[self.rank * per_rank : (self.rank + 1) * per_rank]
