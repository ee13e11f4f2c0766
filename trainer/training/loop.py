"""The training: one function that reads from top to bottom.

    shards + vectors ─► inputs ─► build ─► resume ─► (train_step ─► average ─► metrics, and now and then
                                                       a snapshot and a checkpoint) × steps
    copies of both ─► written in the background

Accelerate gives the device, DistributedDataParallel and the collectives. The data are not loaded by
it, because its loaders would deal the ranks other shares of a batch than our order does; and the state is not
saved by it, because what it saves is half there when it is killed meanwhile.
"""

import copy
import json
import math
import sys
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from tqdm import tqdm

from ...datasets.errors import InputError
from ...datasets.printable import printable
from ...datasets.store.folder import Folder, LocalFolder
from ...datasets.store.lock import writing
from ...datasets.stream.held_out import HeldOut
from ...datasets.stream.quarantine import Quarantined
from ...datasets.work.progress import TELLING, progress
from ..config import Config
from ..forgotten import mark_run, mark_tags
from ..inputs import read_inputs
from ..model.snapshot import Facts, Snapshot, best_snapshot, save_snapshot
from ..run import (
    CHECKPOINTS,
    SNAPSHOTS,
    quarantine_name,
    read_origin,
    remove_later_snapshots,
    step_name,
    steps_in,
    write_beginning,
)
from ..runtime.background import Background
from ..runtime.device_cache import device_cache
from ..runtime.feed import feed
from ..runtime.ranks import check_same_start, precision_name, start
from ..runtime.signals import Stopped, asked, stop_by_agreement
from ..runtime.together import together
from ..runtime.votes import Votes
from ..tracking.about import About
from ..tracking.tracker import Tracker, tracking
from ..validation import VAL_SAMPLES, read_val, val_loss
from ..watch import Watch
from .checkpoint import Identity, TrainState, copied, load_checkpoint, save_checkpoint, warm_start
from .guard import Faults, finite_mean
from .pace import Meter, Pace, Waited, about, bar_text, plan
from .step import UPDATE_METRICS, Training, build, set_learning_rate, train_step, update_average


def train(config: Config, shards: Folder, vectors: Path, run: Path) -> None:
    """Train, from the newest checkpoint of the run folder or from the start, to the last step.

    Raises:
        InputError: something given cannot work, and nothing was trained; or training failed again and again,
            and the checkpoints before are kept.
    """
    accelerator = start(config)
    main = accelerator.is_main_process
    with (
        together(accelerator, config.run.timeout) as stepped,
        writing(LocalFolder(run), "emojigan train") if main else nullcontext(),
    ):
        accelerator.wait_for_everyone()  # the first rank writes there alone
        _train(accelerator, config, shards, vectors, run, stepped)


