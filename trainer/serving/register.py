"""A run's best snapshot becomes a version of a registered model, and maybe the champion.

run, evaluation.json ─► register ─► logged model (code, snapshot, card, signature, scores) ─► version ─► gate
                        of which the snapshot is whole, answers, and is the one that was scored

MLflow moves an alias without a condition. So the champion is read again before the alias is moved, and where
it is another one by then, the version is judged beside that. Of two registrations at once the second is
judged beside the first, unless both read before either moves, which are two calls one after the other: then
the later one stays, and the tags of both tell it.
"""

import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...datasets.errors import InputError
from ...datasets.shards.manifest import Manifest
from ...datasets.store.atomic import SUMS, sha256
from ...datasets.store.folder import Folder
from ..config import Config
from ..evaluation.compare import Compared, compare_models
from ..evaluation.evaluate import best_of, reopen
from ..evaluation.kept import Kept, read_kept
from ..forgotten import Mark, mark_tags, read_mark
from ..inputs import Inputs
from ..model.snapshot import Snapshot, load_snapshot
from ..run import REPORT_PAGE, SNAPSHOTS, read_beginning, read_start, to_train_again
from ..tracking.mlflow_run import needed_run_id
from ..tracking.server import mlflow_client
from .card import ABOUT, About, card, shortened
from .card import tags as tags_of
from .gate import decide
from .load import SNAPSHOT_TAG, finding
from .registry import (
    GATE_TAG,
    Version,
    champion_among,
    example,
    find,
    make_champion,
    try_out,
    versions_of,
)
from .source import NAME, PACKAGE, source_of

SERVED = Path("trainer", "serving", "served_model.py")
REQUIREMENTS = (
    *("mlflow", "torch", "numpy", "pandas", "pillow", "safetensors", "pydantic", "pyyaml"),
    *("emoji", "simplejpeg", "tqdm"),
)


NOTHING_MOVES = "it was registered before, and nothing moves by that"


@dataclass(frozen=True)
class Registered:
    """A version of a registered model, and what became of it."""

    version: Version  # as it is now
    why: str  # in words; empty where nothing was asked
    forgotten: Mark | None  # where it was trained with what is forgotten


@dataclass(frozen=True)
class Registering:
    """What a version is made from."""

    run: Path
    kept: Kept
    path: Path  # of the snapshot
    snapshot: Snapshot
    mark: Mark | None
    shards: Folder | None  # where they lie by now
    vectors: Path | None

    def reopened(self) -> tuple[Config, Inputs, Path]:
        """The config, the inputs and the vector file of the run, whose held-out posts were scored.

        Raises:
            InputError: they are others by now.
        """
        config, inputs, vectors = reopen(self.run, self.snapshot.facts, self.shards, self.vectors)
        if inputs.dataset != self.kept.manifest:
            raise InputError(
                f"{self.run} was evaluated on another manifest than that of {inputs.train.folder}. Run "
                f"`emojigan evaluate {self.run}` again."
            )
        return config, inputs, vectors


def register(
    run: Path,
    name: str,
    *,
    by_hand: str | None = None,
    ask_gate: bool = True,
    shards: Folder | None = None,
    vectors: Path | None = None,
) -> Registered:
    """Register the snapshot that `evaluate` scored, and make it the champion if the gate lets it.

    The same snapshot is registered once: asking again gives the version that is there, and the gate is asked
    once. Nothing that was decided moves by that.

    Args:
        by_hand: the reason why it becomes champion whatever the gate would say.
        ask_gate: else it stays what it is.
        shards: where they lie by now; by default where they lay when the run was trained.
        vectors: the same.

    Raises:
        InputError: the run was not evaluated, or what was scored is not what is there; or the snapshot is
            damaged, or not finite, or says nothing; or it was trained without a fold.
    """
    made = _read(run, shards, vectors)
    if (fold := read_beginning(run)[0].data.fold) is not None:
        raise InputError(f"{run} is of a cross-validation: train it without --fold {fold}, on all of train.")
    run_id, client = needed_run_id(run), mlflow_client()
    version = _known(name, made.kept.digest) or _new_version(run_id, name, made)
    for key, value in mark_tags(made.mark).items():
        client.set_tag(run_id, key, value)
        client.set_model_version_tag(name, str(version.number), key, value)
    if version.state == "champion":
        return Registered(version, NOTHING_MOVES, made.mark)
    if by_hand is not None:
        why = f"by hand: {by_hand}"
        try_out(version)
        make_champion(version, why)
    elif GATE_TAG in version.tags or version.became:
        why = NOTHING_MOVES
    else:
        why = _ask_gate(made, version) if ask_gate else ""
    return Registered(find(version.address), why, made.mark)


def _read(run: Path, shards: Folder | None, vectors: Path | None) -> Registering:
    """What is to be registered: whole, finite, and what was scored."""
    kept = read_kept(run)
    path = run / SNAPSHOTS / kept.snapshot
    snapshot = _load(path)
    if sha256(path / SUMS) != kept.digest:
        raise InputError(
            f"{run}/evaluation.json is of another snapshot than {path}. Run `emojigan evaluate {run}` again."
        )
    size = snapshot.facts.image_size
    grey = torch.full((1, 3, size, size), 128, dtype=torch.uint8)
    if not np.isfinite(snapshot.distribution(grey, num_samples=8, seed=0)).all():
        raise InputError(f"{path} answers with what is no number: its training diverged. Train again.")
    return Registering(run, kept, path, snapshot, read_mark(run), shards, vectors)


def _load(path: Path) -> Snapshot:
    return load_snapshot(path, "cuda" if torch.cuda.is_available() else "cpu")


