"""Signals ask a training to stop, and the end of its launcher does, too.

    before the first step ─► Stopped is raised wherever the program is: there is nothing to save
    while it trains       ─► `asked`, which the ranks agree on: all save at the same step, and raise Stopped
    a second signal       ─► the process ends at once, with 128 + its number

A thread hears them, because a handler of Python waits for a call into C to return, which may take long. It
also sees that the launcher is gone: ranks that nobody looks after would train on, beside those of the next
start. Nothing of torch is imported here, so that signals are heard while that is.
"""

import ctypes
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPED = 75  # the exit code: EX_TEMPFAIL of sysexits.h, try again
STOPPED_EARLY = "stopped before the first step. Run the same command again to go on."
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
# A launcher passes on what its ranks got themselves, where a scheduler sends to all processes of a job.
REPEATED = 5.0  # seconds in which signals to a launched rank are one
UNWINDING = 3.0  # seconds that a start has to end after a signal
ORPHANED = 3.5  # seconds that a rank has to end after its launcher did
LOOK = 0.5  # seconds between looks at the launcher
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux


class Ended(SystemExit):
    """A training ends early, with this exit code; the message is a line, empty on ranks that are silent."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(code)
        self.message = message


class Stopped(Ended):
    """Somebody asked it to stop, and it can go on from there."""

    def __init__(self, message: str) -> None:
        super().__init__(message, STOPPED)


class _Ear:
    """What was heard. There is one: signals are sent to the whole process."""

    def __init__(self) -> None:
        self.asked = False
        self.trains = False  # the training sees to it that it stops


_ear = _Ear()


def asked() -> bool:
    """Whether somebody asked for the end of this process."""
    return _ear.asked


def stop_by_agreement() -> None:
    """From now on a signal is only noted: what heeds it asks whether one was `asked`."""
    _ear.trains = True


def stops_by_agreement() -> bool:
    """Whether a signal is only noted."""
    return _ear.trains


def launched() -> bool:
    """Whether torchrun or accelerate started this process."""
    return not {"LOCAL_RANK", "TORCHELASTIC_RUN_ID", "ACCELERATE_MIXED_PRECISION"}.isdisjoint(os.environ)


def is_first_rank() -> bool:
    """Whether this process speaks for all; known before the ranks have met."""
    return os.environ.get("RANK", "0") == "0"


def is_to_say() -> bool:
    """Whether a line is for this rank to say, before the ranks have met.

    What all refuse the first one says, and then its launcher ends the others; if it does not, they say it.
    """
    _ear.trains = True
    deadline = time.monotonic() + REPEATED
    while not (is_first_rank() or _ear.asked) and time.monotonic() < deadline:
        time.sleep(0.1)
    return is_first_rank() or not _ear.asked


@contextmanager
def listening() -> Iterator[None]:
    """Hear signals in this block. One that this process ignores, as under nohup, stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may have handlers
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    outer = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    before = {each: signal.getsignal(each) for each in SIGNALS}
    for each, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(each, _handle)
    launcher = _follow_launcher()  # not in the thread: one that ends before the thread runs would be missed
    thread = threading.Thread(target=_listen, args=(reader, launcher), name="signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        # A process that ends need not hear its launcher, which asks all for their end when one has ended.
        ends = _ear.asked or launched()
        for each, handler in before.items():
            signal.signal(each, signal.SIG_IGN if ends else handler)
        os.write(writer, b"\0")
        thread.join()
        signal.set_wakeup_fd(outer)
        os.close(reader)
        os.close(writer)
        _ear.asked = _ear.trains = False


def _handle(number: int, frame: FrameType | None) -> None:
    """In the main thread, between two of its instructions."""
    first, _ear.asked = not _ear.asked, True
    if first and not _ear.trains:
        raise _stopped_early()


def _stopped_early() -> Stopped:
    return Stopped(STOPPED_EARLY if is_first_rank() else "")


def _listen(reader: int, launcher: int) -> None:
    """The thread: sees to what the main thread may be too busy for, and to the end of the `launcher`."""
    first, deadline = 0.0, float("inf")
    while True:
        heard = os.read(reader, 64) if select.select([reader], [], [], LOOK)[0] else b""
        if 0 in heard:
            return
        now = time.monotonic()
        for number in (each for each in heard if each in SIGNALS):
            if not first:
                first = now
                deadline = deadline if _ear.trains else min(deadline, now + UNWINDING)
                if _ear.trains and sys.stderr.isatty():
                    os.write(2, b"\nstopping; a second signal ends at once, without saving\n")
            elif not launched() or now - first > REPEATED:
                os._exit(128 + number)
        if launcher and os.getppid() != launcher:
            launcher, deadline = 0, min(deadline, now + ORPHANED)
            os.kill(os.getpid(), signal.SIGTERM)
        if now > deadline:
            if not _ear.trains:
                os.write(2, f"{_stopped_early().message}\n".encode())
            os._exit(STOPPED)


def _follow_launcher() -> int:
    """Ask Linux for a SIGTERM when the launcher ends; its process id, 0 where there is none."""
    if not launched():
        return 0
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
    return os.getppid()