def _train(
    accelerator: Accelerator,
    config: Config,
    shards: Folder,
    vectors: Path,
    run: Path,
    stepped: Callable[[], None],
) -> None:
    main = accelerator.is_main_process
    begun = read_origin(run) if steps_in(run / CHECKPOINTS) else None
    inputs = read_inputs(config, shards, vectors, begun)
    training = build(config, inputs, accelerator)
    identity = Identity.of(config, inputs.dataset, inputs.vectors_hash)
    watch = Watch(config, inputs, rows=config.data.batch_size // accelerator.num_processes)
    state = TrainState(
        {"generator": training.generator, "critic": training.critic, "average": training.average},
        {"generator_optimizer": training.generator_optimizer, "critic_optimizer": training.critic_optimizer},
        {
            "generator_scaler": training.generator_guard,
            "critic_scaler": training.critic_guard,
            "watch": watch,
        },
    )
    ancestors = inputs.lineage if begun else ()
    load = partial(load_checkpoint, run / CHECKPOINTS, state, identity, ancestors)
    step = load()
    if config.run.init_from and not steps_in(run / CHECKPOINTS):
        warm_start(Path(config.run.init_from), state)
    if inputs.origin.dataset not in inputs.lineage:
        raise InputError(
            f"{shards} is not the dataset that {run} was trained on, as it is after every `emojigan shards "
            "forget`. Use that, or another --out."
        )
    check_same_start(accelerator, step, inputs.dataset)
    updates, keep = (
        config.optimizer.num_critic_steps + config.optimizer.num_generator_steps,
        config.run.keep_checkpoints,
    )
    batches_left = (config.optimizer.steps - step) * updates
    tuples_left = batches_left * config.data.batch_size // accelerator.num_processes
    resident, told = device_cache(config, inputs.train, accelerator.device, tuples=tuples_left)
    stream = inputs.stream(
        config,
        start=step * updates,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        tell_quarantined=partial(note_quarantined, run / quarantine_name(accelerator.process_index)),
        resident=resident,
    )
    held_out = read_val(inputs)
    guards = (training.critic_guard, training.generator_guard)
    faults = Faults(config, accelerator, guards, partial(inputs.samples, config))
    stop_by_agreement()
    accelerator.wait_for_everyone()  # nothing is written before each rank can begin
    tags: dict[str, str] = {}
    if main:
        write_beginning(run, config, shards, vectors, inputs.origin.going_on(step, inputs.dataset))
        tags = mark_tags(mark_run(run, inputs.forgotten, begins=step == 0))
        remove_later_snapshots(run, step)
        _tell(training, step, held_out, told)
    finished = step == config.optimizer.steps
    recent: list[torch.Tensor] = []  # metrics of this rank alone
    tied, val = config.model.output == "tied", None
    waited, pace = Waited(stream), Pace(accelerator.device)
    of_run = About.of(config, inputs, shards, plan(config, inputs), tags)
    with (
        closing(training),
        closing(stream),
        tracking(run, of_run, resumed_at=step) if main else nullcontext() as tracker,
        progress(config.optimizer.steps, "train", "steps", initial=step, shown=main, form=TELLING) as bar,
        Background() as background,
    ):
        votes = Votes(accelerator)
        if votes(asked())[0]:
            raise _stopped(step, config, main)
        batches, meter = feed(waited, accelerator.device, resident), Meter(training, waited, step)
        if main and not step:
            background.start(
                partial(save_checkpoint, run / CHECKPOINTS, 0, copied(state), identity, keep=keep)
            )
        while step < config.optimizer.steps:
            set_learning_rate(training, step)
            recent.append(train_step(training, batches, step * updates))
            update_average(training, step)
            step += 1

            # What the device found in the step before. After several without an update it goes on with the
            # weights of the newest checkpoint and other data: the step, and so batches and noise, go on.
            if faults.several(step):
                background.wait()
                accelerator.wait_for_everyone()
                training.close()  # captured updates know the memory of what is replaced
                unlogged = [*state.unlogged]
                faults.back(load, step)
                state.unlogged[:] = unlogged
            last = step == config.optimizer.steps
            stops = votes(asked())[0] and not last
            stepped()
            logs = step % config.run.log_steps == 0 or last
            saves = step % config.run.checkpoint_steps == 0 or last or stops
            to_write: list[Callable[[], None]] = []

            # Once in a while: metrics, averaged over the ranks and the steps since the last time.
            if logs or saves:
                state.unlogged.append(of_all_ranks(training, recent))
                recent.clear()
            if logs:
                metrics = log_metrics(training, state.unlogged, meter, faults, watch, step, tracker)
                bar.set_postfix_str(bar_text(metrics, val, watch.signs, tied=tied), refresh=False)
                state.unlogged.clear()
                if watch.signs and config.run.stop_on_collapse and not last:
                    break

            # Once in a while: a snapshot, scored on held-out tuples by rank 0 while the others wait.
            if (step % config.run.snapshot_steps == 0 or last) and tracker:
                facts = score_snapshot(training, step, held_out, tracker)
                val = facts.scores.get("nll")
                average = copy.deepcopy(training.average).cpu()
                path = run / SNAPSHOTS / step_name(step)
                to_write.append(partial(save_snapshot, path, facts, average, inputs.weights))

            # Once in a while: a checkpoint, which is whole on the disk before the next one is begun.
            if saves and tracker:
                path = run / CHECKPOINTS
                to_write.append(tracker.sync)  # first: a run that goes on from there needs its metrics
                to_write.append(partial(save_checkpoint, path, step, copied(state), identity, keep=keep))
            if to_write:
                background.start(*to_write)
            bar.update()
            if (each := pace.step()) and not last and main:
                left = config.optimizer.steps - step
                tqdm.write(f"{left:,} steps left: {about(left * each, accelerator)}")
                sys.stdout.flush()  # into a log, now
            if stops:
                background.wait()  # the checkpoint is whole
                raise _stopped(step, config, main)
    faults.several(step + 1)  # tells of the last step
    accelerator.wait_for_everyone()  # no rank ends well before the last checkpoint is whole
    accelerator.end_training()
    if main and step < config.optimizer.steps:
        print(printable(f"stopped at step {step:,}: it {' and '.join(watch.signs)}. {best_of(run)}"))
    elif main:
        already = f"already, at its last step, {step:,}" if finished else f"to step {step:,}"
        more = ", or --steps for more" if finished else ""
        print(printable(f"trained {already}. Next: emojigan evaluate {run}{more}"))


def best_of(run: Path) -> str:
    """What to do with the best snapshot of a run that was stopped. Raises InputError if it has none."""
    best = best_snapshot(steps_in(run / SNAPSHOTS))
    if best is None:
        raise InputError(
            "--stop-on-collapse: training came to no snapshot before. Train into another --out with a lower "
            "--learning-rate, or with smaller --snapshot-steps."
        )
    return f"The best snapshot is {best}. Next: emojigan evaluate {run}"


def _stopped(step: int, config: Config, main: bool) -> Stopped:
    told = f"stopped at step {step:,} of {config.optimizer.steps:,}. Run the same command again to go on."
    return Stopped(told if main else "")


def note_quarantined(path: Path, quarantined: Quarantined) -> None:
    """Tell of a damaged image, and add a line to the quarantine file of this rank."""
    what = f"{quarantined.shard} {quarantined.key or '(all of it)'}: {quarantined.reason}"
    tqdm.write(printable(f"quarantined: {what}"), file=sys.stderr)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(quarantined), ensure_ascii=False) + "\n")