def _known(name: str, digest: str) -> Version | None:
    """The first version that has a snapshot, if there is one."""
    return next((each for each in versions_of(name) if each.tags[SNAPSHOT_TAG] == digest), None)


def _ask_gate(made: Registering, version: Version) -> str:
    """Decide, and do what was decided, of a version beside the champion of that moment. -> why"""
    while True:
        champion = champion_among(versions_of(version.name))
        decision = decide(made.kept, partial(_beside, made, version, champion) if champion else None)
        if not decision.champion:
            break
        try_out(version)
        now = champion_among(versions_of(version.name))
        if (now and now.number) == (champion and champion.number):
            make_champion(version, f"by the gate: {decision.why}")
            break
    told = "champion" if decision.champion else "challenger"
    client = mlflow_client()
    client.set_model_version_tag(version.name, str(version.number), GATE_TAG, f"{told}: {decision.why}")
    return decision.why


def compare_versions(
    addresses: Sequence[str], run: Path, *, shards: Folder | None = None, vectors: Path | None = None
) -> Compared:
    """Judge versions of registered models on the held-out posts of a run.

    Raises:
        InputError: one cannot be had, or they cannot be asked the same.
    """
    versions = {version.address: version for version in map(find, addresses)}
    if len(versions) < 2:
        raise InputError(f"These are all {next(iter(versions))}: compare versions that differ.")
    _, snapshot = best_of(run)
    _, inputs, vector_file = reopen(run, snapshot.facts, shards, vectors)
    snapshots = {address: _fetched(version) for address, version in versions.items()}
    return compare_models(snapshots, inputs, vector_file)


def _fetched(version: Version) -> Snapshot:
    with finding(version.address) as found:
        return _load(found.snapshot)


def _beside(made: Registering, version: Version, champion: Version) -> Compared:
    """It and the champion, on the held-out posts that it was scored on."""
    _, inputs, vector_file = made.reopened()
    snapshots = {version.address: made.snapshot, champion.address: _fetched(champion)}
    return compare_models(snapshots, inputs, vector_file)


def _new_version(run_id: str, name: str, made: Registering) -> Version:
    import mlflow

    # Else it is logged that the input example is tried.
    logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)
    facts, own = made.snapshot.facts, made.kept.own
    about = _about(name, run_id, made)
    text = card(about)
    with mlflow.start_run(run_id=run_id), tempfile.TemporaryDirectory() as folder:
        readme = Path(folder) / "README.md"
        readme.write_text(text, encoding="utf-8")
        info = mlflow.pyfunc.log_model(
            name=name,
            step=facts.step,
            python_model=str(PACKAGE / SERVED),
            code_paths=[str(_copy_source(Path(folder)))],
            artifacts={"snapshot": str(made.path), "card": str(readme)},
            model_config={"readings": made.kept.readings, "snapshot": made.kept.digest},
            signature=signature(),
            input_example=(example(), {"n_samples": 1}),
            pip_requirements=[f"{each}=={version_of(each).partition('+')[0]}" for each in REQUIREMENTS],
            params={"step": facts.step, "vocabulary": len(facts.vocabulary), **facts.model},
        )
        mlflow.log_metrics(
            {f"test/{key}": value for key, value in made.kept.scores[own].items()},
            step=facts.step,
            model_id=info.model_id,
        )
        tags = {SNAPSHOT_TAG: made.kept.digest, "dataset": facts.dataset, "vectors": facts.vectors}
        number = mlflow.register_model(f"models:/{info.model_id}", name, tags=tags | tags_of(about)).version
    client = mlflow_client()
    client.update_model_version(name, str(number), shortened(text))
    if not client.get_registered_model(name).description:
        client.update_registered_model(name, ABOUT.replace("NAME", name))
    return find(f"{name}/{number}")


def _about(name: str, run_id: str, made: Registering) -> About:
    config, inputs, vectors = made.reopened()
    _, shards, _ = read_beginning(made.run)
    manifest: Manifest = inputs.train.manifest
    return About(
        name=name,
        config=config,
        facts=made.snapshot.facts,
        manifest=manifest,
        kept=made.kept,
        mark=made.mark,
        start=read_start(made.run),
        again=to_train_again(made.run, str(shards), vectors, "NEW"),
        report=f"runs:/{run_id}/{REPORT_PAGE}",
    )


def _copy_source(folder: Path) -> Path:
    """What the model needs of the package as it is now; it keeps the code that it was made with."""
    for path in source_of(SERVED):
        (folder / NAME / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PACKAGE / path, folder / NAME / path)
    return folder / NAME


def signature() -> Any:
    """Binary images in; out, for each, emojis with probabilities, or readings that have such; parameters.

    The probabilities of an image have intervals, and the number of its latents; those of its readings none.
    """
    from mlflow.models.signature import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array, Object, Property

    emojis = [Property("emoji", DataType.string), Property("p", DataType.double)]
    readings = [Property("share", DataType.double), Property("emojis", Array(Object(emojis)))]
    interval = [Property("low", DataType.double), Property("high", DataType.double)]
    told = (*emojis, *interval, Property("latents", DataType.long), *readings)
    answer = Object([Property(each.name, each.dtype, required=False) for each in told])
    numbers = {"n_samples": 0, "top_k": 10, "seed": 0}
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.binary, "image")]),
        outputs=Schema([ColSpec(Array(answer))]),
        params=ParamSchema(
            [
                *(ParamSpec(name, DataType.long, default) for name, default in numbers.items()),
                ParamSpec("readings", DataType.boolean, False),
                *(ParamSpec(name, DataType.string, [], shape=(-1,)) for name in ("given", "deny")),
            ]
        ),
    )
