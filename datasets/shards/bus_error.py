"""What is said when the file under a memory map is cut short or overwritten while it is read.

    read of a byte that is gone ─► SIGBUS ─► which map is it in? ─► one line that names its file, and the end
                                                                └► in none: whatever was done before

The system's own answer to the signal ends the process without a word. The signal comes from the reading
itself, in C code that only copies or sums bytes; so Python may run in between, be the GIL held there or not.
"""

import ctypes
import os
import platform
import signal
import sys
import threading
import weakref
from functools import cache
from pathlib import Path

import numpy as np

EXIT_CODE = 2  # of the command line, for what the user must mend
_maps: dict[int, tuple[int, Path]] = {}  # first address of each map ─► the address behind it, and its file
_installing, _ending = threading.Lock(), threading.Lock()
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_ADDRESS = 16  # where the address lies in a siginfo_t, in bytes
_SIGINFO = 4  # the flag of a handler that is given one


class _Action(ctypes.Structure):
    """The struct sigaction of Linux on x86-64 and ARM64, of glibc as of musl."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_uint8 * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


def name_on_bus_error(content: np.ndarray, path: Path) -> np.ndarray:
    """Have a file named, should the memory that maps it fail when it is read; gives that memory back."""
    start = content.ctypes.data
    _maps[start] = start + content.nbytes, path
    weakref.finalize(content, _maps.pop, start, None).atexit = False
    if platform.system() == "Linux" and platform.machine() in ("x86_64", "aarch64"):
        with _installing:  # a cache alone would let several threads install their own
            _install()
    return content


@cache
def _install() -> object:
    """Answer to SIGBUS, from now on. Gives what must stay in memory for it."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = _Action()

    def answer(_number: int, info: int, _context: int) -> None:
        address = ctypes.c_uint64.from_address(info + _ADDRESS).value
        for start, (end, path) in list(_maps.items()):
            if start <= address < end:
                _end(path)
        libc.sigaction(signal.SIGBUS, ctypes.byref(before), None)
        signal.raise_signal(signal.SIGBUS)  # comes when this has returned

    handler = _HANDLER(answer)
    action = _Action(handler=ctypes.cast(handler, ctypes.c_void_p), flags=_SIGINFO)
    if libc.sigaction(signal.SIGBUS, ctypes.byref(action), ctypes.byref(before)):
        raise OSError(ctypes.get_errno(), "sigaction")
    return handler


def _end(path: Path) -> None:
    _ending.acquire()  # for ever: other threads may come here too, and would say it again
    message = (
        f"\nError: {path} was cut short or written over while it was read, or its disk fails. Put the right "
        "one there (nothing, if it lies in a cache), and run the same command again.\n"
    )
    try:
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, message.encode())
    finally:
        os._exit(EXIT_CODE)
