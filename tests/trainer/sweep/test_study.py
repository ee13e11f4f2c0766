"""Each trial is done once, whoever is killed meanwhile. Workers are processes, that note what they do."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path

import pytest
from optuna.trial import Trial, TrialState
from sqlalchemy import create_engine, text

from emojigan.datasets.emojis.vectors.word2vec import load_vectors
from emojigan.datasets.errors import InputError
from emojigan.datasets.shards.manifest import read_manifest
from emojigan.datasets.store.folder import LocalFolder
from emojigan.datasets.store.lock import writing
from emojigan.trainer.config import Config
from emojigan.trainer.runtime.signals import Stopped, listening, stop_by_agreement
from emojigan.trainer.sweep.plan import FOLD, Sweep, trial_folder, write_sweep
from emojigan.trainer.sweep.storage import _WholeLines, open_database
from emojigan.trainer.sweep.study import RETRY_OF, WHY, Trials, open_trials

from ...stores import postgresql

WORKER = """
import sys, time
from pathlib import Path
from emojigan.trainer.sweep.plan import read_sweep
from emojigan.trainer.sweep.study import open_trials

folder, hangs = Path(sys.argv[1]), sys.argv[2] == "hangs"

def note(what, trial):
    with open(folder / what, "a") as file:
        file.write(f"{trial.number}\\n")

def do(trial):
    note("begun", trial)
    if hangs:
        note("hangs", trial)
        time.sleep(600)
    rate = trial.suggest_categorical("rate", sweep.grid["rate"])
    fold = trial.suggest_categorical("fold", sweep.folds)
    note("done", trial)
    return rate + fold

sweep, _ = read_sweep(folder)
open_trials(folder, sweep).do_each(do)
"""


def sweep_in(folder: Path, **changes) -> Sweep:
    told = {
        "name": "tried",
        "shards": "shards",
        "vectors": "vectors.bin",
        "folds": (0, 1, 2, 3, 4),
        "grid": {"rate": tuple(range(8))},
        "ranges": {},
        "search": "grid",
        "trials": 40,
        "metric": "nll",
        "seed": 0,
        "dataset": "",
        "vectors_sha256": "",
        "parent": "",
    }
    sweep = Sweep(**told | changes)
    write_sweep(folder, sweep, Config())
    return sweep


def lines(path: Path) -> Counter[int]:
    return Counter(map(int, path.read_text().split())) if path.exists() else Counter()


def begin(folder: Path, how: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", WORKER, folder, how])


def six_workers_one_of_them_killed(folder: Path, storage: str | None) -> None:
    sweep = sweep_in(folder, storage=storage)
    open_trials(folder, sweep)
    killed = begin(folder, "hangs")
    while not lines(folder / "hangs"):
        assert killed.poll() is None
        time.sleep(0.01)
    workers = [begin(folder, "works") for _ in range(5)]
    while not lines(folder / "done"):
        assert None in [worker.poll() for worker in workers]
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    assert [worker.wait(300) for worker in workers] == [0] * 5
    assert (
        begin(folder, "works").wait(300) == 0
    )  # if it was killed when the others had looked for the last time

    (left,) = lines(folder / "hangs")
    assert lines(folder / "done") == Counter(range(40))
    assert lines(folder / "begun") == Counter(range(40)) + Counter([left])
    trials = open_trials(folder, sweep).all()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 40
    tried = {(trial.params["rate"], trial.params[FOLD]): trial.value for trial in trials}
    assert tried == {(rate, fold): rate + fold for rate in range(8) for fold in range(5)}


def test_six_workers_one_of_them_killed_do_each_of_forty_trials_once(tmp_path: Path):
    six_workers_one_of_them_killed(tmp_path, None)


@pytest.mark.soak
def test_so_it_is_on_postgresql(tmp_path: Path):
    with postgresql() as address:
        six_workers_one_of_them_killed(tmp_path, address.replace("+psycopg2", ""))


@pytest.mark.soak
def test_a_database_in_which_nothing_may_be_made_is_told_in_a_line():
    with postgresql() as address:
        with create_engine(address).begin() as connection:
            connection.execute(text("create role ann login"))
        address = address.replace("+psycopg2", "").replace("mlflow@", "ann@")
        with pytest.raises(InputError, match=r"cannot be used: permission denied for schema public\.$"):
            open_database(address)


@pytest.mark.soak
@pytest.mark.parametrize("at", ["in a trial", "behind one", "before a report", "before a repair"])
def test_a_database_that_goes_away_ends_a_command_with_a_line(tmp_path: Path, at: str):
    def goes(trial: Trial | None = None) -> float:
        os.kill(server, signal.SIGQUIT)
        while (data / "postmaster.pid").exists():
            time.sleep(0.1)
        return searched(trial) if trial and at == "in a trial" else 1.0

    with postgresql() as address:
        data = Path(address.partition("host=")[2]) / "data"
        server = int((data / "postmaster.pid").read_text().split()[0])
        sweep = sweep_in(tmp_path, storage=address.replace("+psycopg2", ""), search="random", trials=2)
        trials = open_trials(tmp_path, sweep)
        if at.startswith("before"):
            goes()
        command = {"before a report": trials.all, "before a repair": trials.give_back_failed}
        with pytest.raises(InputError, match=r"^postgresql://.* cannot be used any more: [^\n]*\. Run the "):
            command.get(at, partial(trials.do_each, goes))()


def test_the_lock_of_a_worker_that_was_killed_does_not_hold_up_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Also where the sweep was given as a relative path."""
    monkeypatch.chdir(tmp_path)
    journal = Path("sweep") / "journal.log"
    journal.parent.mkdir()
    journal.touch()
    assert _WholeLines(journal).acquire()  # and is killed
    other = _WholeLines(journal)
    other.grace_period = 1
    waits = threading.Thread(target=other.acquire, daemon=True)
    waits.start()
    waits.join(30)
    assert not waits.is_alive()
    other.release()


