"""Trials, each done exactly once by any number of workers that may be killed: Optuna's study, and locks.

    planned ─► waiting ─► running ─► complete, or failed ─► given back: waiting, once more
                             └─ its worker was killed ─► taken up by another one

Optuna's own loop invents a trial where another worker was faster: on PostgreSQL it ran 43 of 40. So all
trials are planned when a sweep is created, and none comes later. A worker has the lock of a trial's folder
while it is at it, and the system ends that lock with its process: a trial that runs and is not locked is of a
worker that is gone. This needs no heartbeat, and is the same whoever keeps the states.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.exceptions import StorageInternalError
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from ...datasets.errors import InputError
from ...datasets.printable import printable
from ...datasets.store.folder import LocalFolder
from ...datasets.store.lock import writing
from ..runtime.signals import Stopped, asked
from .plan import JOURNAL, Sweep, trial_folder
from .storage import answering, open_database, open_journal

WHY = "why"  # attribute of a failed trial
RETRY_OF = "retry_of"  # attribute of one that has the place of a failed one: the number of that


@dataclass(frozen=True)
class Trials:
    """The trials of a sweep, as they are kept; made by `open_trials`."""

    folder: Path
    sweep: Sweep
    study: Study
    storage: BaseStorage

    def all(self) -> list[FrozenTrial]:
        """All but failed ones that were given back, by their numbers.

        Raises:
            InputError: the database cannot be used any more.
        """
        with answering(self.sweep.storage):
            found = self.study.get_trials(deepcopy=False)
        again = {trial.user_attrs.get(RETRY_OF) for trial in found}
        return [trial for trial in found if trial.number not in again]

    def do_each(self, do: Callable[[Trial], float], most: int | None = None) -> list[bool]:
        """Take trials, one after the other, until none is left to take; of each, whether it is complete.

        Args:
            do: gives what is to be low. With an InputError the trial has failed, and the next is taken; but
                one by an OSError is the trouble of this machine, and leaves the trial to others.
            most: trials to take.

        Raises:
            InputError: the database cannot be used any more. A trial that is begun is left to others.
            Stopped: a signal came, and there may be trials left.
        """
        done: list[bool] = []
        while most is None or len(done) < most:
            if asked():
                raise Stopped("stopped between two trials. Run the same command again to go on.")
            with answering(self.sweep.storage), ExitStack() as stack:
                trial = self._take(stack, left_first=not done)
                if trial is None:
                    break
                done.append(self._do(trial, do))
        return done

    def _do(self, trial: Trial, do: Callable[[Trial], float]) -> bool:
        try:
            value = do(trial)
        except Exception as error:
            if any(isinstance(each, StorageInternalError | OSError) for each in _chain(error)):
                raise
            trial.set_user_attr(WHY, f"{error}" if isinstance(error, InputError) else repr(error))
            self.study.tell(trial, state=TrialState.FAIL)
            if not isinstance(error, InputError):
                raise
            print(printable(f"trial {trial.number} has failed: {error}"), flush=True)
            return False
        self.study.tell(trial, value)
        return True

    def _take(self, stack: ExitStack, *, left_first: bool) -> Trial | None:
        """A trial that a worker left, or one that waits; locked until the end of `stack`.

        A worker that begins looks for its own, from before it was stopped. Later ones that run come last: on
        a disk without locks of the system each of their workers is waited for.
        """
        study_id = self.storage.get_study_id_from_name(self.sweep.name)
        states = (TrialState.RUNNING, TrialState.WAITING)
        unfinished = sorted(
            self.study.get_trials(deepcopy=False, states=states),
            key=lambda trial: (trial.state == TrialState.RUNNING) != left_first,
        )
        for number in [trial.number for trial in unfinished]:
            trial_id = self.storage.get_trial_id_from_study_id_trial_number(study_id, number)
            with ExitStack() as locked:
                folder = LocalFolder(trial_folder(self.folder, number))
                try:
                    locked.enter_context(writing(folder, "emojigan sweep work"))
                except InputError:
                    continue  # another worker is at it
                state = self.storage.get_trial(trial_id).state  # what it was before it was locked is past
                if state.is_finished():
                    continue
                if state == TrialState.WAITING:
                    self.storage.set_trial_state_values(trial_id, TrialState.RUNNING)
                stack.push(locked.pop_all())
                self.study.sampler = _sampler(self.sweep, number)
                return Trial(self.study, trial_id)
        return None

    def give_back_failed(self) -> int:
        """Let failed trials be taken once more; return how many.

        Raises:
            InputError: the database cannot be used any more.
        """
        alone = writing(LocalFolder(self.folder), "emojigan sweep repair", wait=True)
        with alone, answering(self.sweep.storage):
            failed = [trial for trial in self.all() if trial.state == TrialState.FAIL]
            for trial in failed:
                self.study.enqueue_trial(trial.params, user_attrs={RETRY_OF: trial.number})
        return len(failed)


def open_trials(folder: Path, sweep: Sweep) -> Trials:
    """The trials of a sweep, all of which are planned then.

    Raises:
        InputError: its database cannot be used.
    """
    optuna.logging.set_verbosity(logging.WARNING)
    with writing(LocalFolder(folder), "emojigan sweep", wait=True):  # it may be planned in part
        storage = open_database(sweep.storage) if sweep.storage else open_journal(folder / JOURNAL)
        with answering(sweep.storage):
            try:
                study = optuna.load_study(storage=storage, study_name=sweep.name)  # which writes nothing
            except KeyError:
                study = optuna.create_study(storage=storage, study_name=sweep.name)
            for point in sweep.planned()[len(study.get_trials(deepcopy=False)) :]:
                study.enqueue_trial(point)
    return Trials(folder, sweep, study, storage)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and what it came of."""
    each: BaseException | None = error
    while each is not None:
        yield each
        each = each.__cause__


def _sampler(sweep: Sweep, number: int) -> BaseSampler:
    """What a search finds the parameters of a trial by: the same, whichever worker takes it."""
    seed = (sweep.seed + 1_000_003 * number) % 2**32
    return RandomSampler(seed=seed) if sweep.search == "random" else TPESampler(seed=seed)
