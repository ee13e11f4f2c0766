"""Whatever operation on a run's folder fails, its training ends in a line, and goes on when it is mended."""

import errno
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from .conftest import TINY_NETWORKS
from .failing_disk import CHANGES, LOOKS, READS, WRITES, Ended, Fault, Forks, forks
from .trainings import metrics

STEPS = 4
OPTIONS = f"--precision float32 --steps {STEPS} --checkpoint-steps 2 --snapshot-steps {STEPS}".split()
FAULTS = {
    "broken": Fault(LOOKS | READS | CHANGES | WRITES, number=errno.EIO),
    "forbidden": Fault(LOOKS | CHANGES, number=errno.EACCES),
    "full": Fault(CHANGES | WRITES, number=errno.ENOSPC, lasts=True),
    "read-only": Fault(CHANGES | WRITES, number=errno.EROFS, lasts=True),
}


@dataclass(frozen=True)
class Case:
    """A training in a folder, which is given anew: empty, or as it was when one was killed."""

    process: Forks
    words: list[str]
    run: Path
    begun: Path  # a copy of it after two steps
    whole: dict[str, object]  # what is in it where nothing fails

    def anew(self, begun: bool) -> None:
        shutil.rmtree(self.run, ignore_errors=True)
        if begun:
            shutil.copytree(self.begun, self.run)

    def train(self, fault: Fault | None = None) -> Ended:
        return self.process.run(self.words, self.run, fault)

    def operations(self, fault: Fault, begun: bool) -> int:
        """How many there are of the kinds that shall fail."""
        self.anew(begun)
        return self.train(replace(fault, nth=0)).operations

    def check(self, fault: Fault, begun: bool) -> Ended:
        """Train with a fault, and again without; return how the first one ended."""
        self.anew(begun)
        first = self.train(fault)
        told = f"{fault}, {first}"
        assert "Traceback" not in first.output, told
        if first.code == 0:  # nothing was in need of it, or MLflow got it at the next try
            assert content(self.run) == self.whole, told
        else:
            ends_with_a_line(first, self.run)
        again = self.train()
        assert again.code == 0, f"{told}\n{again}"
        assert content(self.run) == self.whole, told
        return first


def ends_with_a_line(ended: Ended, run: Path) -> None:
    """It says which file it is about, why, and what to do."""
    assert ended.code == 2, ended
    *_, last = ended.output.splitlines()
    causes = "|".join(os.strerror(fault.number) for fault in FAULTS.values())
    assert re.fullmatch(rf"Error: {run}\S*: ({causes})\. \w.*(again|TMPDIR\))\.", last), ended


def content(run: Path) -> dict[str, object]:
    """The weights, and the metrics that no clock has a part in."""
    files = [*run.glob(f"*/step-{STEPS:08d}/*.safetensors")]
    return {"metrics": metrics(run), **{str(path.relative_to(run)): path.read_bytes() for path in files}}


@pytest.fixture(scope="module")
def case(
    shards: Path, vectors_file: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    folder = tmp_path_factory.mktemp("failing")
    run, begun = folder / "run", folder / "begun"
    words = ["train", str(shards), "--vectors", str(vectors_file), "--out", str(run)]
    with forks(folder, environment) as process:
        case = Case(process, [*words, *TINY_NETWORKS, *OPTIONS], run, begun, {})
        assert case.train().code == 0
        case.whole.update(content(run))
        shutil.copytree(run, begun)
        for path in begun.glob(f"*/step-{STEPS:08d}"):
            shutil.rmtree(path)
        yield case


@pytest.mark.soak
@pytest.mark.parametrize("begun", [False, True], ids=["begins", "goes on"])
@pytest.mark.parametrize("name", FAULTS)
def test_each_operation_may_fail(case: Case, name: str, begun: bool):
    fault = FAULTS[name]
    number = case.operations(fault, begun)
    assert number > 50
    for nth in range(1, number + 1):
        case.check(replace(fault, nth=nth), begun)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(READS, 8, errno.EIO),  # the newest checkpoint
        pytest.param(  # a checkpoint in the background
            Fault(CHANGES, 25, errno.EROFS, lasts=True), marks=pytest.mark.soak
        ),
    ],
    ids=str,
)
def test_an_operation_may_fail(case: Case, fault: Fault):
    """Some of those below."""
    assert case.check(fault, begun=True).code == 2


def test_checkpoints_that_may_not_be_read_are_not_taken_for_none(case: Case):
    case.anew(begun=True)
    before = content(case.run)
    checkpoints = case.run / "checkpoints"
    checkpoints.chmod(0)
    first = case.train()
    checkpoints.chmod(0o755)
    assert first.output == (
        f"Error: {checkpoints}: Permission denied. Mend that, and run the same command again.\n"
    )
    assert content(case.run) == before
    assert case.train().code == 0 and content(case.run) == case.whole


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", disk], check=True)


@pytest.fixture
def onto(case: Case, disk: Path) -> Case:
    """The training in a folder on a disk of its own."""
    run = disk / "run"
    return replace(case, run=run, words=[str(run) if word == str(case.run) else word for word in case.words])


@pytest.mark.parametrize(
    "size", [pytest.param(size, marks=pytest.mark.soak) for size in (4, 8, 12, 100, 400, 800)] + [1200]
)
def test_a_disk_may_be_too_small(onto: Case, disk: Path, size: int):
    """Of so many KiB. What fills it may be a part of a write, or what is written in the background."""
    remount(disk, f"size={size}k")
    first = onto.train()
    ends_with_a_line(first, onto.run)
    assert "No space left on device. Free space there, or" in first.output
    remount(disk, "size=4m")
    assert onto.train().code == 0 and content(onto.run) == onto.whole


def test_a_disk_may_be_read_only(onto: Case, disk: Path):
    onto.anew(begun=True)
    remount(disk, "ro")
    first = onto.train()
    ends_with_a_line(first, onto.run)
    assert "Read-only file system. Make it writable, or" in first.output
    remount(disk, "rw")
    assert onto.train().code == 0 and content(onto.run) == onto.whole
