"""The truth of a made world, which real posts lack: truth.json, beside the posts.

Only an evaluation may read it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..store.atomic import write_atomic
from .reactions import Composed, Reactions
from .world import World, WorldPost

TRUTH = "truth.json"


@dataclass(frozen=True)
class Truth:
    """p(emoji | post), where somebody knows it."""

    groups: Mapping[str, str]  # post → what its image shows
    probabilities: Mapping[str, Mapping[str, float]]  # group → emoji → p
    reactions: Mapping[str, Reactions]  # group → what one person writes; empty where only p is known
    held_out: tuple[str, ...] = ()  # emojis that the reactions have, and no post
    things: Mapping[str, Reactions] = field(default_factory=dict)  # of which groups consist, if they do

    @classmethod
    def of(cls, world: World, posts: Sequence[WorldPost]) -> "Truth":
        """That of a world and its posts."""
        groups = {post.id: post.group for post in posts}
        if world.things:
            return cls._of_things(groups, world.things)
        return cls(groups, world.probabilities, world.reactions, world.held_out)

    @classmethod
    def _of_things(cls, groups: Mapping[str, str], things: Mapping[str, Reactions]) -> "Truth":
        """Of as many pictures as there may be: what is known of each is made when it is asked for."""
        reactions = Composed(things, {*groups.values()})
        return cls(groups, _Tuples(reactions), reactions, things=things)

    @classmethod
    def read(cls, path: Path) -> "Truth":
        """Read the truth of a world. Raises InputError where it is none."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if "things" in content:
                things = _from_json(content["things"])
                pictured = {name for group in content["posts"].values() for name in group.split()}
                if not pictured <= things.keys():
                    raise InputError("a picture has a thing that is not known")
                return cls._of_things(content["posts"], things)
            reactions, held_out = _from_json(content.get("reactions", {})), content.get("held_out", ())
            return cls(content["posts"], content["photographs"], reactions, tuple(held_out))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, InputError) as error:
            raise InputError(
                f"{path} is not the truth of a world; `emojigan world make` writes one."
            ) from error

    def write(self, path: Path, world: World) -> None:
        """Write the file, with the options that the world was made with and all emojis that are in it."""
        of_groups = {"photographs": self.probabilities, "reactions": _to_json(self.reactions)}
        content = {
            "options": world.options,
            "emojis": world.emojis,
            **({"things": _to_json(self.things)} if self.things else of_groups),
            "held_out": self.held_out,
            "posts": self.groups,
        }
        write_atomic(path, json.dumps(content, ensure_ascii=False, indent=1))


class _Tuples(Mapping[str, Mapping[str, float]]):
    """p of a tuple in each group, by its reactions."""

    def __init__(self, reactions: Mapping[str, Reactions]) -> None:
        self._reactions = reactions

    def __getitem__(self, group: str) -> Mapping[str, float]:
        return self._reactions[group].tuples()

    def __iter__(self) -> Iterator[str]:
        return iter(self._reactions)

    def __len__(self) -> int:
        return len(self._reactions)


def _to_json(reactions: Mapping[str, Reactions]) -> dict[str, Any]:
    return {name: each.to_json() for name, each in reactions.items()}


def _from_json(told: Mapping[str, Any]) -> dict[str, Reactions]:
    return {name: Reactions.from_json(each) for name, each in told.items()}


def options_of(path: Path) -> dict[str, Any] | None:
    """The options that a world was made with, by its truth."""
    return json.loads(path.read_text(encoding="utf-8")).get("options")
