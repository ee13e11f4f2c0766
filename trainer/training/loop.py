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
import sys
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ...datasets.errors import InputError
from ...datasets.printable import printable
from ...datasets.store.folder import Folder
from ...datasets.stream.held_out import HeldOut
from ...datasets.stream.quarantine import Quarantined
from ...datasets.work.progress import TELLING, progress
from ..config import Config
from ..forgotten import mark_run, mark_tags
from ..inputs import read_inputs
from ..model.snapshot import Facts, Snapshot, save_snapshot
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
from ..runtime.ranks import check_same_start, precision, start
from ..tracking.about import About
from ..tracking.tracker import Tracker, tracking
from ..validation import VAL_SAMPLES, read_val, val_loss
from .checkpoint import Identity, TrainState, copied, load_checkpoint, save_checkpoint
from .pace import Meter, Pace, Waited, about, bar_text, plan
from .step import UPDATE_METRICS, Training, build, set_learning_rate, train_step, update_average


def train(config: Config, shards: Folder, vectors: Path, run: Path) -> None:
    """Train, from the newest checkpoint of the run folder or from the start, to the last step.

    Raises:
        InputError: something given cannot work; nothing was trained.
    """
    accelerator = start(config)
    main = accelerator.is_main_process
    begun = read_origin(run) if steps_in(run / CHECKPOINTS) else None
    inputs = read_inputs(config, shards, vectors, begun)
    training = build(config, inputs, accelerator)
    identity = Identity.of(config, inputs.dataset, inputs.vectors_hash)
    state = TrainState(
        {"generator": training.generator, "critic": training.critic, "average": training.average},
        {"generator_optimizer": training.generator_optimizer, "critic_optimizer": training.critic_optimizer},
        {"generator_scaler": training.generator_scaler, "critic_scaler": training.critic_scaler},
    )
    step = load_checkpoint(run / CHECKPOINTS, state, identity, inputs.lineage if begun else ())
    if inputs.origin.dataset not in inputs.lineage:
        raise InputError(
            f"{shards} is not the dataset that {run} was trained on, as it is after every `emojigan shards "
            "forget`. Use that, or another --out."
        )
    check_same_start(accelerator, step, inputs.dataset)
    updates = config.optimizer.num_critic_steps + config.optimizer.num_generator_steps
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
    tags: dict[str, str] = {}
    if main:
        write_beginning(run, config, shards, vectors, inputs.origin.going_on(step, inputs.dataset))
        tags = mark_tags(mark_run(run, inputs.forgotten, begins=step == 0))
        remove_later_snapshots(run, step)
        _tell(training, step, held_out, told)
    recent: list[torch.Tensor] = []
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
        batches, meter = feed(waited, accelerator.device, resident), Meter(training, waited)
        while step < config.optimizer.steps:
            set_learning_rate(training, step)
            recent.append(train_step(training, batches, step * updates))
            update_average(training, step)
            step += 1
            last = step == config.optimizer.steps
            to_write: list[Callable[[], None]] = []

            # Once in a while: metrics, averaged over the ranks and the steps since the last time.
            if step % config.run.log_steps == 0 or last:
                metrics = log_metrics(training, recent, meter, step, tracker)
                bar.set_postfix_str(bar_text(metrics, val, tied=tied), refresh=False)
                recent.clear()

            # Once in a while: a snapshot, scored on held-out tuples by rank 0 while the others wait.
            if (step % config.run.snapshot_steps == 0 or last) and tracker:
                facts = score_snapshot(training, step, held_out, tracker)
                val = facts.scores.get("nll")
                average = copy.deepcopy(training.average).cpu()
                path = run / SNAPSHOTS / step_name(step)
                to_write.append(partial(save_snapshot, path, facts, average, inputs.weights))

            # Once in a while: a checkpoint, which is whole on the disk before the next one is begun.
            if (step % config.run.checkpoint_steps == 0 or last) and tracker:
                path = run / CHECKPOINTS
                to_write.append(tracker.sync)  # first: a run that goes on from there needs its metrics
                to_write.append(partial(save_checkpoint, path, step, copied(state), identity))
            if to_write:
                background.start(*to_write)
            bar.update()
            if (each := pace.step()) and not last and main:
                left = config.optimizer.steps - step
                tqdm.write(f"{left:,} steps left: {about(left * each, accelerator)}")
                sys.stdout.flush()  # into a log, now
    accelerator.wait_for_everyone()  # no rank ends well before the last checkpoint is whole
    accelerator.end_training()
    if main:
        print(printable(f"trained to step {step:,}. Next: emojigan evaluate {run}"))


def note_quarantined(path: Path, quarantined: Quarantined) -> None:
    """Tell of a damaged image, and add a line to the quarantine file of this rank."""
    what = f"{quarantined.shard} {quarantined.key or '(all of it)'}: {quarantined.reason}"
    tqdm.write(printable(f"quarantined: {what}"), file=sys.stderr)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(quarantined), ensure_ascii=False) + "\n")


def log_metrics(
    training: Training, recent: list[torch.Tensor], meter: Meter, step: int, tracker: Tracker | None
) -> dict[str, float]:
    """Average the losses of the last steps over all ranks, and note them and how fast these steps were.

    Raises:
        InputError: a loss is no longer finite.
    """
    mine = torch.cat([torch.stack(recent).mean(dim=0), meter.of_this_rank()])
    of_ranks = training.accelerator.gather(mine[None])
    assert isinstance(of_ranks, torch.Tensor)
    losses, of_meters = of_ranks.split([len(UPDATE_METRICS), len(mine) - len(UPDATE_METRICS)], dim=1)
    metrics: dict[str, float] = dict(zip(UPDATE_METRICS, losses.mean(dim=0).tolist(), strict=True))
    if not np.isfinite(list(metrics.values())).all():
        raise InputError(f"The losses are no longer finite at step {step}. Lower --learning-rate.")
    metrics["train/learning_rate"] = training.generator_optimizer.param_groups[0]["lr"].item()
    metrics |= meter.read(len(recent), of_meters)
    if tracker:
        tracker.log(step, metrics)
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
        f"{'bf16' if precision(training.config) == torch.bfloat16 else 'float32'}"
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
