"""What a model says of emojis that somebody is concerned about, and of rare ones, per kind of picture.

snapshot, sensitive emojis ─► find_harm ─► Harm: concerns × kinds ─► Shares
                                  └─► weigh: the same of any q

A kind of picture is a group where the truth of a world is known and has not too many, else a cluster of
like images. All shares are of the same held-out tuples: what people posted and what the model says can be
held side by side.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from ...datasets.emojis.text import canonical, display, is_listed
from ...datasets.emojis.weights import SCHEMES, weights
from ...datasets.errors import InputError
from ..config import Config
from ..inputs import Inputs
from ..model.snapshot import Snapshot
from .baselines.sampled import NUM_LATENTS
from .bootstrap import SURE, Interval, Resamples
from .metrics.metric import Floats, Ids
from .metrics.scene import Scene, spread

RARE = 0.05  # of the training's tuples are of the emojis that are called rare, at most
K = 10.0  # of the exponential scheme that is told of
PICTURES = 3  # of a kind
MOST_KINDS = 40  # that a reviewer can look through
TOGETHER, RARE_ONES = "Sensitive emojis together", "Rare emojis together"


@dataclass(frozen=True)
class Shares:
    """How much of the tuples of one kind of picture is of one concern; all but the count in [0, 1]."""

    count: int  # posted
    posted: float
    true: float | None  # where it is known
    says: float  # the model, the shift of its training's weights undone
    raw: float  # the same with the shift left in
    under: tuple[float, ...]  # expected of trainings with `Harm.schemes`
    excess: Interval  # of what is said, over what is posted

    @property
    def word(self) -> str:
        """What the model says it, beside people, where the interval tells them apart."""
        if self.excess.low > 0:
            return "more"
        return "less" if self.excess.high < 0 else ""


@dataclass(frozen=True)
class Concern:
    """One emoji or several together, and the held-out picture under which the model says them most."""

    label: str
    emojis: tuple[str, ...]
    shares: tuple[Shares, ...]  # of each kind
    most: float  # probability under that picture
    image: np.ndarray  # uint8 [H, W, 3]
    caption: str


@dataclass(frozen=True)
class Kind:
    """Pictures that are alike."""

    tuples: int
    images: tuple[np.ndarray, ...]  # some, uint8 [H, W, 3]


@dataclass(frozen=True)
class Harm:
    """What a reviewer is shown."""

    kinds: tuple[Kind, ...]
    concerns: tuple[Concern, ...]  # the sensitive ones first, all of them together before each
    schemes: tuple[str, ...]  # of weights that the training did not have
    scheme: str  # that it had
    unseen: tuple[str, ...]  # sensitive, but neither known to the model nor posted
    denied_at_build: str | None  # hash of the list
    denied_at_training: tuple[str, ...]

    @property
    def concern(self) -> str:
        """Which sensitive emojis the model says more than people post them, and where; empty for none."""
        (first, *_) = (*self.concerns, None)
        more = [share.word for share in first.shares].count("more") if first else 0
        if first is None or first.label == RARE_ONES or not more:
            return ""
        what = "sensitive emojis" if len(first.emojis) > 1 else display(first.label)
        return f"it says {what} more often than people on {more} of {len(self.kinds)} kinds of pictures"


def find_harm(
    snapshot: Snapshot, config: Config, inputs: Inputs, scene: Scene, q: Floats, sensitive: Collection[str]
) -> Harm:
    """What a snapshot says of sensitive emojis, with or without their variants as the shards have them.

    Args:
        q: what it says of the tuples of the scene, [tuples, S].
    """
    options, settings = inputs.train.manifest.options, config.objective
    keeps = bool(options.get("keep_variants"))
    listed = {found for each in sensitive if (found := canonical(each, keep_variants=keeps))}
    raw = q
    if snapshot.is_weighted:
        shifted = snapshot.distribution(scene.held_out.images, num_samples=NUM_LATENTS, seed=0, raw=True)
        raw = spread(shifted, scene)
    factors = _factors(config, inputs, len(scene.support))
    concerns, unseen = concerns_of(scene, inputs.vocabulary, listed)
    return Harm(
        kinds=_kinds(scene),
        concerns=weigh(scene, q, raw, concerns, factors),
        schemes=tuple(factors),
        scheme=_name(settings.weights, settings.k),
        unseen=unseen,
        denied_at_build=options.get("deny"),
        denied_at_training=config.data.deny,
    )


def concerns_of(
    scene: Scene, vocabulary: Collection[str], sensitive: Collection[str]
) -> tuple[dict[str, list[int]], tuple[str, ...]]:
    """Positions in the support of what is looked at, by a label; and sensitive emojis that nobody says."""
    sayable = {*vocabulary, *scene.held_out.emojis}
    support = {emoji: row for row, emoji in enumerate(scene.support) if emoji in sayable}
    found = {emoji: [row] for emoji, row in support.items() if is_listed(emoji, sensitive)}
    unseen = tuple(sorted(each for each in sensitive if not any(is_listed(emoji, {each}) for emoji in found)))
    together = {TOGETHER: [row for rows in found.values() for row in rows]} if len(found) > 1 else {}
    known = np.array([row for emoji, row in support.items() if emoji in vocabulary])
    rarest = known[np.argsort(scene.shares[known], kind="stable")]
    rare = sorted(rarest[scene.shares[rarest].cumsum() <= RARE].tolist())
    return together | found | ({RARE_ONES: rare} if rare else {}), unseen


def weigh(
    scene: Scene, q: Floats, raw: Floats, concerns: Mapping[str, list[int]], factors: Mapping[str, Floats]
) -> tuple[Concern, ...]:
    """The shares of each concern in each kind of picture.

    An interval is of posts drawn again, or, where that is wider, the exact one of the count alone (Clopper &
    Pearson 1934): what nobody posted stays away in every draw, and is not known to be never posted.

    Args:
        q: with the weights of the training undone, [tuples, S].
        raw: with their shift left in, [tuples, S].
        concerns: positions in the support, by a label.
        factors: weights of the emojis by a scheme, [S]: the optimum of a training with them is q·w / Σ q·w.
    """
    member = np.zeros((len(scene.support), len(concerns)))  # [S, C]
    for column, rows in enumerate(concerns.values()):
        member[rows, column] = 1
    told = {"posted": member[scene.observed], "says": q @ member, "raw": raw @ member}  # [tuples, C] each
    told |= {scheme: q @ (w[:, None] * member) / (q @ w)[:, None] for scheme, w in factors.items()}
    if scene.truth is not None:
        told["true"] = scene.truth @ member
    kinds = _of_kinds(scene, told, [*factors])
    return tuple(
        _concern(scene, label, concerns[label], shares, told["says"][:, column])
        for column, (label, shares) in enumerate(zip(concerns, zip(*kinds, strict=True), strict=True))
    )


def _of_kinds(scene: Scene, told: Mapping[str, Floats], schemes: list[str]) -> Iterator[list[Shares]]:
    """The shares of each concern, for one kind after the other."""
    resamples = Resamples.of(int(scene.post.max()) + 1)
    post = scene.post[scene.held_out.image]
    for rows in _rows_of_kinds(scene):
        mean = {key: values[rows].mean(axis=0).tolist() for key, values in told.items()}  # [C] each
        counts = told["posted"][rows].sum(axis=0).astype(int).tolist()
        drawn = resamples.means((told["says"] - told["posted"])[rows], post[rows])  # [draws, C]
        yield [
            Shares(
                count=count,
                posted=mean["posted"][column],
                true=mean["true"][column] if "true" in mean else None,
                says=mean["says"][column],
                raw=mean["raw"][column],
                under=tuple(mean[scheme][column] for scheme in schemes),
                excess=_excess(Interval.of(drawn[:, column]), mean["says"][column], count, len(rows)),
            )
            for column, count in enumerate(counts)
        ]


def _concern(scene: Scene, label: str, rows: list[int], shares: tuple[Shares, ...], says: Floats) -> Concern:
    most = int(says.argmax())
    image = scene.held_out.image[most]
    return Concern(
        label=label,
        emojis=tuple(scene.support[row] for row in rows),
        shares=shares,
        most=float(says[most]),
        image=_pixels(scene, image),
        caption=f"post {scene.held_out.posts[image]}",
    )


def _excess(drawn: Interval, says: float, count: int, number: int) -> Interval:
    """The wider of the interval of posts drawn again, and that of `count` of `number` tuples."""
    tail = (1 - SURE) / 2
    least = beta.ppf(tail, count, number - count + 1) if count else 0.0
    most = beta.ppf(1 - tail, count + 1, number - count) if count < number else 1.0
    return Interval(min(drawn.low, says - float(most)), max(drawn.high, says - float(least)))


def _factors(config: Config, inputs: Inputs, size: int) -> dict[str, Floats]:
    """Weights [size] by each scheme but the training's own; 1 beyond the vocabulary, which is not said."""
    counts = np.array([inputs.origin.vocabulary[emoji] for emoji in inputs.vocabulary])
    own, found = _name(config.objective.weights, config.objective.k), {}
    for scheme in SCHEMES[1:]:
        if (name := _name(scheme, K)) == own:
            continue
        try:
            weight = weights(scheme, counts, k=K, num_posts=inputs.origin.images)
        except InputError:  # no training can have it here: emojis count more than once a post
            continue
        found[name] = np.concatenate([weight, np.ones(size - len(weight))])
    return found


def _name(scheme: str, k: float) -> str:
    return f"{scheme}, k = {k:g}" if scheme == "exponential" else scheme


def _rows_of_kinds(scene: Scene) -> list[Ids]:
    """The tuples of each kind of picture."""
    groups = scene.groups if scene.groups is not None and len(np.unique(scene.groups)) <= MOST_KINDS else None
    kind = scene.clusters if groups is None else groups
    assert kind is not None
    return [np.flatnonzero(kind == each) for each in np.unique(kind)]


def _kinds(scene: Scene) -> tuple[Kind, ...]:
    kinds = []
    for rows in _rows_of_kinds(scene):
        images = np.unique(scene.held_out.image[rows])
        some = images[np.unique(np.linspace(0, len(images) - 1, PICTURES).astype(int))]
        kinds.append(Kind(len(rows), tuple(_pixels(scene, image) for image in some)))
    return tuple(kinds)


def _pixels(scene: Scene, image: int) -> np.ndarray:
    return scene.held_out.images[image].permute(1, 2, 0).numpy()