def of_all_ranks(training: Training, recent: list[torch.Tensor]) -> torch.Tensor:
    """The metrics of some steps, averaged over the ranks, float32 [steps, metrics]."""
    means = training.accelerator.reduce(torch.stack(recent), "mean")
    assert isinstance(means, torch.Tensor)
    return means


def log_metrics(
    training: Training,
    unlogged: list[torch.Tensor],
    meter: Meter,
    faults: Faults,
    watch: Watch,
    step: int,
    tracker: Tracker | None,
) -> dict[str, float]:
    """Average the losses of the last steps, and note them and how fast these steps were.

    Those that are not finite are left out, and a metric of which nothing is left is NaN and not noted.
    """
    losses = finite_mean(torch.cat([each.to(unlogged[-1].device) for each in unlogged]))
    metrics: dict[str, float] = dict(zip(UPDATE_METRICS, losses.tolist(), strict=True))
    metrics |= {"train/updates_left_out": faults.count()} | meter.read(step)
    metrics["train/learning_rate"] = training.generator_optimizer.param_groups[0]["lr"].item()
    if (sign := watch.look(step, metrics)) and training.accelerator.is_main_process:
        tqdm.write(sign)
    metrics["train/signs"] = len(watch.signs)
    if tracker:
        tracker.log(step, {name: value for name, value in metrics.items() if math.isfinite(value)})
    return metrics


def score_snapshot(training: Training, step: int, held_out: HeldOut | None, tracker: Tracker) -> Facts:
    """Score the averaged generator on the val split, if it can be; what its snapshot says of itself."""
    inputs = training.inputs
    facts = Facts(
        step=step,
        image_size=inputs.train.manifest.image_size,
        model=training.config.model.model_dump(),
        vocabulary=inputs.vocabulary,
        dataset=inputs.origin.dataset,
        vectors=inputs.vectors_hash,
        scores={},
    )
    if held_out:
        snapshot = Snapshot(facts, training.average, inputs.weights)
        distribution = snapshot.distribution(held_out.images, num_samples=VAL_SAMPLES, seed=0, raw=True)
        facts.scores["nll"] = val_loss(distribution, held_out, inputs)
        tracker.log(step, {"val/nll": facts.scores["nll"]})
    return facts


def _tell(training: Training, step: int, held_out: HeldOut | None, device_cache: str) -> None:
    """Say what is about to happen, in a few lines."""
    inputs, accelerator = training.inputs, training.accelerator
    print(
        f"{inputs.train.num_tuples:,} tuples, {len(inputs.vocabulary)} emojis; "
        f"{accelerator.num_processes} rank(s) on {accelerator.device}, "
        f"{precision_name(training.config)}"
    )
    print(plan(training.config, inputs), flush=True)
    if device_cache:
        print(device_cache)
    if inputs.num_without_vector:
        print(
            f"{inputs.num_without_vector:,} tuples have an emoji without a vector; they count with weight 0."
        )
    if (scheme := training.config.objective.weights) != "none":
        print(
            f"{scheme} weights: largest over smallest {inputs.weights.max() / inputs.weights.min():.3g}; "
            f"the tuples are worth {inputs.effective_share:.0%} of their number."
        )
    if training.config.objective.penalty_weight == 0:
        print("penalty_weight is 0: without clipping nothing keeps the critic Lipschitz.")
    if step:
        print(f"resumed at step {step:,} of {training.config.optimizer.steps:,}")
    if inputs.forgotten:
        print(f"The dataset {inputs.forgotten.told}; it goes on with what is left.", file=sys.stderr)
    if held_out is None:
        print(
            "All of val that could score a snapshot is forgotten: from here on none is scored. `emojigan "
            "evaluate` takes the best of those that were, or the last if none was.",
            file=sys.stderr,
        )
