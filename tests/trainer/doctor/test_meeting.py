"""What ranks that meet in a store alone tell each other, and who is waited for."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from torch._C._distributed_c10d import HashStore

from emojigan.datasets.errors import InputError
from emojigan.trainer.doctor import doctor, meeting
from emojigan.trainer.doctor.doctor import CHECKS, Check
from emojigan.trainer.doctor.finding import Finding
from emojigan.trainer.doctor.meeting import Meeting

HANGS = """
import ctypes
from emojigan.trainer.doctor import doctor
doctor.HEAR_WITHIN = doctor.LATER = 0.1
check = doctor.Check("one", lambda examined: {}, lambda told: ("fine", ""), 0.1)
with doctor._ending(check):
    ctypes.PyDLL(None).sleep(600)
"""


def found_by_three(monkeypatch: pytest.MonkeyPatch, *, collective: bool) -> tuple[Finding, set[int]]:
    """What the first rank finds where rank 1 fails at once and rank 2 takes its time; who is lost."""
    for module in (doctor, meeting):
        monkeypatch.setattr(module, "HEAR_WITHIN", 0.2)
    store = HashStore()
    meetings = [Meeting(store, rank, 3, "abc"[rank]) for rank in range(3)]

    def look(examined: Any) -> dict:
        if examined.meeting.rank == 1:
            raise InputError("broken")
        time.sleep(examined.meeting.rank)
        return {}

    check = Check("one", look, lambda told: ("fine", "all"), 10, collective=collective)
    examined: list[Any] = [SimpleNamespace(meeting=each) for each in meetings]
    with ThreadPoolExecutor(3) as ranks:
        first, *_ = ranks.map(lambda each: doctor._find(check, each), examined)
    return first, meetings[0].lost


def test_an_error_hurries_nobody_who_does_not_wait_for_that_rank(monkeypatch: pytest.MonkeyPatch):
    found, lost = found_by_three(monkeypatch, collective=False)
    assert (found.state, found.told, lost) == ("failure", "rank 1: broken", set())


def test_who_may_wait_for_a_rank_that_failed_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch):
    found, _ = found_by_three(monkeypatch, collective=True)
    assert found.told.startswith("rank 1: broken; rank 2: ")


def test_those_that_wait_for_each_other_are_known():
    assert {check.name for check in CHECKS if check.collective} == {"joining", "sums", "network", "steps"}


def test_what_hangs_with_the_lock_of_python_is_ended():
    done = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and done.stderr.startswith("Timeout")
