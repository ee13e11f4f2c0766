"""What models are judged on: held-out tuples and reactions, with the truth beside them where it is known.

    test split + vectors (+ Truth) ─► set_scene ─► Scene: each row is one tuple

The support is all that a model can say, people posted, or the truth holds: emojis too rare for the
vocabulary count against every model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from sklearn.cluster import KMeans

from ....datasets.emojis.vectors.word2vec import load_vectors, match, unit
from ....datasets.errors import InputError
from ....datasets.stream.held_out import HeldOut, read_split
from ....datasets.worlds.reactions import Reactions
from ....datasets.worlds.truth import Truth
from ...inputs import Inputs
from .metric import Said, distributions
from .reactions import Answers, Pairs, Posted, moods

MAX_IMAGES = 5000
PAIR_IMAGES = 500  # of which pairs are compared with the truth
CLUSTER, MAX_CLUSTERS = 50, 20  # images of a cluster, at least on average; and clusters


@dataclass(frozen=True)
class Scene:
    """The held-out tuples, and what to measure them with. S emojis in the support."""

    held_out: HeldOut
    support: tuple[str, ...]
    observed: np.ndarray  # int64 [tuples], position in the support
    vectors: np.ndarray  # float64 [S, d], of length 1; an emoji without a vector stands at the origin
    shares: np.ndarray  # float64 [S], how often each is posted in the train split; 0 beyond the vocabulary
    truth: np.ndarray | None  # float64 [tuples, S]
    groups: np.ndarray | None  # [tuples]
    reactions: Mapping[int, Reactions] = field(default_factory=dict)  # of each group, where they are known
    features: np.ndarray | None = None  # float64 [images, f], alike for all models that are judged

    @cached_property
    def posted(self) -> Posted:
        """The reactions."""
        return Posted.of(self.held_out.image, self.observed, self.held_out.reaction)

    @cached_property
    def first_tuple(self) -> np.ndarray:
        """Of each image, int64 [images]; every image has one."""
        return np.unique(self.held_out.image, return_index=True)[1]

    @cached_property
    def post(self) -> np.ndarray:
        """Of each image, the post that first had it: what an interval draws together, int64 [images]."""
        return np.unique(self.held_out.posts, return_inverse=True)[1]

    @cached_property
    def has_pairs(self) -> bool:
        """Whether some reaction has two emojis: else there is nothing whole to measure."""
        return bool((self.posted.count > 1).any())

    @cached_property
    def distance(self) -> np.ndarray:
        """|E_v − E_w|, float64 [S, S]."""
        square = (self.vectors**2).sum(axis=1)
        return np.sqrt(np.maximum(square[:, None] + square - 2 * self.vectors @ self.vectors.T, 0))

    @cached_property
    def clusters(self) -> np.ndarray | None:
        """Of each tuple, the cluster of its image by its features; none without features."""
        if self.features is None:
            return None
        number = max(1, min(MAX_CLUSTERS, len(self.features) // CLUSTER))
        return KMeans(number, random_state=0).fit_predict(self.features)[self.held_out.image]

    def said(self, q: np.ndarray) -> Said:
        """What a model said, float64 [tuples, S], beside all that it is compared with."""
        return Said(
            q=distributions("q", q),
            observed=self.observed,
            vectors=self.vectors,
            distance=self.distance,
            shares=self.shares,
            truth=None if self.truth is None else distributions("truth", self.truth),
            groups=self.groups,
            features=None if self.features is None else self.features[self.held_out.image],
            clusters=self.clusters,
        )

    def pairs_of(self, image: int) -> Pairs | None:
        """The true pairs under an image, of some hundred images where they are known."""
        return self._pairs[self._group_of(image)] if self.reactions and image in self._compared else None

    def moods_of(self, images: range) -> Answers:
        """What the truth would answer, were each mood a latent. The reactions must be known."""
        most = max(len(each.moods) for each in self.reactions.values())
        of_each = [moods(self.reactions[self._group_of(image)], self.support, most) for image in images]
        q, share = (np.concatenate(parts) for parts in ([a.q for a in of_each], [a.share for a in of_each]))
        return Answers(q, share)

    def _group_of(self, image: int) -> int:
        assert self.groups is not None
        return int(self.groups[self.first_tuple[image]])

    @cached_property
    def _pairs(self) -> dict[int, Pairs | None]:
        groups = {self._group_of(image) for image in self._compared}
        return {group: Pairs.of(self.reactions[group], self.support) for group in groups}

    @cached_property
    def _compared(self) -> set[int]:
        number = len(self.held_out.images)
        return {*np.linspace(0, number - 1, min(PAIR_IMAGES, number)).astype(int).tolist()}


def set_scene(inputs: Inputs, vector_file: Path, truth: Truth | None) -> Scene:
    """Read the test split, and find the support, the ground distance and the truth of its tuples."""
    split = replace(inputs.train, name="test")
    held_out = read_split(split, MAX_IMAGES)
    names, groups = _groups_of(held_out, truth) if truth else ((), None)
    probabilities = [truth.probabilities[name] for name in names] if truth else []
    true = {emoji for p in probabilities for emoji in p}
    rare = sorted((true | set(held_out.emojis)) - set(inputs.vocabulary))
    support = (*inputs.vocabulary, *rare)
    position = {emoji: number for number, emoji in enumerate(support)}
    observed = np.array([position[emoji] for emoji in held_out.emojis], np.int64)
    p = None
    reactions: dict[int, Reactions] = {}
    if truth:
        table = np.zeros((len(names), len(support)))  # [groups, S]
        for row, of_group in enumerate(probabilities):
            for emoji, probability in of_group.items():
                table[row, position[emoji]] = probability
        p = table[groups]
        if set(names) <= truth.reactions.keys():
            said = [truth.reactions[name].without(truth.held_out) for name in names]
            reactions = dict(enumerate(said))
    return Scene(
        held_out,
        support,
        observed,
        vectors=_unit_vectors(vector_file, support),
        shares=_shares(inputs, support),
        truth=p,
        groups=groups,
        reactions=reactions,
    )


def _groups_of(held_out: HeldOut, truth: Truth) -> tuple[list[str], np.ndarray]:
    """The groups of the held-out pictures, and of each tuple which it is, int64 [tuples]."""
    posts = [held_out.posts[row] for row in held_out.image]
    if missing := next((post for post in posts if post not in truth.groups), None):
        raise InputError(f"The truth does not know post {missing}. Give the truth.json of these posts.")
    names, groups = np.unique([truth.groups[post] for post in posts], return_inverse=True)
    return names.tolist(), groups


def _shares(inputs: Inputs, support: tuple[str, ...]) -> np.ndarray:
    """Of the emojis of the vocabulary in the train split, float64 [S]; 0 beyond it."""
    posted, known = inputs.train.manifest.vocabulary, {*inputs.vocabulary}
    counts = np.array([posted.get(emoji, 0) if emoji in known else 0 for emoji in support], np.float64)
    return counts / counts.sum()


def _unit_vectors(vector_file: Path, support: tuple[str, ...]) -> np.ndarray:
    """[S, d], turned into the space that they span: what is asked of them stays, covariances are small."""
    rows, missing = match(load_vectors(vector_file), support)
    basis, lengths, _ = np.linalg.svd(unit(rows), full_matrices=False)
    found = np.zeros((len(support), len(lengths)))
    found[[emoji not in {*missing} for emoji in support]] = basis * lengths
    return found


def tuples_of_some(scene: Scene, number: int) -> np.ndarray:
    """A tuple of each of some images, int64 [number at most]; one of each group, as far as there is room."""
    first = scene.first_tuple
    if scene.groups is not None:
        _, one_each = np.unique(scene.groups[first], return_index=True)
        first = first[one_each]
    return first[np.linspace(0, len(first) - 1, min(number, len(first))).astype(int)]


def spread(q: np.ndarray, scene: Scene) -> np.ndarray:
    """[images, V] → [tuples, S]: nothing on the emojis that the model cannot say."""
    rest = np.zeros((len(q), len(scene.support) - q.shape[1]))
    return np.concatenate([q, rest], axis=1)[scene.held_out.image]
