"""What is there before the first step: what a training is given, and where it goes on.

config + shards + vectors + run folder ─► begin ─► Begun

Nothing is written before each rank can begin.
"""

import json
import sys
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from tqdm import tqdm

from ...datasets.errors import InputError
from ...datasets.printable import printable
from ...datasets.store.atomic import telling_where
from ...datasets.store.folder import Folder
from ...datasets.stream.held_out import HeldOut
from ...datasets.stream.quarantine import Quarantined
from ...datasets.stream.reader import Batch, Rows
from ...datasets.stream.split import Split
from ..config import Config
from ..forgotten import mark_run, mark_tags
from ..inputs import Inputs, read_inputs
from ..run import (
    CHECKPOINTS,
    quarantine_name,
    read_origin,
    read_start,
    remove_later_snapshots,
    steps_in,
    write_beginning,
)
from ..runtime.device_cache import device_cache, units_left
from ..runtime.ranks import check_same_start, precision_name
from ..runtime.signals import stop_by_agreement
from ..tracking.about import About, how_started
from ..validation import read_val
from ..watch import Watch
from .checkpoint import Identity, TrainState, load_checkpoint, warm_start
from .speed import plan
from .step import Training, build


@dataclass(frozen=True)
class Begun:
    """A training that is about to go on."""

    training: Training
    state: TrainState
    identity: Identity
    step: int  # that it goes on from
    load: Callable[[], int]  # puts the newest checkpoint into the state, and returns its step
    stream: Generator[Batch | Rows]  # from that step on; close it
    resident: torch.Tensor | None  # uint8 [images, size, size, 3] on the device, that Rows of the stream name
    held_out: HeldOut | None
    watch: Watch
    about: About  # what MLflow is told


def begin(
    accelerator: Accelerator,
    config: Config,
    shards: Folder,
    vectors: Path,
    run: Path,
    more_tags: Mapping[str, str],
) -> Begun:
    """Read all that is given, find where to go on, say what is about to happen, and note it in the run.

    Raises:
        InputError: something given cannot work; nothing was written.
    """
    begun = read_origin(run) if steps_in(run / CHECKPOINTS) else None
    inputs = read_inputs(config, shards, vectors, begun)
    training = build(config, inputs, accelerator)
    watch = Watch(config, inputs, rows=config.data.batch_size // accelerator.num_processes)
    state, identity = _state_of(training, watch), Identity.of(config, inputs.dataset, inputs.vectors_hash)
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
    check_same_start(accelerator, step, inputs.dataset, inputs.vectors_hash)
    held_out = read_val(inputs)
    stream, resident, kept = _stream(accelerator, config, inputs, run, step)
    stop_by_agreement()
    accelerator.wait_for_everyone()
    tags: dict[str, str] = {}
    if accelerator.is_main_process:
        origin = inputs.origin.going_on(step, inputs.dataset)
        start = how_started() if step < config.optimizer.steps else read_start(run)  # which has ended then
        write_beginning(run, config, shards, vectors, origin, start)
        tags = mark_tags(mark_run(run, inputs.forgotten, begins=step == 0))
        remove_later_snapshots(run, step)
        _tell(training, step, held_out, kept)
    return Begun(
        training=training,
        state=state,
        identity=identity,
        step=step,
        load=load,
        stream=stream,
        resident=resident,
        held_out=held_out,
        watch=watch,
        about=About.of(config, inputs, shards, plan(config, inputs), {**more_tags, **tags}),
    )


def _state_of(training: Training, watch: Watch) -> TrainState:
    learns = training.config.objective.critic_sees != "nothing"  # else it has no moments
    of_critic = {"critic_optimizer": training.critic_optimizer} if learns else {}
    return TrainState(
        {"generator": training.generator, "critic": training.critic, "average": training.average},
        {"generator_optimizer": training.generator_optimizer, **of_critic},
        {
            "generator_scaler": training.generator_guard,
            "critic_scaler": training.critic_guard,
            "watch": watch,
        },
    )


def _stream(
    accelerator: Accelerator, config: Config, inputs: Inputs, run: Path, step: int
) -> tuple[Generator[Batch | Rows], torch.Tensor | None, str]:
    """The batches of this rank from a step on, images that lie on its device, and what is told of these."""
    settings, rank, ranks = config.optimizer, accelerator.process_index, accelerator.num_processes
    updates = settings.num_critic_steps + settings.num_generator_steps
    units = units_left(config, step=step, ranks=ranks)
    resident, kept = device_cache(config, inputs.train, accelerator.device, units=units)
    stream = inputs.stream(
        config,
        start=step * updates,
        rank=rank,
        world_size=ranks,
        tell_quarantined=partial(note_quarantined, run / quarantine_name(rank)),
        resident=resident,
    )
    return stream, resident, kept


def _of_reactions(split: Split) -> str:
    return f" in {split.num_units:,} reactions" if split.unit == "reaction" else ""


def note_quarantined(path: Path, quarantined: Quarantined) -> None:
    """Tell of a damaged image, and add a line to the quarantine file of this rank."""
    what = f"{quarantined.shard} {quarantined.key or '(all of it)'}: {quarantined.reason}"
    tqdm.write(printable(f"quarantined: {what}"), file=sys.stderr)
    path.parent.mkdir(parents=True, exist_ok=True)
    with telling_where(path), open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(quarantined), ensure_ascii=False) + "\n")


def _tell(training: Training, step: int, held_out: HeldOut | None, kept: str) -> None:
    """Say what is about to happen, in a few lines."""
    inputs, accelerator = training.inputs, training.accelerator
    print(
        f"{inputs.train.num_tuples:,} tuples{_of_reactions(inputs.train)}, {len(inputs.vocabulary)} emojis; "
        f"{accelerator.num_processes} rank(s) on {accelerator.device}, "
        f"{precision_name(training.config)}"
    )
    print(plan(training.config, inputs), flush=True)
    if kept:
        print(kept)
    if inputs.num_without_vector:
        print(
            f"{inputs.num_without_vector:,} tuples have an emoji without a vector; they count with weight 0."
        )
    if training.config.data.deny:
        print(f"{inputs.num_denied:,} tuples have a denied emoji; they count with weight 0.")
    model = training.config.model
    if model.output == "tied" and not (model.emoji_bias or model.emoji_residual) and inputs.num_alike:
        print(
            f"{inputs.num_alike} emojis have the vector of another one, and are said as often as that. "
            "--emoji-residual tells them apart."
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
    sys.stdout.flush()  # into a log, before what goes wrong
