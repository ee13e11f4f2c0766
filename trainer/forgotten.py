"""What was forgotten of a dataset since a run began on it: how it is told, and how the run is marked.

events of the manifest since the run's origin ─► Mark ─► forgotten.json of the run, and a tag in MLflow

A mark tells numbers and a day; who was forgotten is named nowhere but in the dataset's own manifest.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from ..datasets.errors import InputError
from ..datasets.store.atomic import telling_where, write_atomic
from .run import FORGOTTEN

TAG = "emojigan.forgotten"  # of a run in MLflow, and of a version of a registered model


@dataclass(frozen=True)
class Mark:
    """How much was forgotten since a run began."""

    date: str  # when it was marked first, as 2031-05-17
    accounts: int
    posts: int
    tuples: int
    train_tuples: int  # those of them that were in the train split: what the run learned from

    @classmethod
    def of(cls, events: Sequence[dict]) -> "Mark | None":
        """That of some events of a manifest's history; None where there are none."""
        if not events:
            return None
        return cls(
            date=datetime.now(UTC).date().isoformat(),
            accounts=sum(len(event.get("forgot", ())) for event in events),
            posts=sum(event.get("posts", 0) for event in events),
            tuples=sum(event.get("tuples", 0) for event in events),
            # Of a version that did not count them, all are taken for it.
            train_tuples=sum(event.get("train", event.get("tuples", 0)) for event in events),
        )

    @classmethod
    def from_json(cls, content: str) -> "Mark":
        """Read what `to_json` wrote. Raises ValueError or TypeError where it is anything else."""
        return cls(**json.loads(content))

    def to_json(self) -> str:
        """The content of forgotten.json, and of the tag."""
        return json.dumps(asdict(self))

    def first(self, earlier: "Mark | None") -> "Mark":
        """This mark, with the day of an earlier one if there is one."""
        return replace(self, date=earlier.date) if earlier else self

    @property
    def told(self) -> str:
        """What a dataset did, in words."""
        return f"lost {self.posts:,} posts of {self.accounts:,} accounts since this run began (forgotten)"

    @property
    def warning(self) -> str:
        """What to know of a model, in words."""
        return f"was trained with {self.train_tuples:,} tuples that are forgotten since {self.date}"


def read_mark(run: Path) -> Mark | None:
    """The mark of a run; None where nothing that it was trained with is known to be forgotten.

    Raises:
        InputError: it is damaged.
    """
    path = run / FORGOTTEN
    try:
        with telling_where(path):
            return Mark.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged. Remove it, and run `emojigan evaluate {run}` again.") from error


def mark_run(run: Path, mark: Mark | None, *, begins: bool = False) -> Mark | None:
    """Mark a run if it was trained with what is forgotten. -> its mark

    Args:
        begins: nothing was trained yet, so a mark that is there is of a run that is no more.
    """
    if begins:
        (run / FORGOTTEN).unlink(missing_ok=True)
    earlier = read_mark(run)
    if mark is None or not mark.train_tuples:
        return earlier
    mark = mark.first(earlier)
    write_atomic(run / FORGOTTEN, mark.to_json() + "\n")
    return mark


def mark_tags(mark: Mark | None) -> dict[str, str]:
    """The same for MLflow."""
    return {TAG: mark.to_json()} if mark and mark.train_tuples else {}


def read_tag(tags: Mapping[str, str]) -> Mark | None:
    """The mark among the tags of a run, or of a version of a registered model."""
    return Mark.from_json(tags[TAG]) if TAG in tags else None
