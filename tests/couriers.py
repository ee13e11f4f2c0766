"""Couriers that are threads: processes would import MLflow, for seconds, for each training of a test."""

import os
import subprocess
import threading
import time
from contextlib import suppress

from emojigan.trainer.tracking import courier
from emojigan.trainer.tracking.courier import Courier
from emojigan.trainer.tracking.server import import_ahead


class Killed(BaseException):
    """Ends the thread."""


class KillableCourier(Courier):
    """One whose end is that of its thread, at its next delivery."""

    killed = False

    def _deliver(self, status: str | None) -> None:
        if self.killed:
            raise Killed
        super()._deliver(status)

    def die(self, _: int = 0) -> None:
        """What a process does that is killed."""
        self.killed = True
        self._ending.set()


class CourierThread(threading.Thread):
    """Has what is needed of a process."""

    def __init__(self) -> None:
        super().__init__(name="courier", daemon=True)
        (orders, stdin), (stdout, answers) = os.pipe(), os.pipe()
        self._orders, self.stdin = os.fdopen(orders), os.fdopen(stdin, "w")
        self.stdout, self._answers = os.fdopen(stdout), os.fdopen(answers, "w")
        self._courier: KillableCourier | None = None
        import_ahead()  # here: a thread that still imports when the next test begins would disturb it
        self.start()

    def run(self) -> None:
        hearing = None
        with suppress(Killed, ValueError):  # the latter of an answer that nobody hears any more
            self._courier = KillableCourier(courier.order_of(self._orders.readline()), self._answers)
            hearing = threading.Thread(target=self._courier.hear, args=(self._orders, self._courier.die))
            hearing.start()
            self._courier.work()
        with suppress(OSError):
            self._answers.close()
        if hearing:
            hearing.join()
        self._orders.close()

    def wait(self, timeout: float | None = None) -> int:
        deadline = time.monotonic() + (timeout or 1)
        while not self._answers.closed:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("courier", timeout or 0)
            time.sleep(0.005)
        return 0

    def kill(self) -> None:
        if self._courier:
            self._courier.die()
        with suppress(subprocess.TimeoutExpired):  # where it waits for a server, nobody waits for it
            self.wait(0.2)
        with suppress(OSError):
            self._answers.close()

    def __enter__(self) -> "CourierThread":
        return self

    def __exit__(self, *_: object) -> None:
        self.stdin.close()
        self.stdout.close()
