"""How busy the machines of a training are, under the names that MLflow's page "System metrics" knows.

    processor and memory of each node, by its first rank ─┐
    memory of the GPU of each rank                       ─┴► gathered with the metrics ─► metrics.jsonl

MLflow's own monitor is not used. It ends for good at the first answer that its server owes, what it saw
meanwhile is lost, and it counts steps of its own.
"""

import math
import socket
import time
from collections.abc import Callable

import psutil
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from ..runtime.background import later

EVERY = 10.0  # seconds
OF_NODE = ("cpu_utilization_percentage", "system_memory_usage_percentage", "system_memory_usage_megabytes")
OF_GPU = ("memory_usage_percentage", "memory_usage_megabytes")


class System:
    """Looks at the machine of this rank; made by all ranks together."""

    def __init__(self, accelerator: Accelerator, clock: Callable[[], float] = time.monotonic) -> None:
        hosts = gather_object([socket.gethostname()])
        self._names = [names(hosts, rank) for rank in range(len(hosts))]
        rank = accelerator.process_index
        self._is_first = hosts.index(hosts[rank]) == rank
        self._accelerator, self._clock, self._next = accelerator, clock, clock()
        psutil.cpu_percent()  # the next one is of the time since this one

    def read(self) -> Callable[[], dict[str, float]]:
        """Begin to read what is seen of all machines, where it is time to look again; all ranks must."""
        seen = [math.nan] * len(OF_NODE + OF_GPU)
        if (now := self._clock()) >= self._next:
            self._next, seen = now + EVERY, self._look()
        mine = torch.zeros(1, len(seen), dtype=torch.float64, device=self._accelerator.device)
        for column, number in enumerate(seen):
            mine[0, column].fill_(number)  # there: a copy would be waited for
        of_ranks = self._accelerator.gather(mine)
        assert isinstance(of_ranks, torch.Tensor)
        read = later(of_ranks)

        def metrics() -> dict[str, float]:
            rows = zip(self._names, read().tolist(), strict=True)
            seen = [pair for names, row in rows for pair in zip(names, row, strict=True)]
            return {name: number for name, number in seen if not math.isnan(number)}

        return metrics

    def _look(self) -> list[float]:
        """What `names` names of this rank; NaN is what others look at, or nobody."""
        node, gpu = [math.nan] * len(OF_NODE), [math.nan] * len(OF_GPU)
        if self._is_first:
            memory = psutil.virtual_memory()
            node = [psutil.cpu_percent(), 100 * memory.used / memory.total, memory.used / 1e6]
        if self._accelerator.device.type == "cuda":
            free, total = torch.cuda.mem_get_info()
            gpu = [100 * (total - free) / total, (total - free) / 1e6]
        return node + gpu


def names(hosts: list[str], rank: int) -> list[str]:
    """Of what a rank measures, by the hosts of all ranks; of a single node they do not tell which."""
    known = [*dict.fromkeys(hosts)]
    node = f"node_{known.index(hosts[rank])}/" if len(known) > 1 else ""
    gpu = f"gpu_{hosts[:rank].count(hosts[rank])}"
    return [f"system/{node}{name}" for name in (*OF_NODE, *(f"{gpu}_{name}" for name in OF_GPU))]
