"""A training that is killed again and again ends like one that was not. Real processes, signal 9."""

import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from emojigan.datasets.store.atomic import SUMS

from .conftest import TINY_NETWORKS
from .trainings import TORCHRUN, Case, ended, gone, hears, metrics, ranks_of, to_tell, told, wait

STEPS = 3000
SPENT = STEPS // 2  # of them before the last kill
# Neither divides the other: a checkpoint keeps metrics of steps that are not logged yet.
OPTIONS = [
    *(*TINY_NETWORKS, "--precision", "float32", "--num-critic-steps", "2", "--steps", str(STEPS)),
    *("--log-steps", "3", "--checkpoint-steps", "8", "--snapshot-steps", "500", "--timeout", "0.5"),
]
ALL = "all processes"


@dataclass(frozen=True)
class Killed:
    """What a kill met."""

    saving: bool  # a checkpoint was being written
    written: bool  # to its last byte, and had not its name yet
    seconds: float  # until no process was left


@pytest.mark.soak
@pytest.mark.parametrize(
    ("launcher", "whom", "kills"),
    [([], [ALL], 60), (TORCHRUN, ["launcher", "rank 0", "rank 1", ALL], 30)],
    ids=["one rank", "two ranks"],
)
def test_a_training_that_was_killed_many_times_ends_like_one_that_was_not(
    shards: Path,
    vectors_file: Path,
    environment: dict[str, str],
    tmp_path: Path,
    launcher: list[str],
    whom: list[str],
    kills: int,
):
    words = ["train", str(shards), "--vectors", str(vectors_file), *OPTIONS]
    killed, whole = (
        Case([*words, "--out", str(tmp_path / name)], tmp_path / name, environment)
        for name in (f"killed-{kills}", f"whole-{kills}")  # MLflow knows them by name
    )
    rng, met = random.Random(kills), list[Killed]()
    while len(met) < kills or sum(each.saving for each in met) < kills / 3:
        most = SPENT // kills
        met.append(kill_once(killed, launcher, whom[len(met) % len(whom)], len(met) % 5 < 3, most, rng))
        assert len(met) < 2 * kills, met
    saving, written = sum(each.saving for each in met), sum(each.written for each in met)
    print(
        f"{len(met)} kills to step {killed.checkpoint()}, {saving} while a checkpoint was written, of which "
        f"{written} before it took its name; gone in {max(each.seconds for each in met):.1f} s at most"
    )
    for case in (killed, whole):
        code, output = ended(case.begin(*launcher), seconds=600)
        assert code == 0, output
    name = f"checkpoints/step-{STEPS:08d}/state.safetensors"
    assert (killed.run / name).read_bytes() == (whole.run / name).read_bytes()
    assert metrics(killed.run) == metrics(whole.run)
    steps = [line["step"] for line in metrics(killed.run) if "train/nll" in line]
    assert steps == [*range(3, STEPS + 1, 3)]
    assert told(killed.run, environment) == to_tell(killed.run)
    assert killed.status() == "FINISHED"
    names = sorted(path.name for path in (killed.run / "checkpoints").iterdir())
    assert names == [f"step-{STEPS - 8:08d}", f"step-{STEPS:08d}"]


def kill_once(
    case: Case, launcher: list[str], whom: str, saves: bool, most: int, rng: random.Random
) -> Killed:
    """Begin it, and kill some of its processes: while it saves, or anywhere in some steps from the start."""
    folder, lines = case.run / "checkpoints", case.lines()
    left = {*folder.glob(".step-*.tmp")}

    def is_written(path: Path) -> bool:
        return (path / SUMS).exists()

    def being_saved() -> set[Path]:
        return {*folder.glob(".step-*.tmp")} - left

    process = case.begin(*launcher)
    ranks = {0: process.pid}
    if launcher:
        wait(lambda: len(ranks_of(process)) == 2, process)
        ranks = ranks_of(process)
    if whom == "launcher":  # before that a rank does not notice, and fails as soon as it is to meet others
        wait(lambda: all(map(hears, ranks.values())), process)
    enough = lines + rng.randint(1, most // 3)
    if saves:
        last_bytes = rng.random() < 0.5
        wait(lambda: case.lines() >= enough, process)
        wait(lambda: any(not last_bytes or is_written(each) for each in being_saved()), process, pause=0.0005)
    else:
        at = time.monotonic() + rng.uniform(0, 12)
        wait(lambda: time.monotonic() > at or case.lines() >= enough, process)
    before = being_saved()
    pids = {"launcher": [process.pid], ALL: [process.pid, *ranks.values()]}.get(whom)
    at = time.monotonic()
    for pid in {*(pids or [ranks[int(whom.split()[1])]])}:
        os.kill(pid, signal.SIGKILL)
    met = before & being_saved()
    written = any(map(is_written, met))
    if whom.startswith("rank"):
        process.wait(30)
    assert gone([*ranks.values()], seconds=5)
    seconds = time.monotonic() - at
    code, output = ended(process)
    assert code == (1 if whom.startswith("rank") else -9), output
    return Killed(bool(met), written, seconds)
