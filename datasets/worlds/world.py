"""What a world is made of, of whatever kind."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from .reactions import Reactions


@dataclass(frozen=True)
class WorldPost:
    """A post before its picture is taken; only the truth may tell what that shows."""

    id: str
    account: str
    text: str
    emojis: tuple[str, ...]
    group: str  # what its picture shows


@dataclass(frozen=True)
class World:
    """Posts and the truth about them."""

    options: Mapping[str, Any]  # that the same world is made with again
    posts: Iterable[WorldPost]
    shoot: Callable[[WorldPost], Image.Image]  # the picture of a post, RGB; by the post alone
    emojis: tuple[str, ...]  # the vocabulary
    probabilities: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # group → emoji → p
    reactions: Mapping[str, Reactions] = field(default_factory=dict)  # group → what one person writes
    # Thing → what one person writes under it alone, where both of the above follow from what is in a picture.
    things: Mapping[str, Reactions] = field(default_factory=dict)
    held_out: tuple[str, ...] = ()  # emojis that would be said, and that no post has
    quality: int = 85  # of the JPEG files
    check: Callable[[], None] = lambda: None  # raises InputError where its pictures cannot be taken
