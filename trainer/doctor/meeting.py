"""The ranks meet in a store alone: what is wrong with their collectives can be told without any.

rank, address of the first one ─► meet ─► Meeting: what each tells, the first one gathers, and tells all

Nothing here waits without end. A rank that does not answer in time is lost, and is not waited for again.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore, PrefixStore, Store, TCPStore

from ...datasets.errors import InputError
from ..runtime.ranks import refuse_no_place_to_meet, said_by_torch
from .finding import Told

MEET_WITHIN = 60.0  # seconds, for the first to be there and for the others to come
HEAR_WITHIN = 10.0  # seconds in which an answer comes that others have given
POLL, LOOK = 0.02, 0.5  # seconds between looks

Result = TypeVar("Result")


class TooLate(Exception):
    """Something did not end in time."""


@dataclass
class Meeting:
    """The ranks of this start."""

    store: Store
    rank: int
    size: int
    host: str
    lost: set[int] = field(default_factory=set)  # ranks that do not answer; the first one knows
    stuck: bool = False  # something that did not end in time still runs in this process

    @property
    def main(self) -> bool:
        return self.rank == 0

    def tell(self, key: str, what: Any) -> None:
        """Let all ranks know something that JSON can hold."""
        self.store.set(key, json.dumps(what))

    def hear(self, key: str, within: float) -> Any:
        """What somebody tells, or told. Raises TooLate."""
        if not self._wait(lambda: self.store.check([key]), within):
            raise TooLate
        return json.loads(self.store.get(key))

    def came(self, within: float) -> dict[int, list[str]]:
        """The hosts of each rank that came: two where two processes take themselves for it."""
        self._wait(lambda: self.store.check([f"came/{rank}/1" for rank in range(self.size)]), within)
        here = [rank for rank in range(self.size) if self.store.check([f"came/{rank}/1"])]
        self.lost = {*range(self.size)} - {*here}
        return {rank: self._hosts(rank) for rank in here}

    def _hosts(self, rank: int) -> list[str]:
        numbers = range(1, self.store.add(f"came/{rank}", 0) + 1)
        return [self.hear(f"came/{rank}/{number}", HEAR_WITHIN) for number in numbers]

    def hosts(self) -> list[str]:
        """The host of each rank, where all came."""
        return [self.hear(f"came/{rank}/1", HEAR_WITHIN) for rank in range(self.size)]

    def gather(self, key: str, mine: Told, within: float, *, collective: bool = False) -> list[Told]:
        """What all ranks tell, on the first one; nothing on the others.

        Args:
            collective: when one tells of an error, others may wait for it in vain: they get less time.
        """
        self.tell(f"{key}/{mine.rank}", asdict(mine))
        if mine.error:
            self.tell(f"{key}/error", mine.rank)
        if not self.main:
            return []
        found: dict[int, Told] = {}
        deadline = time.monotonic() + within
        while (missing := {*range(self.size)} - self.lost - {*found}) and time.monotonic() < deadline:
            for rank in sorted(missing):
                if self.store.check([f"{key}/{rank}"]):
                    found[rank] = Told(**self.hear(f"{key}/{rank}", HEAR_WITHIN))
                    if collective and found[rank].error:
                        deadline = min(deadline, time.monotonic() + HEAR_WITHIN)
            time.sleep(POLL)
        if missing:
            self.lost |= missing
            self.tell("lost", sorted(missing))
        late = [Told(rank, "", {}, "does not answer") for rank in missing]
        return sorted([*found.values(), *late], key=lambda each: each.rank)

    def lost_some(self) -> bool:
        """Whether a rank that had come does not answer any more."""
        return self.store.check(["lost"])

    def part(self) -> None:
        """End together: the store may be in the first one's process."""
        with suppress(dist.DistError):
            self.store.add("left", 1)
            if self.main:
                self._wait(lambda: self.store.add("left", 0) >= self.size - len(self.lost), HEAR_WITHIN)
        if dist.is_initialized() and not self.stuck:
            dist.destroy_process_group()

    def failed_elsewhere(self, key: str) -> bool:
        """Whether some rank told of an error; it is in no collective then."""
        return self.store.check([f"{key}/error"])

    def _wait(self, reached: Callable[[], bool], within: float) -> bool:
        deadline = time.monotonic() + within
        while not (done := reached()) and time.monotonic() < deadline:
            time.sleep(POLL)
        return done


def meet() -> Meeting:
    """Find the others, as the launcher says where they are.

    Raises:
        InputError: it does not say so; the first one cannot be reached, or another process is this rank.
    """
    refuse_no_place_to_meet()
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    of_launcher = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store = connect(rank == 0 and not of_launcher) if size > 1 else HashStore()
    host = socket.gethostname()
    meeting = Meeting(store, rank, size, host)
    number = meeting.store.add(f"came/{rank}", 1)
    meeting.tell(f"came/{rank}/{number}", host)
    if number > 1:
        other = meeting.hear(f"came/{rank}/1", HEAR_WITHIN)
        raise InputError(f"rank {rank} is there twice: on {other} and on {host}. Number the nodes anew.")
    return meeting


def connect(serves: bool = False) -> Store:
    """A connection to the store: where one waits in it, the others do not. Raises InputError.

    Args:
        serves: the store is in this process, and no launcher has it.
    """
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    try:
        store = TCPStore(
            host_name=address,
            port=port,
            is_master=serves,
            timeout=timedelta(seconds=MEET_WITHIN),
            wait_for_workers=False,
            multi_tenant=True,
        )
    except RuntimeError as error:
        raise InputError(
            f"{address}:{port}, where the first rank is, cannot be reached from {socket.gethostname()} in "
            f"{MEET_WITHIN:.0f} s: {said_by_torch(error)}. See that it runs, and no firewall is between."
        ) from error
    return PrefixStore(f"doctor/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def in_time(
    function: Callable[[], Result], seconds: float, in_vain: Callable[[], bool] | None = None
) -> Result:
    """What a function returns; it runs in a thread of its own, on this rank's GPU. Raises TooLate.

    Args:
        in_vain: whether it may wait for another rank that does not come any more.
    """
    result: list[Result] = []
    raised: list[Exception] = []

    def call() -> None:
        try:
            if torch.cuda.is_available():
                torch.cuda.set_device(local_rank() % torch.cuda.device_count())
            result.append(function())
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    deadline = time.monotonic() + seconds
    while thread.is_alive() and (left := deadline - time.monotonic()) > 0:
        thread.join(min(left, LOOK))
        if in_vain and in_vain():
            deadline = min(deadline, time.monotonic() + HEAR_WITHIN / 2)
    if raised:
        raise raised[0]
    if not result:
        raise TooLate
    return result[0]


def local_rank() -> int:
    """The number of this rank among those of its node."""
    return int(os.environ.get("LOCAL_RANK", "0"))
