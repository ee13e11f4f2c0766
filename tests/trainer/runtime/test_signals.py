"""What signals, and the end of a launcher, do to a process. Real processes, without torch."""

import os
import signal
import subprocess
import sys
import time

import pytest

# It notes signals and does nothing about them. Where it is "deaf" its main thread is in C and never returns;
# where it is "late" the thread that hears signals comes to run only after a while, as on a crowded machine.
PROGRAM = """
import ctypes, sys, time
from emojigan.trainer.runtime import signals
signals.REPEATED, signals.UNWINDING, signals.ORPHANED = 1.0, 0.5, 0.5
if "late" in sys.argv:
    listen = signals._listen
    signals._listen = lambda *arguments: time.sleep(1) or listen(*arguments)
with signals.listening():
    if "trains" in sys.argv:
        signals.stop_by_agreement()
    print("listens", flush=True)
    if "deaf" in sys.argv:
        lock, mutex = ctypes.CDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(64)
        lock(mutex), lock(mutex)
    while not signals.asked():
        time.sleep(0.01)
    print("asked", flush=True)
    time.sleep(60)
"""
LAUNCHED = {"RANK": "0", "LOCAL_RANK": "0"}


def begin(*words: str, **variables: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words],
        env={**os.environ, **variables},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout and process.stdout.readline() == "listens\n"
    return process


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = process.communicate(timeout=300)
    return process.returncode, said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_the_first_signal_is_noted_and_the_second_ends_at_once(number: signal.Signals):
    process = begin("trains")
    process.send_signal(number)
    assert process.stdout and process.stdout.readline() == "asked\n"
    process.send_signal(number)
    assert ended(process) == (128 + number, "")


def test_a_start_that_cannot_be_interrupted_ends_all_the_same_in_one_line():
    process = begin("deaf")
    time.sleep(0.5)  # it is in C by then
    process.send_signal(signal.SIGTERM)
    assert ended(process) == (75, "stopped before the first step. Run the same command again to go on.\n")


def test_a_signal_that_a_launcher_repeats_is_one():
    process = begin("trains", **LAUNCHED)
    process.send_signal(signal.SIGTERM)
    assert process.stdout and process.stdout.readline() == "asked\n"
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.kill()
    process.communicate()


def test_what_is_ignored_stays_ignored():
    """As SIGHUP under nohup."""
    outer = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = begin("trains")
    finally:
        signal.signal(signal.SIGHUP, outer)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert process.stdout and process.stdout.readline() == "asked\n"  # by the second: it is the first heard
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 128 + signal.SIGTERM


@pytest.mark.parametrize("words", [("trains",), ("deaf",), ("trains", "deaf"), ("trains", "deaf", "late")])
def test_a_rank_ends_when_its_launcher_was_killed(words: tuple[str, ...]):
    launcher = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"
    with subprocess.Popen(
        [sys.executable, "-c", launcher, PROGRAM, *words],
        env={**os.environ, **LAUNCHED},
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout and process.stdout.readline() == b"listens\n"
        process.kill()
        assert process.stdout.read() in (
            b"",
            b"asked\n",
        )  # which returns when nobody can write there any more


def test_after_the_block_signals_do_what_they_did():
    program = PROGRAM.split("with signals")[0] + (
        "import os, signal\nwith signals.listening(): pass\nprint('listens', flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline()
        process.terminate()
        assert process.wait(20) == -signal.SIGTERM
