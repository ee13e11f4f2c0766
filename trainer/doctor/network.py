"""Whether the ranks reach each other, add up rightly, and how fast: the process group of the training."""

import math
import os
import socket
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from itertools import cycle, islice

import torch
import torch.distributed as dist

from ..runtime.ranks import said_by_torch
from ..runtime.together import LONGER
from .examined import Examined
from .finding import State, Told, errors, ranks
from .meeting import TooLate, connect, in_time

GLOO, NCCL = "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"  # only Gloo takes the name of the machine without it
JOIN_WITHIN = 30.0  # seconds
NUMBERS = 2**22  # float32, as many as the default networks have parameters or so
SMALL, LARGE = 20, 5  # how often each is timed
ROUNDS = 8  # in each, a node sends to another one and hears from it
BEHIND = 4  # times slower than the others: that pair is told
SLOW = 0.1  # GB/s between two nodes: gradients would take longer than many a step
LATE = 0.05  # seconds of the smallest sum


def device() -> torch.device:
    """Of this rank."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def look_at_joining(examined: Examined) -> dict:
    """Join, and say why that was not possible: a rank that hangs has more to tell than that it does."""
    meeting, on_gpu = examined.meeting, torch.cuda.is_available()
    backend, variable = ("nccl", NCCL) if on_gpu else ("gloo", GLOO)

    def join() -> None:
        patience = timedelta(minutes=examined.settings.timeout, seconds=LONGER)
        dist.init_process_group(
            backend, store=connect(), rank=meeting.rank, world_size=meeting.size, timeout=patience
        )
        dist.all_reduce(torch.zeros(1, device=device()))

    began, error = time.monotonic(), ""
    try:
        in_time(join, JOIN_WITHIN)
    except TooLate:
        error, meeting.stuck = f"did not join in {JOIN_WITHIN:.0f} s", True
    except RuntimeError as failure:
        error, meeting.stuck = said_by_torch(failure), True
    return {
        "seconds": time.monotonic() - began,
        "error": error,
        "address": _address(),
        "variable": variable,
        "interface": os.environ.get(variable, ""),
    }


def _address() -> str:
    """What the name of this machine comes to."""
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return ""


def judge_joining(told: Sequence[Told]) -> tuple[State, str]:
    failed = [each for each in told if each.error or each.facts["error"]]
    if not failed:
        return "fine", f"all joined in {max(each.facts['seconds'] for each in told):.1f} s"
    said = errors([Told(each.rank, each.host, {}, each.error or each.facts["error"]) for each in failed])
    hosts = {each.host: each.facts for each in told if each.facts}
    if any(facts["variable"] == NCCL for facts in hosts.values()):
        return "failure", (
            f"{said}. Set {NCCL} to the interface by which nodes reach each other, and see that a firewall "
            "lets them talk on all ports."
        )
    names = ", ".join(
        f"{host} resolves to {facts['address']}"
        for host, facts in hosts.items()
        if not facts["interface"] and facts["address"].startswith("127.")
    )
    if names and len({each.host for each in told}) > 1:
        return "failure", (
            f"{said}. On their own machines {names}: set {GLOO} to the interface by which nodes reach each "
            "other, or mend /etc/hosts."
        )
    return "failure", f"{said}. See that a firewall lets the nodes talk on all ports."


def look_at_sums(examined: Examined) -> dict:
    """Each adds its number to a place of its own, so that a wrong sum names the rank; then to many."""
    rank, size = examined.meeting.rank, examined.meeting.size
    numbers, many = torch.zeros(size, device=device()), torch.full((NUMBERS,), rank + 1.0, device=device())
    numbers[rank] = rank + 1
    for each in (numbers, many):
        dist.all_reduce(each)
    off = many != size * (size + 1) / 2  # whole numbers below 2²⁴, up to 5,792 ranks: there is no rounding
    return {"sums": numbers.tolist(), "off": int(off.sum())}


def judge_sums(told: Sequence[Told]) -> tuple[State, str]:
    expected = [float(each.rank + 1) for each in told]
    mend = "Leave out that node, and have it looked at."
    for each in told:
        found = each.facts["sums"]
        wrong = [rank for rank, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b]
        if wrong:
            return "failure", (
                f"all-reduce gave {sum(found):g} on {each.host}, not {sum(expected):g}: what {ranks(wrong)} "
                f"added did not come. {mend}"
            )
    if off := [each for each in told if each.facts["off"]]:
        most = max(off, key=lambda each: each.facts["off"])
        return "failure", (
            f"{most.facts['off']:,} of {NUMBERS:,} sums are wrong on {most.host}, and some on "
            f"{ranks(each.rank for each in off)}. {mend}"
        )
    return "fine", f"all-reduce gives {sum(expected):g} on all, {NUMBERS:,} times"


def look_at_speed(examined: Examined) -> dict:
    examined.warmed()  # what is imported meanwhile would spoil the times
    hosts = examined.meeting.hosts()
    one, gradients = torch.zeros(1, device=device()), torch.zeros(NUMBERS, device=device())
    small = [_timed(partial(dist.all_reduce, one)) for _ in range(SMALL)]
    large = [_timed(partial(dist.all_reduce, gradients)) for _ in range(LARGE)]
    return {
        "small": statistics.median(small),
        "large": min(large),
        "pairs": _with_other_nodes(examined.meeting.rank, hosts, gradients),
    }


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _with_other_nodes(rank: int, hosts: Sequence[str], sent: torch.Tensor) -> dict[str, float]:
    """GB/s to and from ranks of some other nodes."""
    heard, found = torch.empty_like(sent), {}
    for one, other in between_nodes(hosts):
        if rank in (one, other):
            peer = other if rank == one else one
            exchange = partial(_exchange, sent, heard, peer)
            exchange()  # the first one makes the connection
            seconds = min(_timed(exchange) for _ in range(2))
            found[str(peer)] = sent.nbytes / seconds / 1e9
    return found


def between_nodes(hosts: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of ranks on two nodes each, a sample, in the order in which they are tried.

    In a round each node has one other, by ranks of the same place in both: another place in each round, for
    GPUs may have cables of their own.
    """
    of_nodes: dict[str, list[int]] = {}
    for rank, host in enumerate(hosts):
        of_nodes.setdefault(host, []).append(rank)
    nodes, found = [*of_nodes.values()], {}
    for number, pairs in enumerate(islice(cycle(rounds(len(nodes))), ROUNDS)):
        for k, (one, other) in enumerate(pairs):
            place = (number + k) % min(len(nodes[one]), len(nodes[other]))
            found[nodes[one][place], nodes[other][place]] = None
    return [*found]


