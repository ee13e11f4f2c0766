"""Trainings as real processes, which tests stop, kill and begin again."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mlflow

from emojigan.datasets.store.atomic import is_whole
from emojigan.trainer.run import CHECKPOINTS, METRICS_FILE
from emojigan.trainer.tracking.mlflow_run import run_id_of

PROGRAM = [sys.executable, "-c", "from emojigan.launch.cli import main; main()"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
History = dict[str, list[tuple[int, float | None]]]
"""Steps and values of each metric, without the values of those in which a clock has a part."""
CLOCKS = ("time", "train/tuples_per_second", "train/utilisation", "train/data_wait", "system/")


@dataclass(frozen=True)
class Case:
    """A training that is begun again and again."""

    words: list[str]
    run: Path
    environment: dict[str, str]

    def begin(self, *launcher: str, as_of_a_terminal: bool = False) -> subprocess.Popen[str]:
        """Start it; as of a terminal it and all that it starts are one group of processes."""
        program = [*launcher, "--no-python", *PROGRAM] if launcher else PROGRAM
        return subprocess.Popen(
            [*program, *self.words],
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=as_of_a_terminal,
        )

    def lines(self) -> int:
        """How many lines of metrics there are."""
        path = self.run / METRICS_FILE
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def checkpoint(self) -> int:
        """The step of the newest whole checkpoint."""
        whole = [path for path in (self.run / CHECKPOINTS).glob("step-*") if is_whole(path)]
        return max((int(path.name.removeprefix("step-")) for path in whole), default=0)

    def status(self) -> str | None:
        """What MLflow takes the run for; None where it knows of none."""
        run_id = run_id_of(self.run)
        return client_of(self.environment).get_run(run_id).info.status if run_id else None


def readings(run: Path) -> list[dict[str, float]]:
    """What the lines of metrics say."""
    path = run / METRICS_FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def metrics(run: Path) -> list[dict[str, float]]:
    """The same without what a clock has a part in."""
    return [{name: each[name] for name in each if not name.startswith(CLOCKS)} for each in readings(run)]


def to_tell(run: Path) -> History:
    """What MLflow must have in the end: every reading once."""
    history: History = {}
    for reading in readings(run):
        for name in reading.keys() - {"step", "time"}:
            value = None if name.startswith(CLOCKS) else reading[name]
            history.setdefault(name, []).append((int(reading["step"]), value))
    return history


def told(run: Path, environment: dict[str, str]) -> History:
    """What MLflow has of a run; it must know one of this name."""
    client = client_of(environment)
    experiments = [each.experiment_id for each in client.search_experiments()]
    (found,) = client.search_runs(experiments, filter_string=f"attributes.run_name = '{run.name}'")
    assert found.info.run_id == run_id_of(run)
    histories = {name: client.get_metric_history(found.info.run_id, name) for name in found.data.metrics}
    return {
        name: sorted((each.step, None if name.startswith(CLOCKS) else each.value) for each in history)
        for name, history in histories.items()
    }


def client_of(environment: dict[str, str]) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(environment["MLFLOW_TRACKING_URI"])


def wait(
    reached: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 300, pause: float = 0.01
) -> None:
    """Wait for something that a process brings about; look every `pause` seconds."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(pause)


def ended(process: subprocess.Popen[str], seconds: float = 300) -> tuple[int, str]:
    """The exit code and what was said. Whoever still writes there is waited for, too."""
    output, _ = process.communicate(timeout=seconds)
    return process.returncode, output


def ranks_of(launcher: subprocess.Popen[str]) -> dict[int, int]:
    """The process ids of the ranks, by their numbers."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            if int((path / "stat").read_text().rsplit(")", 1)[1].split()[1]) == launcher.pid:
                variables = (path / "environ").read_bytes().split(b"\0")
                found |= {int(each[5:]): int(path.name) for each in variables if each.startswith(b"RANK=")}
    return found


def hears(pid: int) -> bool:
    """Whether a process has a handler of SIGUSR1."""
    (caught,) = re.findall(r"^SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.M)
    return bool(int(caught, 16) & 1 << signal.SIGUSR1 - 1)


def live(pids: list[int]) -> list[int]:
    """Those of some processes that have not ended."""

    def state(pid: int) -> str:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return "gone"

    return [pid for pid in pids if state(pid) not in ("gone", "Z")]


def gone(pids: list[int], seconds: float) -> bool:
    """Whether all of some processes end in so many seconds."""
    deadline = time.monotonic() + seconds
    while live(pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not live(pids)
