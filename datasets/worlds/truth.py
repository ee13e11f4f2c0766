"""The truth of a made world, which real posts lack: truth.json, beside the posts.

Only an evaluation may read it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..store.atomic import write_atomic

TRUTH = "truth.json"


@dataclass(frozen=True)
class Truth:
    """p(emoji | post), where somebody knows it."""

    groups: Mapping[str, str]  # post → what its image shows
    probabilities: Mapping[str, Mapping[str, float]]  # group → emoji → p

    @classmethod
    def read(cls, path: Path) -> "Truth":
        """Read the truth of a world. Raises InputError where it is none."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return cls(content["posts"], content["photographs"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} is not the truth of a world; `emojigan world make` writes one."
            ) from error

    def write(self, path: Path, options: Mapping[str, Any], emojis: Sequence[str]) -> None:
        """Write the file, with the options that the world was made with and all emojis that are in it."""
        content = {
            "options": options,
            "emojis": emojis,
            "photographs": self.probabilities,
            "posts": self.groups,
        }
        write_atomic(path, json.dumps(content, ensure_ascii=False, indent=1))


def options_of(path: Path) -> dict[str, Any] | None:
    """The options that a world was made with, by its truth."""
    return json.loads(path.read_text(encoding="utf-8")).get("options")
