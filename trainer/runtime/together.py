"""The ranks end together, and one of them says why.

    what a rank refuses ─► its last words, in the store of the process group ─► all end with its exit code
    a rank that is gone ─► the collectives of the others fail ─► one of them says who is missing
    one that is frozen  ─► no step for the time-out: each shows where its threads are, and one says who it is

Soon after the time-out a collective of gloo fails by itself. One of NCCL is aborted before, which frees the
thread that waits for the device: NCCL's own watchdog would end the process without a word of ours.
"""

import faulthandler
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TypeVar

import torch.distributed as dist
from accelerate import Accelerator
from torch.distributed import distributed_c10d

from ...datasets.errors import InputError
from ...datasets.store.trouble import explained
from ...datasets.work.progress import duration
from .signals import STOPPED, STOPPED_EARLY, Ended, Stopped, stops_by_agreement

BEAT = 1.0  # seconds between signs of life
PATIENCE = 5.0  # seconds for the store to answer, and for the ranks to hear what one of them said
LONGER = 5.0  # seconds that a collective may take beyond the time-out
UNWINDING = 90.0  # seconds for the first rank to end in good order: it tells MLflow
REFUSED = 2  # the exit code of what is the user's to mend
WORDS, HEARD, ALIVE = "emojigan/words", "emojigan/heard", "emojigan/alive"

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Words:
    """The last ones of a training."""

    rank: int  # which says them; the others are silent
    code: int  # the exit code of all
    text: str


@contextmanager
def together(accelerator: Accelerator, minutes: float) -> Iterator[Callable[[], None]]:
    """End this block on all ranks when it ends with an error on one; yields what to call after each step.

    Args:
        minutes: without a step, from the first one on, after which a rank is taken for frozen.

    Raises:
        Ended: another rank ended, or is missing; with words on the one that says so.
    """
    if accelerator.num_processes == 1:
        yield lambda: None
        return
    watch = _Watch(accelerator, 60 * minutes)
    try:
        yield watch.step
    except (Exception, Ended) as error:
        if isinstance(error, Stopped) and stops_by_agreement():
            accelerator.wait_for_everyone()  # the first to end is taken for a failure: the launcher ends all
            accelerator.end_training()
            raise
        words = watch.last_words(error)
        says = words.rank == watch.rank
        if says and not _lost_others(error) and (watch.rank == 0 or words.code != REFUSED):
            raise
        raise Ended(words.text if says else "", words.code) from error
    finally:
        watch.end()