def _exchange(sent: torch.Tensor, heard: torch.Tensor, peer: int) -> None:
    """Send to another rank, and hear as much from it at the same time."""
    sends, hears = dist.P2POp(dist.isend, sent, peer), dist.P2POp(dist.irecv, heard, peer)
    for work in dist.batch_isend_irecv([sends, hears]):
        work.wait()


def rounds(number: int) -> list[list[tuple[int, int]]]:
    """All pairs of so many nodes, in rounds in which none has two: as teams play each other."""
    places = [*range(number), *([-1] if number % 2 else [])]
    found = []
    for _ in range(len(places) - 1):
        half = len(places) // 2
        pairs = zip(places[:half], reversed(places[half:]), strict=True)
        found.append([(a, b) for a, b in pairs if -1 not in (a, b)])
        places = [places[0], places[-1], *places[1:-1]]
    return found


def judge_speed(told: Sequence[Told]) -> tuple[State, str]:
    small, large = (max(each.facts[key] for each in told) for key in ("small", "large"))
    # What each rank sends and hears in the best all-reduce, a second.
    bus = 2 * (len(told) - 1) / len(told) * 4 * NUMBERS / large / 1e9
    sums = f"a number is added up in {1000 * small:.1f} ms, gradients in {1000 * large:.1f} ms"
    pairs = {
        tuple(sorted((each.rank, int(other)))): speed
        for each in told
        for other, speed in each.facts["pairs"].items()
    }
    usual = statistics.median(pairs.values()) if pairs else math.inf
    behind = {pair: speed for pair, speed in pairs.items() if speed < max(usual / BEHIND, SLOW)}
    if behind:
        place = [f"{each.host} (rank {each.rank})" for each in told]
        slow = ", ".join(f"{place[a]} and {place[b]} {speed:.2g} GB/s" for (a, b), speed in behind.items())
        return "warning", f"between {slow}; usual is {usual:.2g}. See cables, and which interface is used."
    if pairs and bus < SLOW:
        return "warning", (
            f"{sums}, {bus:.2g} GB/s by each rank, though pairs of nodes reach {usual:.2g}. See cables, and "
            "which interface is used."
        )
    if small > LATE:
        return "warning", f"{sums}: each step would wait for that. See which interface is used."
    return "fine", sums + (f"; {usual:.2g} GB/s between nodes" if pairs else "")
