"""What a registered model is in MLflow: versions, one of which is the champion.

version ─► fetched, its digest compared ─► asked ─► tag of when and why ─► alias champion

A version's tags:
  emojigan.snapshot        SHA-256 of the SHA256SUMS of its snapshot: what the version is
  dataset, vectors         SHA-256 of the manifest when its training began, and of the vector file
  reaction_nll, nll, tv    scores with their intervals; and what else lists and pages tell: card.py
  emojigan.gate            what the gate said when it was registered
  emojigan.champion TIME   it became champion then: by the gate, by hand or by a rollback, and why
  emojigan.archived        when it was put away, and why
  emojigan.forgotten       what it was trained with and is forgotten since: forgotten.py

Who was champion is told by these tags, so that a rollback knows who was it before. The alias alone counts for
who is it now: where somebody moved it otherwise, or a process was killed between the two calls, the tags are
read so that they agree with it.
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np

from ...datasets.errors import InputError
from ...datasets.shards.encoding import encode_jpeg
from ..tracking.server import every, mlflow_client
from .load import SNAPSHOT_TAG, finding

CHAMPION = "champion"
GATE_TAG = "emojigan.gate"
BECAME = "emojigan.champion "  # and the time
ARCHIVED_TAG = "emojigan.archived"
BY_ROLLBACK = "rollback from version "
LISTED = ("reaction_nll", "nll", "tv")  # scores that lists show

State = Literal["champion", "challenger", "former champion", "archived"]


@dataclass(frozen=True)
class Version:
    """A version of a registered model."""

    name: str
    number: int
    aliases: tuple[str, ...]
    registered: str  # as 2031-05-17T09:30:00Z
    run_id: str
    tags: Mapping[str, str]
    card: str

    @property
    def address(self) -> str:
        """By which MLflow and `emojigan predict` know it."""
        return f"models:/{self.name}/{self.number}"

    @property
    def state(self) -> State:
        """What it is by now."""
        if CHAMPION in self.aliases:
            return "champion"
        if ARCHIVED_TAG in self.tags:
            return "archived"
        return "former champion" if self.became else "challenger"

    @property
    def became(self) -> dict[str, str]:
        """When it became champion, and how."""
        return {key.removeprefix(BECAME): how for key, how in self.tags.items() if key.startswith(BECAME)}

    @property
    def scores(self) -> dict[str, str]:
        """Those that are listed, as text with their intervals."""
        return {key: self.tags[key] for key in LISTED if key in self.tags}

    def to_json(self) -> dict[str, Any]:
        """For programs: a score as numbers, with its interval where it has one."""
        scores = {}
        for key, told in self.scores.items():
            numbers = (float(each.strip("[],")) for each in told.split())
            scores[key] = dict(zip(("score", "low", "high"), numbers, strict=False))
        return {**asdict(self), "state": self.state, "scores": scores, "became": self.became}


def versions_of(name: str | None = None) -> list[Version]:
    """The versions of a registered model, or of all that EmojiGAN made, the first first."""
    client = mlflow_client()
    wanted = {"filter_string": f"name = '{name}'"} if name else {}
    found = [each for each in every(client.search_model_versions, **wanted) if SNAPSHOT_TAG in each.tags]
    aliases = {each: client.get_registered_model(each).aliases for each in {each.name for each in found}}
    versions = [
        Version(
            name=each.name,
            number=int(each.version),
            aliases=_names_of(each, aliases[each.name]),
            registered=_time(each.creation_timestamp / 1000, "seconds"),
            run_id=each.run_id or "",
            tags=dict(each.tags),
            card=each.description or "",
        )
        for each in found
    ]
    return sorted(versions, key=lambda each: (each.name, each.number))


def _names_of(version: Any, aliases: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(sorted(alias for alias, number in aliases.items() if str(number) == str(version.version)))


def known_versions(name: str | None = None) -> list[Version]:
    """The same. Raises InputError if there is none."""
    if found := versions_of(name):
        return found
    raise InputError(
        f"There is no registered model{f' {name}' if name else ''} of EmojiGAN here. `emojigan register RUN` "
        "makes one."
    )


def find(address: str) -> Version:
    """A version by its address: NAME/3 or NAME@champion, with or without models:/ before it.

    Raises:
        InputError: it is none, or there is no such version.
    """
    text = address.removeprefix("models:/")
    name, _, wanted = text.rpartition("@" if "@" in text else "/")
    if not name:
        raise InputError(f"{address}: say which version, as in {text}/1 or {text}@{CHAMPION}.")
    for version in known_versions(name):
        if wanted in (str(version.number), *version.aliases):
            return version
    raise InputError(f"There is no {address}. `emojigan models list {name}` tells what there is.")


def champion_among(versions: list[Version]) -> Version | None:
    """The one that the alias names."""
    return next((each for each in versions if CHAMPION in each.aliases), None)


def promote(address: str, reason: str) -> Version:
    """Make a version the champion by hand, whatever it scores; it must be whole. -> the version

    Raises:
        InputError: it is champion already, or archived, or cannot be loaded.
    """
    version = find(address)
    if version.state == "champion":
        raise InputError(f"{version.address} is the champion already.")
    try_out(version)
    make_champion(version, f"by hand: {reason}")
    return version


def rollback(name: str, reason: str) -> tuple[Version, Version]:
    """Make the version the champion that was it before the present one. -> both, the new one first

    Raises:
        InputError: there is none, or it cannot be loaded.
    """
    versions = known_versions(name)
    champion, reigned = champion_among(versions), _reigned_before(versions)
    by_number = {each.number: each for each in versions if each.state != "archived"}
    before = [by_number[number] for number in reigned if number in by_number]
    if champion is None or not before:
        raise InputError(
            f"{name} has no version that was champion before. `emojigan models promote {name}/NUMBER` makes "
            "one the champion."
        )
    try_out(before[-1])
    make_champion(before[-1], f"{BY_ROLLBACK}{champion.number}: {reason}")
    return before[-1], champion


def archive(address: str, reason: str) -> Version:
    """Put a version away: it is not listed, and does not become champion. -> the version

    Raises:
        InputError: an alias names it.
    """
    version = find(address)
    if version.aliases:
        names = " and ".join(f"@{each}" for each in version.aliases)
        raise InputError(f"{version.address} is {names}: make another version that first.")
    told = f"{_time(datetime.now(UTC).timestamp(), 'seconds')}: {reason}"
    mlflow_client().set_model_version_tag(version.name, str(version.number), ARCHIVED_TAG, told)
    return version


def try_out(version: Version) -> None:
    """Refuse to make a version the champion that is not whole, or does not answer.

    Raises:
        InputError: it is archived, or is not what was registered, or does not answer.
    """
    if version.state == "archived":
        raise InputError(
            f"{version.address} is archived ({version.tags[ARCHIVED_TAG]}). Remove its tag {ARCHIVED_TAG} in "
            "MLflow first."
        )
    with finding(version.address):
        _ask(version)


def make_champion(version: Version, how: str) -> None:
    """Move the alias onto a version that was tried out.

    Args:
        how: it comes to that, and why.
    """
    client, number = mlflow_client(), str(version.number)
    became = f"{BECAME}{_time(datetime.now(UTC).timestamp(), 'microseconds')}"
    client.set_model_version_tag(version.name, number, became, how)
    client.set_registered_model_alias(version.name, CHAMPION, number)


def example() -> Any:
    """A grey photograph: MLflow tries a model on it once, and shows how to ask."""
    import pandas

    return pandas.DataFrame({"image": [encode_jpeg(np.full((64, 64, 3), 128, np.uint8))]})


def _ask(version: Version) -> None:
    """Refuse what does not answer as a distribution does."""
    import mlflow

    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    logging.getLogger("mlflow.pyfunc").setLevel(logging.ERROR)  # else it logs advice for authors of models
    try:
        (answer,) = mlflow.pyfunc.load_model(version.address).predict(example(), {"n_samples": 8})
    except Exception as error:  # the code of a model may raise anything
        told = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{version.address} does not answer, and becomes no champion: {told}") from error
    p = [row["p"] for row in answer]
    if not (p and np.isfinite(p).all() and 0 < sum(p) < 1.001):
        raise InputError(f"{version.address} does not answer with a distribution, and becomes no champion.")


def _reigned_before(versions: list[Version]) -> list[int]:
    """Who was champion before the present one: the last made way for it, each other for the next of them."""
    events = sorted((time, each.number, how) for each in versions for time, how in each.became.items())
    steps = [(number, how.startswith(BY_ROLLBACK)) for _, number, how in events]
    if champion := champion_among(versions):
        steps.append((champion.number, True))
    reigned: list[int] = []
    for number, back in steps:
        if back and number in reigned:
            del reigned[len(reigned) - reigned[::-1].index(number) :]
        elif reigned[-1:] != [number]:
            reigned.append(number)
    return reigned[:-1]


def _time(seconds: float, precision: str) -> str:
    told = datetime.fromtimestamp(seconds, UTC).isoformat(timespec=precision)
    return told.replace("+00:00", "Z")
