"""What a snapshot says of itself, by which the best of a run's snapshots is found.

step-00000400/snapshot.json ─► Facts
"""

import json
import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from ..datasets.errors import InputError
from ..datasets.store.atomic import is_whole, remove_folder, telling_where
from ..datasets.store.trouble import MISSING

FACTS = "snapshot.json"


@dataclass(frozen=True)
class Facts:
    """What a snapshot says of itself; JSON in the folder."""

    step: int
    image_size: int  # pixels
    model: dict  # ModelConfig
    vocabulary: tuple[str, ...]  # canonical emojis, the order of the vectors
    dataset: str  # SHA-256 of the manifest when the training began: all that it saw was in it
    vectors: str  # SHA-256 of the vector file
    scores: dict[str, float]  # on the val split; empty where that was forgotten
    sizes: tuple[float, ...] = ()  # share of reactions with 1, 2, … emojis; empty if it learned from tuples
    readings: int | None = None  # as many as held-out posts support: of an exported one, where that is known

    def to_json(self) -> str:
        """The content of snapshot.json."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=1)


def read_facts(path: Path) -> Facts:
    """What a snapshot says of itself.

    Raises:
        InputError: nothing that can be read.
    """
    try:
        with telling_where(path / FACTS):
            content = json.loads((path / FACTS).read_text(encoding="utf-8"))
        content["vocabulary"], content["sizes"] = (
            tuple(content["vocabulary"]),
            tuple(content.get("sizes", ())),
        )
        return Facts(**content)
    except (*MISSING, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path} is damaged. Remove it, and the best other snapshot is taken.") from error


def best_snapshot(paths: Iterable[Path]) -> Path | None:
    """Of some snapshots, the one with the lowest negative log-likelihood on the val split.

    Those without a score come after all others, and the last of them first.

    Raises:
        InputError: it is damaged; or another is so that its score is not known.
    """
    latest_first = sorted(paths, reverse=True)
    best = min(latest_first, key=lambda path: read_facts(path).scores.get("nll", math.inf), default=None)
    if best and not is_whole(best):
        raise InputError(f"{best} is the best snapshot, and damaged. Remove it, and the best other is taken.")
    return best


def keep_snapshots(paths: Sequence[Path], last: int, checkpoints: Sequence[Path]) -> None:
    """Remove all of some snapshots, in the order of their steps, but the best and the `last` ones.

    Args:
        checkpoints: a training that is killed goes on from the last of them, and loses later snapshots: the
            best of the others is kept, too.
    """
    with suppress(InputError):  # one is damaged: none is removed, and `evaluate` tells of it
        sure = [path for path in paths if checkpoints and path.name <= checkpoints[-1].name]
        for other in {*paths[:-last]} - {best_snapshot(paths), best_snapshot(sure)}:
            other.rename(other.with_name(f".{other.name}.tmp"))  # else it may be left damaged
        for left in paths[-1].parent.glob(".step-*.tmp"):
            remove_folder(left)
