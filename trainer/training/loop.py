"""The training: one loop that reads from top to bottom.

    begin ─► (train_step ─► average ─► metrics, and now and then a snapshot and a checkpoint) × steps
    copies of both ─► written in the background

Accelerate gives the device, the ranks and the collectives. The data are not loaded by it, because its loaders
would deal the ranks other shares of a batch than our order does; and the state is not saved by it, because
what it saves is half there when it is killed meanwhile.
"""

import copy
import math
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, nullcontext
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from ...datasets.errors import InputError
from ...datasets.printable import printable
from ...datasets.store.folder import Folder, LocalFolder
from ...datasets.store.lock import writing
from ...datasets.stream.held_out import HeldOut
from ...datasets.work.progress import TELLING, progress
from ..config import Config, RunConfig
from ..facts import Facts, best_snapshot, keep_snapshots
from ..model.snapshot import Snapshot, save_snapshot
from ..run import CHECKPOINTS, SNAPSHOTS, step_name, steps_in
from ..runtime.background import Background, later
from ..runtime.feed import feed
from ..runtime.ranks import check_one_folder, check_same_words, meet, set_up
from ..runtime.signals import Stopped, asked
from ..runtime.together import together
from ..runtime.votes import Votes
from ..tracking.delivery import a_courier
from ..tracking.system import System
from ..tracking.tracker import SIGNS, Tracker, tracking
from ..validation import REACTION_SAMPLES, VAL_SAMPLES, val_loss, val_reaction_loss
from .begin import Begun, begin
from .checkpoint import begin_to_copy, save_checkpoint
from .guard import Faults, finite_mean
from .speed import Meter, Pace, Waited, about, bar_text
from .step import UPDATE_METRICS, Training, set_learning_rate, train_step, update_average


