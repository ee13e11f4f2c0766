"""Commands in forks of a process that has imported everything, in which one file operation fails."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_suffix(".c")
LOOKS, READS, CHANGES, WRITES = 1, 2, 4, 8  # kinds of operations, as they are there
FORKS = """
import ctypes, os, sys, traceback
import gensim, mlflow.store.tracking.sqlalchemy_store, torch._dynamo  # late imports of a training
from emojigan.launch.cli import main
from emojigan.launch.commands import train
from emojigan.trainer.training import loop
disk = ctypes.CDLL(None)
disk.capset((ctypes.c_uint32 * 2)(0x20080522), (ctypes.c_uint32 * 6)())  # root obeys permissions, too
for line in sys.stdin:
    output, folder, kinds, nth, number, lasts, *words = line.rstrip("\\n").split("\\t")
    child = os.fork()
    if not child:
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1), os.dup2(file, 2)
        disk.fail(folder.encode(), int(kinds), int(nth), int(number), int(lasts))
        try:
            main(words)
        except SystemExit as end:
            code = end.code
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush(), sys.stderr.flush()
        os.write(file, f"\\n{disk.done()}".encode())
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass(frozen=True)
class Fault:
    """What shall fail: of the operations of some kinds the nth, counted from 1; with 0 none."""

    kinds: int = LOOKS | READS | CHANGES | WRITES
    nth: int = 0
    number: int = errno.EIO
    lasts: bool = False  # whether those after it fail, too

    def __str__(self) -> str:
        return f"{errno.errorcode[self.number]} {'from' if self.lasts else 'at'} operation {self.nth}"


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    output: str
    operations: int  # of the kinds that were to fail


class Forks:
    """The process; made by `forks`."""

    def __init__(self, process: subprocess.Popen[str], output: Path) -> None:
        self._process, self._output = process, output

    def run(self, words: list[str], folder: Path, fault: Fault | None = None) -> Ended:
        """Run a command in which operations under a folder fail."""
        assert self._process.stdin and self._process.stdout
        fault = fault or Fault()
        numbers = (fault.kinds, fault.nth, fault.number, int(fault.lasts))
        print(self._output, folder, *numbers, *words, sep="\t", file=self._process.stdin, flush=True)
        code = int(self._process.stdout.readline())
        output, _, operations = self._output.read_text().rpartition("\n")
        return Ended(code, output, int(operations))


@contextmanager
def forks(folder: Path, environment: dict[str, str]) -> Iterator[Forks]:
    """Begin it; skipped where the library for it cannot be made."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("a C compiler is missing: apt-get install gcc libc6-dev")
    library = folder / "failing_disk.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    with subprocess.Popen(
        [sys.executable, "-c", FORKS],
        env={**os.environ, **environment, "LD_PRELOAD": str(library)},
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        yield Forks(process, folder / "output")
        process.kill()