class _Watch:
    """A thread that gives signs of life, hears the last words of other ranks, and notices a frozen one."""

    def __init__(self, accelerator: Accelerator, seconds: float) -> None:
        self.rank, self._ranks = accelerator.process_index, accelerator.num_processes
        self._on_gpu, self._seconds = accelerator.device.type == "cuda", seconds
        self._store = distributed_c10d._get_default_store()
        self._stepped: float | None = None
        self._has_heard = self._has_shown = False
        self._one_asks, self._asking = threading.Lock(), threading.Thread()
        self._unwinds, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._look_after, name="together", daemon=True)
        self._thread.start()

    def step(self) -> None:
        """Note that this rank goes on."""
        self._stepped = time.monotonic()

    def end(self) -> None:
        self._ended.set()
        self._thread.join(PATIENCE)

    def last_words(self, error: BaseException) -> Words:
        """The words with which the training ends: of another rank, or of this one for its error."""
        self._unwinds.set()
        _exit_later(UNWINDING, 1)
        if self._is_late():
            self._show_threads()
        if words := self._words():
            self._hear()
            return words
        mine, missing = self._of_error(error)
        words = self._say(mine)
        if words == mine:
            self._wait_for_hearing(self._ranks - 1 - len(missing))
        else:
            self._hear()
        return words

    def _of_error(self, error: BaseException) -> tuple[Words, list[int]]:
        """What this rank says of its error, and the ranks that will not hear it."""
        if _lost_others(error):
            missing, text = self._who_is_missing()
            return Words(self.rank, 1, text), missing
        if isinstance(error, Stopped):
            return Words(0, STOPPED, STOPPED_EARLY), []
        if self.rank:
            time.sleep(BEAT)  # what all refuse, the first one says
        if isinstance(error, InputError | OSError):
            told = explained(error, "train") if isinstance(error, OSError) else error
            return Words(self.rank, REFUSED, f"Error: {told}"), []
        return Words(self.rank, 1, f"{type(error).__name__}: {error}"), []

    def _say(self, words: Words) -> Words:
        """Say the last words, if none are said yet; those that are."""
        mine = json.dumps(asdict(words))
        said = self._ask(lambda: self._store.compare_set(WORDS, "", mine))
        return Words(**json.loads(said)) if said else words

    def _wait_for_hearing(self, others: int) -> None:
        """When one rank has ended the launcher ends the others, who shall know why by then."""
        deadline = time.monotonic() + PATIENCE
        while (self._ask(lambda: self._store.add(HEARD, 0)) or 0) < others and time.monotonic() < deadline:
            time.sleep(0.05)

    def _hear(self) -> None:
        """Let the one that said the last words know that it need not wait for this rank."""
        if not self._has_heard:
            self._has_heard = True
            self._ask(lambda: self._store.add(HEARD, 1))

    def _words(self) -> Words | None:
        if not self._ask(lambda: self._store.check([WORDS])):
            return None
        said = self._ask(lambda: self._store.get(WORDS))
        return Words(**json.loads(said)) if said else None

    def _look_after(self) -> None:
        while not self._ended.wait(BEAT):
            self._ask(lambda: self._store.add(f"{ALIVE}/{self.rank}", 1))
            words = self._words()
            if self._is_late() and not words and not self._unwinds.is_set():
                self._show_threads()
                missing, text = self._who_is_missing()
                words = self._say(Words(min({*range(self._ranks)} - {*missing}), 1, text))
            if words and not self._unwinds.is_set():
                self._obey(words)
                return

    def _obey(self, words: Words) -> None:
        """End, from this thread, as the words say; the first rank may do so in good order."""
        self._hear()
        told = f"{words.text}\n" if words.rank == self.rank else ""
        if self.rank:
            _exit(words.code, told)
        _exit_later(UNWINDING, words.code, told)
        if self._on_gpu:
            distributed_c10d._abort_process_group()

    def _is_late(self) -> bool:
        return self._stepped is not None and time.monotonic() - self._stepped > self._seconds

    def _show_threads(self) -> None:
        if self._has_shown:
            return
        self._has_shown = True
        print(
            f"rank {self.rank}, process {os.getpid()} on {socket.gethostname()}: no step for "
            f"{duration(self._seconds)}. Where its threads are:",
            file=sys.stderr,
            flush=True,
        )
        faulthandler.dump_traceback(all_threads=True)

    def _who_is_missing(self) -> tuple[list[int], str]:
        """The ranks that give no sign of life, and a line that says so."""

        def beats() -> list[int]:
            return [self._store.add(f"{ALIVE}/{rank}", 0) for rank in range(self._ranks)]

        late = f"No step for {duration(self._seconds)} (--timeout). " if self._is_late() else ""
        before = self._ask(beats)
        time.sleep(3 * BEAT)
        after = self._ask(beats)
        again = "Run the same command again: it goes on from the last checkpoint."
        if before is None or after is None:
            missing = [rank for rank in range(self._ranks) if rank != self.rank]
            return missing, f"{late}The other ranks cannot be reached from {socket.gethostname()}. {again}"
        pairs = enumerate(zip(before, after, strict=True))
        missing = [rank for rank, (old, new) in pairs if old == new and rank != self.rank]
        if not missing:
            return [], f"{late}All ranks are alive; what each said or showed stands above. {again}"
        ranks = f"Rank {missing[0]} gives" if len(missing) == 1 else f"Ranks {str(missing)[1:-1]} give"
        return missing, f"{late}{ranks} no sign of life: killed, frozen or cut off. {again}"

    def _ask(self, ask: Callable[[], Answer]) -> Answer | None:
        """What the store answers; None where it does not in time: its machine may be gone, too."""
        answer: list[Answer] = []

        def call() -> None:
            with suppress(RuntimeError):
                answer.append(ask())

        with self._one_asks:
            if not self._asking.is_alive():  # else it does not answer what was asked before
                self._asking = threading.Thread(target=call, daemon=True)
                self._asking.start()
                self._asking.join(PATIENCE)
        return answer[0] if answer else None


def _lost_others(error: BaseException) -> bool:
    """Whether a collective failed: what gloo raises has no type of its own."""
    told = str(error).lower()
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and ("gloo" in told or "nccl" in told)
    )


def _exit_later(seconds: float, code: int, told: str = "") -> None:
    timer = threading.Timer(seconds, _exit, (code, told))
    timer.daemon = True
    timer.start()


def _exit(code: int, told: str) -> None:
    os.write(2, told.encode())
    os._exit(code)
