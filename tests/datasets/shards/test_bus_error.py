"""Whoever reads mapped memory whose file is gone is told which; other bus errors end a process as ever."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

MAPS = """
import faulthandler, mmap, os, signal, sys, threading
from pathlib import Path
import numpy as np
from zlib_ng import zlib_ng
from emojigan.datasets.shards.tar import map_tar

ours, other = Path(sys.argv[1]) / "ours.tar", Path(sys.argv[1]) / "other"
for path in (ours, other):
    path.write_bytes(bytes(1 << 20))

def busy():
    while True:
        sum(range(1000))

def in_threads(*functions):
    threads = [threading.Thread(target=each) for each in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def run(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", MAPS + program, str(folder)]
    return subprocess.run(words, capture_output=True, text=True, timeout=300)


READS = {
    "slice": "tar.tobytes()",
    "gather": "tar[np.arange(0, 1 << 20, 3)]",
    "threads": "in_threads(*[lambda: zlib_ng.crc32(tar), lambda: tar.sum(), lambda: tar[::-1].copy()] * 3)",
    "beside busy ones": "threading.Thread(target=busy, daemon=True).start(); zlib_ng.crc32(tar)",
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_tar_that_was_cut_short_is_named_in_one_line(tmp_path, read):
    result = run(f"tar = map_tar(ours); os.truncate(ours, 9); {read}; print('went on')", tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    (line,) = result.stderr.split("\n")[1:-1]
    assert line.startswith(f"Error: {tmp_path}/ours.tar was cut short or written over while it was read")


ONCE = """
import time
from emojigan.datasets.shards import bus_error

original, installed = bus_error._HANDLER, []

def slow(answer):
    installed.append(answer)
    time.sleep(0.2)
    return original(answer)

bus_error._HANDLER = slow
in_threads(*[lambda: map_tar(ours)] * 8)
print(len(installed))
"""


def test_one_handler_is_installed_however_many_threads_map_their_first(tmp_path):
    assert run(ONCE, tmp_path).stdout == "1\n"


@pytest.mark.parametrize("handler", ["", "faulthandler.enable(); "])
@pytest.mark.parametrize(
    "cause",
    [
        "memory = mmap.mmap(os.open(other, os.O_RDWR), 1 << 20); os.truncate(other, 9); memory[1 << 19]",
        "os.kill(os.getpid(), signal.SIGBUS)",
        "del tar; tar = mmap.mmap(os.open(ours, os.O_RDWR), 1 << 20); os.truncate(ours, 9); tar[1 << 19]",
    ],
    ids=["another map", "from outside", "no longer ours"],
)
def test_any_other_bus_error_ends_a_process_as_it_would_have(tmp_path, handler, cause):
    result = run(f"{handler}tar = map_tar(ours); {cause}", tmp_path)
    assert result.returncode == -signal.SIGBUS
    assert ("Fatal Python error: Bus error" in result.stderr) == bool(handler)
    assert "Error:" not in result.stderr