def test_a_worker_asks_once_for_trials_that_others_are_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where a disk has no locks of the system, each asking takes ten seconds."""

    def noted(folder: LocalFolder, *rest, **more) -> AbstractContextManager:
        asked.append(folder.path)
        return writing(folder, *rest, **more)

    asked: list[Path | None] = []
    sweep = sweep_in(tmp_path)
    with ExitStack() as stack:
        for _ in range(3):
            assert open_trials(tmp_path, sweep)._take(stack, left_first=False)
        monkeypatch.setattr("emojigan.trainer.sweep.study.writing", noted)
        assert open_trials(tmp_path, sweep).do_each(lambda trial: 0.0, 4) == [True] * 4
    assert Counter(asked)[trial_folder(tmp_path, 0)] == 1 and len(asked) == 1 + 3 + 4


class Killed(BaseException):
    """What no worker sees coming."""


def searched(trial: Trial) -> float:
    return trial.suggest_float("rate", 1e-4, 1e-1, log=True)


@pytest.mark.parametrize("search", ["random", "tpe"])
def test_a_search_that_is_taken_up_keeps_its_parameters_and_invents_no_trial(tmp_path: Path, search: str):
    def is_killed(trial: Trial) -> float:
        found.append(searched(trial))
        raise Killed

    found: list[float] = []
    sweep = sweep_in(tmp_path, search=search, trials=12)
    with pytest.raises(Killed):
        open_trials(tmp_path, sweep).do_each(is_killed)
    trials = open_trials(tmp_path, sweep)
    assert [trial.state for trial in trials.all()].count(TrialState.RUNNING) == 1
    assert trials.do_each(searched, 5) == [True] * 5 and trials.do_each(searched) == [True] * 7
    values = [trial.value for trial in trials.all()]
    assert values[0] == found[0] and len({*values}) == 12


def outcome(trials: Trials) -> list[str]:
    return [trial.state.name for trial in trials.all()]


def test_a_failed_trial_does_not_stop_the_others_and_is_tried_again_when_it_is_given_back(tmp_path: Path):
    def do(trial: Trial) -> float:
        rate = trial.suggest_categorical("rate", (0, 1, 2))
        if rate == 1 and fails:
            raise InputError("it diverges")
        return rate

    fails = True
    trials = open_trials(tmp_path, sweep_in(tmp_path, grid={"rate": (0, 1, 2)}, folds=(0,), trials=3))
    assert trials.do_each(do) == [True, False, True] and outcome(trials) == ["COMPLETE", "FAIL", "COMPLETE"]
    assert trials.all()[1].user_attrs[WHY] == "it diverges"
    fails = False
    assert (trials.give_back_failed(), trials.give_back_failed()) == (1, 0)
    assert trials.do_each(do) == [True] and outcome(trials) == ["COMPLETE"] * 3
    assert trials.all()[-1].params == {"rate": 1} and trials.all()[-1].user_attrs[RETRY_OF] == 1


def on_a_full_disk(trial: Trial) -> float:
    raise InputError("the disk is full") from OSError(28, "No space left on device")


def without_shards(trial: Trial) -> float:
    read_manifest(LocalFolder(Path("not here")))
    return 0.0


def without_vectors(trial: Trial) -> float:
    load_vectors(Path("not here"))
    return 0.0


def on_a_full_disk_by_another_way(trial: Trial) -> float:
    raise OSError(28, "No space left on device") from ValueError("28")


@pytest.mark.parametrize(
    "do", [on_a_full_disk, on_a_full_disk_by_another_way, without_shards, without_vectors]
)
def test_trouble_of_a_machine_leaves_the_trial_to_others(tmp_path: Path, do: Callable[[Trial], float]):
    trials = open_trials(tmp_path, sweep_in(tmp_path))
    with pytest.raises((InputError, OSError), match=r"the disk is full|not here|No space left"):
        trials.do_each(do)
    assert outcome(trials) == ["RUNNING"] + ["WAITING"] * 39
    assert trials.do_each(lambda trial: 0.0, 1) == [True] and outcome(trials)[0] == "COMPLETE"


def test_a_journal_that_a_full_disk_cut_off_is_gone_on_with(tmp_path: Path):
    """It can be read, too, while the disk is full."""

    def fills_the_disk(trial: Trial) -> float:
        resource.setrlimit(resource.RLIMIT_FSIZE, (journal.stat().st_size + 5, limits[1]))
        return 0.0

    trials, journal = open_trials(tmp_path, sweep_in(tmp_path)), tmp_path / "journal.log"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(OSError, match="File too large"):
            trials.do_each(fills_the_disk)
        assert outcome(open_trials(tmp_path, sweep_in(tmp_path))) == ["RUNNING"] + ["WAITING"] * 39
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert journal.read_bytes().endswith(b"\n")
    with journal.open("ab") as file:  # of a worker that was killed just then
        file.write(b'{"op_code":6,"wor')
    assert outcome(open_trials(tmp_path, sweep_in(tmp_path))) == ["RUNNING"] + ["WAITING"] * 39
    assert open_trials(tmp_path, sweep_in(tmp_path)).do_each(lambda trial: 0.0, 2) == [True] * 2
    assert outcome(open_trials(tmp_path, sweep_in(tmp_path))) == ["COMPLETE"] * 2 + ["WAITING"] * 38


@pytest.mark.parametrize("damage", [b"\0" * 40, b"{]", b"\xff"])
def test_a_damaged_line_of_a_journal_is_told(tmp_path: Path, damage: bytes):
    """As a machine may leave one that loses its power."""
    trials, journal = open_trials(tmp_path, sweep_in(tmp_path)), tmp_path / "journal.log"
    first, *others = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([first, damage + b"\n", *others]))
    with pytest.raises(InputError, match=r"journal\.log has a damaged line"):
        open_trials(tmp_path, sweep_in(tmp_path))
    with pytest.raises(InputError, match=r"journal\.log has a damaged line"):
        trials.do_each(lambda trial: 0.0)


def test_who_is_told_to_stop_while_it_scores_takes_no_other_trial(tmp_path: Path):
    def is_stopped(trial: Trial) -> float:
        stop_by_agreement()  # as a training does
        if not trial.number:
            os.kill(os.getpid(), signal.SIGTERM)
        return 0.0

    trials = open_trials(tmp_path, sweep_in(tmp_path))
    with listening(), pytest.raises(Stopped):
        trials.do_each(is_stopped)
    assert outcome(trials) == ["COMPLETE"] + ["WAITING"] * 39


def test_a_sweep_that_was_planned_in_part_is_planned_to_its_end(tmp_path: Path):
    sweep = sweep_in(tmp_path)
    study = open_trials(tmp_path, sweep_in(tmp_path, grid={"rate": (0, 1)})).study
    assert len(study.trials) == 10
    assert [trial.number for trial in open_trials(tmp_path, sweep).all()] == [*range(40)]
