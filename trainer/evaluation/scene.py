"""What models are judged on: held-out tuples, with the truth beside them where it is known.

    test split + vectors (+ Truth) ─► set_scene ─► Scene: each row is one tuple

The support is all that a model can say, people posted, or the truth holds: emojis too rare for the
vocabulary count against every model.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...datasets.emojis.vectors.word2vec import load_vectors, match
from ...datasets.errors import InputError
from ...datasets.stream.held_out import HeldOut, read_split
from ...datasets.worlds.truth import Truth
from ..inputs import Inputs

MAX_IMAGES = 5000


@dataclass(frozen=True)
class Scene:
    """The held-out tuples, and what to measure them with. S emojis in the support."""

    held_out: HeldOut
    support: tuple[str, ...]
    observed: np.ndarray  # int64 [tuples], position in the support
    distance: np.ndarray  # float64 [S, S], between unit vectors
    truth: np.ndarray | None  # float64 [tuples, S]
    groups: np.ndarray | None  # [tuples]


def set_scene(inputs: Inputs, vector_file: Path, truth: Truth | None) -> Scene:
    """Read the test split, and find the support, the ground distance and the truth of its tuples."""
    split = replace(inputs.train, name="test")
    held_out = read_split(split, MAX_IMAGES)
    true = {emoji for p in truth.probabilities.values() for emoji in p} if truth else set()
    rare = sorted((true | set(held_out.emojis)) - set(inputs.vocabulary))
    support = (*inputs.vocabulary, *rare)
    position = {emoji: number for number, emoji in enumerate(support)}
    observed = np.array([position[emoji] for emoji in held_out.emojis], np.int64)
    p = groups = None
    if truth:
        posts = [held_out.posts[row] for row in held_out.image]
        if missing := next((post for post in posts if post not in truth.groups), None):
            raise InputError(f"The truth does not know post {missing}. Give the truth.json of these posts.")
        names, groups = np.unique([truth.groups[post] for post in posts], return_inverse=True)
        table = np.zeros((len(names), len(support)))  # [groups, S]
        for row, name in enumerate(names):
            for emoji, probability in truth.probabilities[name].items():
                table[row, position[emoji]] = probability
        p = table[groups]
    return Scene(held_out, support, observed, _distance(vector_file, support), p, groups)


def _distance(vector_file: Path, support: tuple[str, ...]) -> np.ndarray:
    """|E_v − E_w| between unit vectors, [S, S]; an emoji without a vector stands at the origin."""
    rows, missing = match(load_vectors(vector_file), support)
    unit = np.zeros((len(support), rows.shape[1]))
    unit[[emoji not in set(missing) for emoji in support]] = rows / np.linalg.norm(
        rows, axis=1, keepdims=True
    )
    square = (unit**2).sum(axis=1)
    return np.sqrt(np.maximum(square[:, None] + square - 2 * unit @ unit.T, 0))


def tuples_of_some(scene: Scene, number: int) -> np.ndarray:
    """A tuple of each of some images, int64 [number at most]; one of each group, as far as there is room."""
    _, first = np.unique(scene.held_out.image, return_index=True)
    if scene.groups is not None:
        _, one_each = np.unique(scene.groups[first], return_index=True)
        first = first[one_each]
    return first[np.linspace(0, len(first) - 1, min(number, len(first))).astype(int)]


def spread(q: np.ndarray, vocabulary: tuple[str, ...], scene: Scene) -> np.ndarray:
    """[images, V] → [tuples, S]: nothing on the emojis that the model cannot say."""
    rest = np.zeros((len(q), len(scene.support) - len(vocabulary)))
    return np.concatenate([q, rest], axis=1)[scene.held_out.image]
