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
from .reactions import Reactions
from .world import World, WorldPost

TRUTH = "truth.json"


@dataclass(frozen=True)
class Truth:
    """p(emoji | post), where somebody knows it."""

    groups: Mapping[str, str]  # post → what its image shows
    probabilities: Mapping[str, Mapping[str, float]]  # group → emoji → p
    reactions: Mapping[str, Reactions]  # group → what one person writes; empty where only p is known
    held_out: tuple[str, ...] = ()  # emojis that the reactions have, and no post

    @classmethod
    def of(cls, world: World, posts: Sequence[WorldPost]) -> "Truth":
        """That of a world and its posts."""
        groups = {post.id: post.group for post in posts}
        return cls(groups, world.probabilities, world.reactions, world.held_out)

    @classmethod
    def read(cls, path: Path) -> "Truth":
        """Read the truth of a world. Raises InputError where it is none."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            told = content.get("reactions", {})
            reactions = {group: Reactions.from_json(each) for group, each in told.items()}
            held_out = tuple(content.get("held_out", ()))
            return cls(content["posts"], content["photographs"], reactions, held_out)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, InputError) as error:
            raise InputError(
                f"{path} is not the truth of a world; `emojigan world make` writes one."
            ) from error

    def write(self, path: Path, world: World) -> None:
        """Write the file, with the options that the world was made with and all emojis that are in it."""
        content = {
            "options": world.options,
            "emojis": world.emojis,
            "photographs": self.probabilities,
            "reactions": {group: each.to_json() for group, each in self.reactions.items()},
            "held_out": self.held_out,
            "posts": self.groups,
        }
        write_atomic(path, json.dumps(content, ensure_ascii=False, indent=1))


def options_of(path: Path) -> dict[str, Any] | None:
    """The options that a world was made with, by its truth."""
    return json.loads(path.read_text(encoding="utf-8")).get("options")