def train(
    settings: RunConfig,
    settle: Callable[[], Config],
    shards: Folder,
    vectors: Path,
    run: Path,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Train, from the newest checkpoint of the run folder or from the start, to the last step.

    Args:
        settings: how the ranks meet.
        settle: gives the config that the dataset makes of what was asked for; where the ranks have met, so
            that what one of them cannot read, all refuse.
        tags: that MLflow is told of the run beside those of its own.

    Raises:
        InputError: something given cannot work, and nothing was trained; or training failed again and again,
            and the checkpoints before are kept.
    """
    accelerator = meet(settings)
    with together(accelerator, settings.timeout) as stepped, ExitStack() as stack:
        courier = stack.enter_context(a_courier()) if accelerator.is_main_process else None
        config = settle()
        check_same_words(accelerator, config)
        set_up(config, accelerator.num_processes)
        if accelerator.is_main_process:
            stack.enter_context(writing(LocalFolder(run), "emojigan train"))
        check_one_folder(accelerator, run)
        begun = begin(accelerator, config, shards, vectors, run, tags or {})
        step = go_on(begun, run, courier, stepped)
        accelerator.wait_for_everyone()  # no rank ends well before the last checkpoint is whole
        accelerator.end_training()
    if accelerator.is_main_process:
        _tell_end(begun, step, run)


def go_on(
    begun: Begun, run: Path, courier: "subprocess.Popen[str] | None", stepped: Callable[[], None]
) -> int:
    """The steps that are left; the last one, which is an earlier one where training collapsed.

    Args:
        courier: on the first rank, of `a_courier`.
        stepped: to be called after each step.
    """
    training, state, step = begun.training, begun.state, begun.step
    config, accelerator = training.config, training.accelerator
    main, settings = accelerator.is_main_process, config.run
    steps = config.optimizer.steps
    updates = config.optimizer.num_critic_steps + config.optimizer.num_generator_steps
    guards = (training.critic_guard, training.generator_guard)
    faults = Faults(config, accelerator, guards, partial(training.inputs.samples, config))
    waited, pace, votes = Waited(begun.stream), Pace(accelerator.device), Votes(accelerator)
    save = partial(
        save_checkpoint, run / CHECKPOINTS, identity=begun.identity, keep=settings.keep_checkpoints
    )
    with (
        closing(training),
        closing(begun.stream),
        tracking(run, begun.about, courier, resumed_at=step) if courier else nullcontext() as tracker,
        progress(steps, "train", "steps", initial=step, shown=main, form=TELLING) as bar,
        Background() as background,
    ):
        if votes(asked()):
            raise _stopped(step, config, main)
        batches = feed(waited, accelerator.device, begun.resident)
        log = Log(begun, Meter(training, waited, step), faults, tracker, bar)
        if main and not step:
            background.start(partial(save, 0, begin_to_copy(state)()))
        while step < steps:
            rate = set_learning_rate(training, step)
            log.add(train_step(training, batches, step * updates))
            update_average(training, step)
            step += 1

            # The metrics of the step before, read now that the device has the next one to do.
            log.finish()

            # What the device found in the step before. After several without an update it goes on with the
            # weights of the newest checkpoint and other data: the step, and so batches and noise, go on.
            if faults.several(step):
                background.wait()
                go_back(begun, faults, step)
            background.look()
            last = step == steps
            stops = votes(asked()) and not last
            logs = step % settings.log_steps == 0 or last
            scores = step % settings.snapshot_steps == 0 or last
            saves = step % settings.checkpoint_steps == 0 or last or stops
            to_write: list[Callable[[], None]] = []
            stepped()

            # Once in a while: metrics, averaged over the ranks and the steps since the last time.
            if logs or saves:
                log.gather()
            if logs:
                log.begin(step, rate)
            copied = begin_to_copy(state) if saves and main else None
            if scores or saves:
                log.finish()  # the device is waited for: its metrics belong to the checkpoint
            if begun.watch.signs and settings.stop_on_collapse and not last:
                break

            # Once in a while: a snapshot, scored on held-out tuples by rank 0 while the others wait.
            if scores and tracker:
                facts = score_snapshot(training, step, begun.held_out, tracker)
                log.val = facts.scores.get("nll")
                to_write.append(snapshot(training, facts, run))

            # Once in a while: a checkpoint, which is whole on the disk before the next one is begun.
            if copied and tracker:
                to_write.append(tracker.sync)  # first: a run that goes on from there needs its metrics
                to_write.append(partial(save, step, copied()))
            if to_write:
                background.start(*to_write)
            bar.update()
            if (each := pace.step()) and not last and main:
                tqdm.write(f"{steps - step:,} steps left: {about((steps - step) * each, accelerator)}")
                sys.stdout.flush()  # into a log, now
            if stops:
                background.wait()  # the checkpoint is whole
                raise _stopped(step, config, main)
    faults.several(step + 1)  # tells of the last step
    return step


def go_back(begun: Begun, faults: Faults, step: int) -> None:
    """Take the weights of the newest checkpoint, which is whole by now; metrics not noted yet stay."""
    begun.training.accelerator.wait_for_everyone()
    begun.training.close()  # captured updates know the memory of what is replaced
    unlogged = [*begun.state.unlogged]
    faults.back(begun.load, step)
    begun.state.unlogged[:] = unlogged


def snapshot(training: Training, facts: Facts, run: Path) -> Callable[[], None]:
    """What writes a snapshot of the averaged generator as it is now."""
    average, weights = copy.deepcopy(training.average).cpu(), training.inputs.weights

    def write() -> None:
        save_snapshot(run / SNAPSHOTS / step_name(facts.step), facts, average, weights)
        if last := training.config.run.keep_snapshots:
            keep_snapshots(steps_in(run / SNAPSHOTS), last, steps_in(run / CHECKPOINTS)[-1:])

    return write


def _tell_end(begun: Begun, step: int, run: Path) -> None:
    """Say how a training ended, and what to do next. Raises InputError if it came to nothing."""
    steps = begun.training.config.optimizer.steps
    next_command = f"Next: emojigan evaluate {shlex.quote(str(run))}"
    if step < steps:
        signs = " and ".join(begun.watch.signs)
        told = f"stopped at step {step:,}: it {signs}. The best snapshot is {best_of(run)}. {next_command}"
    elif begun.step == steps:
        told = f"trained already, at its last step, {step:,}. {next_command}, or --steps for more"
    else:
        told = f"trained to step {step:,}. {next_command}"
    print(printable(told))


def best_of(run: Path) -> Path:
    """The best snapshot of a run that was stopped. Raises InputError if it has none."""
    best = best_snapshot(steps_in(run / SNAPSHOTS))
    if best is None:
        raise InputError(
            "--stop-on-collapse: training came to no snapshot before. Train into another --out with a lower "
            "--learning-rate, or with smaller --snapshot-steps."
        )
    return best


def _stopped(step: int, config: Config, main: bool) -> Stopped:
    told = f"stopped at step {step:,} of {config.optimizer.steps:,}. Run the same command again to go on."
    return Stopped(told if main else "")


class Log:
    """The metrics of a training: averaged over ranks and steps, noted, watched, and shown.

    They are read when the device has the next step to do, so that it never waits for that.
    """

    def __init__(self, begun: Begun, meter: Meter, faults: Faults, tracker: Tracker | None, bar: tqdm):
        self.val: float | None = None  # the last score on the val split
        self._begun, self._meter, self._faults = begun, meter, faults
        self._tracker, self._bar = tracker, bar
        self._system = System(begun.training.accelerator)
        self._recent: list[torch.Tensor] = []  # metrics of this rank alone
        self._open: Callable[[], None] | None = None
        self._tag_signs()

    def add(self, metrics: torch.Tensor) -> None:
        """Take those of a step on this rank, float32 [metrics]."""
        self._recent.append(metrics)

    def gather(self) -> None:
        """Average those of the last steps over the ranks; a checkpoint keeps them until they are noted."""
        means = self._begun.training.accelerator.reduce(torch.stack(self._recent), "mean")
        assert isinstance(means, torch.Tensor)
        self._begun.state.unlogged.append(means)
        self._recent.clear()

    def begin(self, step: int, rate: float) -> None:
        """Average what was gathered over the steps, and leave it on its way from the device.

        What is not finite is left out, and a metric of which nothing is left is NaN and not noted.
        """
        unlogged = self._begun.state.unlogged
        losses = finite_mean(torch.cat([each.to(unlogged[-1].device) for each in unlogged]))
        unlogged.clear()
        read = later(torch.cat([losses, self._faults.count()[None]]))
        self._open = partial(self._note, step, rate, read, self._meter.read(step), self._system.read())

    def finish(self) -> None:
        """Note what is on its way."""
        if self._open:
            self._open()
        self._open = None

    def _note(
        self,
        step: int,
        rate: float,
        read: Callable[[], torch.Tensor],
        speed: Callable[[], dict[str, float]],
        system: Callable[[], dict[str, float]],
    ) -> None:
        names, watch = (*UPDATE_METRICS, "train/updates_left_out"), self._begun.watch
        metrics: dict[str, float] = dict(zip(names, read().tolist(), strict=True)) | speed() | system()
        metrics["train/learning_rate"] = rate
        if (sign := watch.look(step, metrics)) and self._tracker:
            tqdm.write(sign)
        self._tag_signs()
        metrics["train/signs"] = len(watch.signs)
        if self._tracker:
            self._tracker.log(step, {name: value for name, value in metrics.items() if math.isfinite(value)})
        tied = self._begun.training.config.model.output == "tied"
        self._bar.set_postfix_str(bar_text(metrics, self.val, watch.signs, tied=tied), refresh=False)

    def _tag_signs(self) -> None:
        if self._tracker and (signs := self._begun.watch.signs):
            self._tracker.tag(SIGNS, ", ".join(signs))


def score_snapshot(training: Training, step: int, held_out: HeldOut | None, tracker: Tracker) -> Facts:
    """Score the averaged generator on the val split, if it can be; what its snapshot says of itself."""
    inputs, train = training.inputs, training.inputs.train
    facts = Facts(
        step=step,
        image_size=inputs.train.manifest.image_size,
        model=training.config.model.model_dump(),
        vocabulary=inputs.vocabulary,
        dataset=inputs.origin.dataset,
        vectors=inputs.vectors_hash,
        scores={},
        sizes=tuple((train.by_size / train.num_units).tolist()) if train.unit == "reaction" else (),
    )
    if held_out:
        snapshot = Snapshot(facts, training.average, inputs.weights)
        if training.config.data.unit == "reaction":
            by_latent = partial(snapshot.by_latent, num_samples=REACTION_SAMPLES, seed=0)
            facts.scores["nll"] = val_reaction_loss(by_latent, held_out, inputs)
        else:
            distribution = snapshot.distribution(held_out.images, num_samples=VAL_SAMPLES, seed=0, raw=True)
            facts.scores["nll"] = val_loss(distribution, held_out, inputs)
        tracker.log(step, {"val/nll": facts.scores["nll"]})
    return facts
