"""What stands in the way of a training here: fifteen checks, alone or on all ranks of any launcher.

    each rank looks ─► the first one gathers what all tell ─► judges ─► tells all ─► the next check

A new check is an entry of the table: what a rank looks at, within how many seconds, and a judge of what all
ranks told. Nothing is left behind but what a cache fetched, and in MLflow a run that is deleted.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial

from torch.distributed import DistError

from ...datasets.errors import InputError
from ...datasets.store.trouble import explained
from . import alike, destinations, machine, network, steps
from .examined import Examined
from .finding import Finding, Judge, State, Told, errors
from .meeting import HEAR_WITHIN, MEET_WITHIN, TooLate, in_time

ENDS_WITHIN = 400.0  # seconds, whatever hangs


@dataclass(frozen=True)
class Check:
    """One of them."""

    name: str
    look: Callable[[Examined], dict]  # what this rank finds, as JSON has it
    judge: Judge
    within: float  # seconds for a look
    several: bool = False  # it is about several ranks
    needs: tuple[str, ...] = ()  # others that did not fail


JOINED = ("ranks", "joining")
CHECKS = (
    Check("ranks", alike.look_at_ranks, alike.judge_ranks, MEET_WITHIN + 5),
    Check("devices", alike.look_at_device, alike.judge_devices, 20),
    Check(
        "joining", network.look_at_joining, network.judge_joining, network.JOIN_WITHIN + 5, True, ("ranks",)
    ),
    Check("sums", network.look_at_sums, network.judge_sums, 20, True, JOINED),
    Check("network", network.look_at_speed, network.judge_speed, 60, True, JOINED),
    Check("software", alike.look_at_software, alike.judge_software, 10),
    Check("code", alike.look_at_code, alike.judge_code, 20, True),
    Check("dataset", alike.look_at_dataset, alike.judge_dataset, 60),
    Check("folder", destinations.look_at_folder, destinations.judge_folder, 30),
    Check("disk", destinations.look_at_disk, destinations.judge_disk, 60),
    Check("clocks", machine.look_at_clock, machine.judge_clocks, 2 * HEAR_WITHIN, True),
    Check("MLflow", destinations.look_at_tracking, destinations.judge_tracking, 30),
    Check("room", machine.look_at_room, machine.judge_room, 10, needs=("dataset",)),
    Check("steps", steps.look_at_steps, steps.judge_steps, 150, needs=(*JOINED, "devices", "dataset")),
    Check("stream", steps.look_at_stream, steps.judge_stream, 30, needs=("steps",)),
)


def examine(examined: Examined) -> Iterator[Finding]:
    """All findings, one after the other, on every rank.

    Raises:
        InputError: the first rank does not answer any more.
    """
    meeting = examined.meeting
    guard = threading.Timer(ENDS_WITHIN, _hangs)
    guard.daemon = True
    guard.start()
    failed: dict[str, State] = {}
    try:
        for check in CHECKS:
            began = time.monotonic()
            finding = _skipped(check, meeting.size, failed) or _find(check, examined, began)
            failed[check.name] = finding.state
            yield finding
        meeting.part()
    finally:
        guard.cancel()


def _skipped(check: Check, size: int, states: dict[str, State]) -> Finding | None:
    """Why a check is not made, if it is not."""
    if check.several and size == 1:
        return Finding(check.name, "skipped", "one process: nothing to compare")
    lacking = [name for name in check.needs if states[name] == "failure" or _blocked(name, states)]
    if lacking:
        return Finding(check.name, "skipped", f"not looked at: {lacking[0]} comes first")
    return None


def _blocked(name: str, states: dict[str, State]) -> bool:
    """Whether a check was skipped because of another one, and not for want of ranks."""
    needs = next(check.needs for check in CHECKS if check.name == name)
    return states[name] == "skipped" and any(states[each] == "failure" for each in needs)


def _find(check: Check, examined: Examined, began: float) -> Finding:
    """Look, and hear what all found."""
    meeting = examined.meeting
    mine = _look(check, examined)
    try:
        told = meeting.gather(check.name, mine, check.within + HEAR_WITHIN)
        if not meeting.main:
            return Finding(**meeting.hear(f"{check.name}/found", 2 * (check.within + HEAR_WITHIN)))
        state, sentence = _judged(check, told)
        finding = Finding(check.name, state, sentence, round(time.monotonic() - began, 2))
        meeting.tell(f"{check.name}/found", asdict(finding))
        return finding
    except (TooLate, DistError) as error:
        raise InputError(f"rank 0 does not answer any more ({check.name}). See its log.") from error


def _look(check: Check, examined: Examined) -> Told:
    """What this rank tells; an error of any kind is a finding, too."""
    told = partial(Told, examined.meeting.rank, examined.meeting.host)
    try:
        in_vain = partial(examined.meeting.failed_elsewhere, check.name)
        return told(in_time(partial(check.look, examined), check.within, in_vain))
    except TooLate:
        examined.meeting.stuck = True
        return told({}, "did not end in time")
    except InputError as error:
        return told({}, str(error))
    except OSError as error:
        return told({}, explained(error, check.name))
    except Exception as error:
        return told({}, f"{type(error).__name__}: {' '.join(str(error).split())[:500]}")


def _judged(check: Check, told: list[Told]) -> tuple[State, str]:
    if check.judge is not network.judge_joining and (said := errors(told)):
        return "failure", said if len(told) > 1 else told[0].error
    return check.judge(told)


def _hangs() -> None:
    os.write(2, f"doctor did not end in {ENDS_WITHIN:.0f} s: it ends itself.\n".encode())
    os._exit(1)
