"""What stands in the way of a training here: fifteen checks, alone or on all ranks of any launcher.

    each rank looks ─► the first one gathers what all tell ─► judges ─► tells all ─► the next check

A new check is an entry of the table: what a rank looks at, within how many seconds, and a judge of what all
ranks told. Nothing is left behind but what a cache fetched, and in MLflow a run that is deleted.
"""

import faulthandler
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial

from torch.distributed import DistError

from ...datasets.errors import InputError
from ...datasets.store.trouble import explained
from . import alike, destinations, network, steps, tracking
from .examined import Examined
from .finding import Finding, Judge, State, Told, errors
from .meeting import HEAR_WITHIN, MEET_WITHIN, Meeting, TooLate, in_time


@dataclass(frozen=True)
class Check:
    """One of them."""

    name: str
    look: Callable[[Examined], dict]  # what this rank finds, as JSON has it
    judge: Judge
    within: float  # seconds for a look
    several: bool = False  # it is about several ranks
    collective: bool = False  # a rank waits in it for the others, in vain for one that failed
    needs: tuple[str, ...] = ()  # others that did not fail


LATER = 2.0  # seconds after which a process ends that cannot say why
JOINED = ("ranks", "joining")
CHECKS = (
    Check("ranks", alike.look_at_ranks, alike.judge_ranks, MEET_WITHIN + 5),
    Check("devices", alike.look_at_device, alike.judge_devices, 20),
    Check(
        "joining",
        network.look_at_joining,
        network.judge_joining,
        network.JOIN_WITHIN + 5,
        several=True,
        collective=True,
        needs=("ranks", "devices"),
    ),
    Check("sums", network.look_at_sums, network.judge_sums, 20, several=True, collective=True, needs=JOINED),
    Check(
        "network",
        network.look_at_speed,
        network.judge_speed,
        60,
        several=True,
        collective=True,
        needs=(*JOINED, "sums"),
    ),
    Check("software", alike.look_at_software, alike.judge_software, 10),
    Check("code", alike.look_at_code, alike.judge_code, 20, several=True),
    Check("dataset", alike.look_at_dataset, alike.judge_dataset, 60),
    Check("folder", destinations.look_at_folder, destinations.judge_folder, 30),
    Check("disk", destinations.look_at_disk, destinations.judge_disk, 60),
    Check("clocks", alike.look_at_clock, alike.judge_clocks, 2 * HEAR_WITHIN, several=True),
    Check("MLflow", tracking.look_at_tracking, tracking.judge_tracking, 30),
    Check("room", destinations.look_at_room, destinations.judge_room, 10, needs=("dataset",)),
    Check(
        "steps",
        steps.look_at_steps,
        steps.judge_steps,
        150,
        collective=True,
        needs=(*JOINED, "devices", "sums", "network", "dataset"),
    ),
    Check("stream", steps.look_at_stream, steps.judge_stream, 60, needs=("steps",)),
)


def examine(examined: Examined) -> Iterator[Finding]:
    """All findings, one after the other, on every rank.

    Raises:
        InputError: the first rank does not answer any more.
    """
    meeting = examined.meeting
    states: dict[str, State] = {}
    try:
        for check in CHECKS:
            with _ending(check):
                finding = _skipped(check, meeting, states) or _find(check, examined)
            states[check.name] = finding.state
            yield finding
            if check.name == "devices":
                examined.warmed = steps.warm_up(examined.settings)
        meeting.part()
    finally:
        examined.warmed()  # torch aborts a process that ends while a thread is inside it


@contextmanager
def _ending(check: Check) -> Iterator[None]:
    """End the process when this block does not end: the store of a machine that is cut off never answers.

    A driver that hangs may keep Python's lock, and no thread says anything then; faulthandler needs no lock.
    """
    seconds = 3 * (check.within + HEAR_WITHIN)

    def end() -> None:
        place = f"on {socket.gethostname()} in {seconds:.0f} s"
        os.write(2, f"Error: `{check.name}` did not end {place}: it is cut off.\n".encode())
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    faulthandler.dump_traceback_later(seconds + LATER, exit=True, file=2)
    try:
        yield
    finally:
        timer.cancel()
        faulthandler.cancel_dump_traceback_later()


def _skipped(check: Check, meeting: Meeting, states: dict[str, State]) -> Finding | None:
    """Why a check is not made, if it is not."""
    if check.several and meeting.size == 1:
        return Finding(check.name, "skipped", "one process: nothing to compare")
    if meeting.lost_some():
        return Finding(check.name, "skipped", "not looked at: a rank was lost")
    lacking = [name for name in check.needs if states[name] == "failure" or _blocked(name, states)]
    if lacking:
        return Finding(check.name, "skipped", f"not looked at: {lacking[0]} comes first")
    return None


def _blocked(name: str, states: dict[str, State]) -> bool:
    """Whether a check was skipped because of another one, and not for want of ranks."""
    needs = next(check.needs for check in CHECKS if check.name == name)
    return states[name] == "skipped" and any(states[each] == "failure" for each in needs)


def _find(check: Check, examined: Examined) -> Finding:
    """Look, and hear what all found."""
    meeting, began = examined.meeting, time.monotonic()
    mine = _look(check, examined)
    try:
        told = meeting.gather(check.name, mine, check.within + HEAR_WITHIN, collective=check.collective)
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
        look = partial(check.look, examined)
        return told(in_time(look, check.within, in_vain if check.collective else None))
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
