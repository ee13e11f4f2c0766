"""Who was trained with accounts that are forgotten, and how to train without them.

manifest, accounts ─► losses of the identities that had them ─┬─► folders of runs ──────────────┐
                                                             └─► MLflow: runs, model versions ─┴─► Trained

A run and a model tell the identity of the dataset that they began on, so they are found wherever they lie.
"""

import shlex
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...datasets.printable import printable
from ...datasets.shards.manifest import Manifest, lineage
from ...datasets.store.atomic import is_whole
from ..config import PLAIN, Config, RunConfig
from ..facts import read_facts
from ..forgotten import Mark, mark_run, mark_tags, read_tag
from ..run import (
    CONFIG,
    HARM_PAGE,
    INPUTS,
    REPORT_PAGE,
    SNAPSHOTS,
    read_beginning,
    read_origin,
    steps_in,
    to_train_again,
)
from ..sizes import KEYS
from ..tracking.server import every, mlflow_client


@dataclass(frozen=True)
class Loss:
    """What a dataset lost since it was what it was when a run began."""

    all: Mark  # what the run is marked with
    theirs: Mark  # when the accounts in question were forgotten: what is told


@dataclass(frozen=True)
class Trained:
    """A run, or a version of a registered model, whose dataset had the accounts."""

    name: str
    theirs: Mark  # of its loss; with train_tuples 0, it was not trained with them: they were held out
    command: str  # that puts one without them in its place
    report: str | None  # that may show their pictures
    evaluate: str  # the command that makes it again

    def told(self, *, dry_run: bool) -> str:
        """In words."""
        if self.theirs.train_tuples:
            lines = [
                f"{self.name} was trained with {self.theirs.train_tuples:,} of the tuples that went with "
                f"them: {'it would be' if dry_run else 'it is'} marked. In its place, without them:",
                f"  {self.command}",
            ]
        else:
            lines = [f"{self.name} was not trained with them: they were held out."]
        if self.report and self.theirs.tuples > self.theirs.train_tuples:
            lines += [f"{self.report} may show their pictures. Make it again:", f"  {self.evaluate}"]
        return "\n".join(map(printable, lines))


def losses_of(manifest: Manifest, accounts: Collection[str]) -> dict[str, Loss]:
    """The identities of a dataset when it had some of the accounts, each with its loss since.

    Args:
        accounts: hashed.
    """
    losses = {}
    for dataset, events in lineage(manifest).items():
        theirs = [event for event in events if not set(accounts).isdisjoint(event.get("forgot", ()))]
        if (whole := Mark.of(events)) and (part := Mark.of(theirs)):
            losses[dataset] = Loss(whole, part)
    return losses


def runs_in(folder: Path) -> list[Path]:
    """The folders of runs in a folder, or the folder itself."""
    return sorted(path.parent for path in folder.rglob(INPUTS) if (path.parent / CONFIG).is_file())


def in_folder(run: Path, losses: Mapping[str, Loss], shards: str, *, dry_run: bool) -> Trained | None:
    """Mark a run if it was trained with the accounts; None where its dataset had none of them.

    Args:
        shards: what to train on.

    Raises:
        InputError: the run is damaged.
    """
    loss = losses.get(_dataset_of(run) or "")
    if loss is None:
        return None
    if not dry_run:
        mark_run(run, loss.all)
    _, _, vectors = read_beginning(run)
    pages = [str(run / page) for page in (REPORT_PAGE, HARM_PAGE) if (run / page).exists()]
    evaluate = f"emojigan evaluate {shlex.quote(str(run))}"
    again = to_train_again(run, shards, vectors, f"{run}-retrained")
    return Trained(str(run), loss.theirs, again, " and ".join(pages) or None, evaluate)


def _dataset_of(run: Path) -> str | None:
    """The identity of the dataset that a run began on; of an earlier version, by its first snapshot."""
    if origin := read_origin(run):
        return origin.dataset
    return next((read_facts(path).dataset for path in steps_in(run / SNAPSHOTS) if is_whole(path)), None)


def in_mlflow(losses: Mapping[str, Loss], shards: str, *, dry_run: bool) -> Iterator[Trained]:
    """Mark the runs and the versions of registered models of MLFLOW_TRACKING_URI that had the accounts."""
    client = mlflow_client()
    experiments = [each.experiment_id for each in every(client.search_experiments)]
    for dataset, loss in losses.items():
        wanted = f"tags.dataset = '{dataset}'"
        for run in every(client.search_runs, experiment_ids=experiments, filter_string=wanted):
            run_id = run.info.run_id
            if not dry_run:
                _mark(loss.all, run.data.tags, partial(client.set_tag, run_id))
            of_run = f"--recipe {PLAIN} {_options(run.data.params)}"
            command = f"emojigan train {shlex.quote(shards)} --vectors FILE --out RUN {of_run}"
            report = "Its report in MLflow, if it has one,"
            evaluate = f"emojigan evaluate RUN   # the folder of {run.info.run_name}"
            yield Trained(
                f"run {run.info.run_name} of MLflow ({run_id})", loss.theirs, command, report, evaluate
            )
        for version in every(client.search_model_versions, filter_string=wanted):
            name = f"models:/{version.name}/{version.version}"
            if not dry_run:
                set_tag = partial(client.set_model_version_tag, version.name, version.version)
                _mark(loss.all, version.tags, set_tag)
            found = client.get_model_version(version.name, version.version)  # a search tells no aliases
            aliases = ", ".join(f"@{alias}" for alias in found.aliases)
            command = f"emojigan register RUN --name {shlex.quote(version.name)}"
            yield Trained(f"{name} ({aliases})" if aliases else name, loss.theirs, command, None, "")


def _mark(mark: Mark, tags: Mapping[str, str], set_tag: Callable[[str, str], object]) -> None:
    """Mark what has these tags already."""
    for key, value in mark_tags(mark.first(read_tag(tags))).items():
        set_tag(key, value)


def _options(params: Mapping[str, str]) -> str:
    """The parameters of a run as options: those that are not the defaults, and all that suit a device."""
    default = Config().flat()
    words = []
    for key, value in params.items():
        if key not in default or key in RunConfig.model_fields:
            continue
        if key not in KEYS and value == str(default[key]):
            continue
        flag = key.replace("_", "-")
        if key == "deny":
            words.append("--deny FILE")  # of the emojis that the parameter names
        elif isinstance(default[key], bool):
            words.append(f"--{'' if value == 'True' else 'no-'}{flag}")
        else:
            words += [f"--{flag}", shlex.quote(value)]
    return " ".join(words)
