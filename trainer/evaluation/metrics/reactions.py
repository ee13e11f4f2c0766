"""How well a model knows what one person writes under an image, whole.

Posted, Answers (q of K latents) ─► likelihoods, second ─► Whole ─► Metric.of ─► values, by reaction or image

Everything is float64. A model answers with distributions over V emojis, one for each of K latents; one
without latents, such as a classifier, has K = 1. Under one latent the emojis of a reaction are independent
draws, but what was said is not said again: this every model is told, by leaving those emojis out of its
answer. Without that, −ln p of a reaction would be −ln Σ_k share_k Π_i q_k(e_i), and who knows a mood well
would pay for all the times that it would have said an emoji twice.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import entr, softmax

from ....datasets.worlds.reactions import Mood, Reactions
from .metric import Floats, Ids, Metric, values
from .proper_scores import UNSEEN


@dataclass(frozen=True)
class Posted:
    """Reactions under n images, in the order of the images."""

    image: Ids  # [reactions], ascending row of the image
    emoji: Ids  # [reactions, most], distinct ids below V in the order of the post; −1 after the last

    @classmethod
    def of(cls, image: Ids, emoji: Ids, reaction: Ids) -> "Posted":
        """From tuples [tuples], those of a reaction together, as HeldOut has them.

        An emoji that a reaction has twice counts once, where it came first.
        """
        once: dict[int, dict[int, None]] = {}
        for number, each in zip(reaction.tolist(), emoji.tolist(), strict=True):
            once.setdefault(number, {})[each] = None
        table = np.full((len(once), max(map(len, once.values()), default=0)), -1)
        for row, said in enumerate(once.values()):
            table[row, : len(said)] = [*said]
        _, first = np.unique(reaction, return_index=True)
        return cls(image[first], table)

    @cached_property
    def count(self) -> Ids:
        """Emojis of each reaction, [reactions]."""
        return (self.emoji >= 0).sum(1)

    def under(self, first: int, last: int) -> "Posted":
        """The reactions under some images, which become 0, 1, …"""
        start, end = np.searchsorted(self.image, [first, last])
        return Posted(self.image[start:end] - first, self.emoji[start:end])


@dataclass(frozen=True)
class Answers:
    """What a model says of n images under each of K latents."""

    q: Floats  # [n, K, V]
    share: Floats  # [n, K], of each latent; sums to 1

    @classmethod
    def equal(cls, q: np.ndarray) -> "Answers":
        """Of latents of equal share."""
        return cls(np.asarray(q, np.float64), np.full(q.shape[:2], 1 / q.shape[1]))

    @property
    def marginal(self) -> "Answers":
        """The same model without its latents: K = 1."""
        return Answers(np.einsum("nk,nkv->nv", self.share, self.q)[:, None], np.ones((len(self.q), 1)))

    def of_all(self, num_emojis: int) -> "Answers":
        """Over `num_emojis` emojis, of which the first V are the model's."""
        more = np.zeros((*self.q.shape[:2], num_emojis - self.q.shape[2]))
        return Answers(np.concatenate([self.q, more], axis=2), self.share)

    def saying_all(self, num_emojis: int) -> "Answers":
        """The same, and none is impossible.

        As for the NLL of tuples, a share UNSEEN of each latent's probability is spread evenly.
        """
        q = self.of_all(num_emojis).q
        return Answers((1 - UNSEEN) * q + UNSEEN / num_emojis, self.share)


def likelihoods(answers: Answers, posted: Posted) -> Floats:
    """−ln p(e_i | y, e_1 … e_i−1) of each emoji of each reaction, in nats; 0 after the last.

        p(e | y, said) = Σ_k w_k q_k(e) / (1 − Σ_{s in said} Σ_k w_k q_k(s))
        w_k ∝ share_k Π_{s in said} q_k(s)

    A mixture's prediction from what it saw (Bayes' rule), without what was said. The sum over a reaction is
    the surprise at all of it: over all orders of all sets of as many emojis, p sums to 1.

    Returns:
        [reactions, most]
    """
    there = posted.emoji >= 0
    q = answers.q[posted.image[:, None], :, posted.emoji]  # [reactions, most, K]
    q = np.where(there[..., None], q, 1.0)  # does not change what is before it
    with np.errstate(divide="ignore"):  # a latent of share 0
        prior = np.log(answers.share[posted.image])[:, None]
    so_far = np.cumsum(np.log(q), axis=1) - np.log(q)
    posterior = softmax(prior + so_far, axis=-1)
    said = np.cumsum(q, axis=1) - q
    p = (posterior * q).sum(-1) / (1 - (posterior * said).sum(-1))
    return np.where(there, -np.log(np.where(there, p, 1.0)), 0.0)


def second(answers: Answers, posted: Posted) -> Floats:
    """p(e | y, e_1) of every emoji after the first of each reaction, up to a factor; 0 for the first.

    Returns:
        [reactions, V]
    """
    found = np.empty((len(posted.image), answers.q.shape[2]))
    for row, (image, first) in enumerate(zip(posted.image, posted.emoji[:, 0], strict=True)):
        weight = answers.share[image] * answers.q[image, :, first]
        found[row] = weight @ answers.q[image]
        found[row, first] = 0
    return found


def latent_information(answers: Answers) -> Floats:
    """I(z; e | y) = H(Σ_k share_k q_k) − Σ_k share_k H(q_k), in nats, in [0, ln K]. -> [n]

    The mutual information of latent and emoji (Cover & Thomas 2006, section 2.4): 0 where z is ignored.
    """
    of_each = entr(answers.q).sum(-1)  # [n, K]
    return entr(answers.marginal.q[:, 0]).sum(-1) - (answers.share * of_each).sum(-1)


@dataclass(frozen=True)
class Pairs:
    """The true probability of a pair of emojis of a reaction that has two, under one image."""

    emoji: Ids  # [E], those that may be said
    p: Floats  # [E, E], symmetric, 0 on the diagonal; sums to 1

    @classmethod
    def of(cls, reactions: Reactions, support: Sequence[str]) -> "Pairs | None":
        """None where nobody writes two."""
        position = {emoji: number for number, emoji in enumerate(support)}
        p = reactions.pairs(reactions.emojis)
        return cls(np.array([position[emoji] for emoji in reactions.emojis]), p) if p.any() else None


def pair_tv(q: Floats, share: Floats, pairs: Pairs) -> float:
    """½ Σ |P(e₁, e₂ | y) − Q(e₁, e₂ | y)|, in [0, 1], of one image.

    Q = Σ_k share_k q_k q_kᵀ, the chance of a pair of draws, given that the two differ: its diagonal is left
    out and the rest scaled to 1, for P is of distinct emojis. What Q has on pairs that P has not comes as one
    number, so that no [V, V] is made.

    Args:
        q: [K, V], of each latent.
        share: [K], of the latents.
    """
    here = q[:, pairs.emoji]  # [K, E]
    found = np.einsum("k,kv,kw->vw", share, here, here, optimize=True)
    np.fill_diagonal(found, 0)
    differ = (share * (q.sum(1) ** 2 - np.square(q).sum(1))).sum()
    found /= differ or 1  # a model of one emoji has no pair at all
    return float((np.abs(pairs.p - found).sum() + 1 - found.sum()) / 2)


def moods(reactions: Reactions, support: Sequence[str], most: int) -> Answers:
    """The truth as a model would answer: each mood is a latent, and says the emojis of a tuple in that mood.

    That, and not the chances of a draw, is what a model is best at: who draws an emoji twice writes it once.

    Args:
        most: latents; those that are no mood have share 0.

    Returns:
        Of one image.
    """
    position = {emoji: number for number, emoji in enumerate(support)}
    share, q = np.zeros((1, most)), np.full((1, most, len(support)), 1 / len(support))
    for number, mood in enumerate(reactions.moods):
        share[0, number] = mood.share
        q[0, number] = 0
        for emoji, p in Reactions((Mood(1.0, mood.p),), reactions.draws).tuples().items():
            q[0, number, position[emoji]] = p
    return Answers(q, share)


@dataclass(frozen=True)
class Whole:
    """What a model says of the reactions under n images."""

    posted: Posted
    nll: Floats  # [reactions, most], `likelihoods` of the model
    independent: Floats  # [reactions, most], those of its marginals
    likely: Floats  # [reactions, V], what follows the first emoji, as `second` gives it
    answers: Answers | None = None  # of a model that has them
    pairs: Sequence[Pairs | None] = ()  # the true ones of each image; None where they are not looked at

    @cached_property
    def rest(self) -> Floats:
        """Emojis behind the first of each reaction, [reactions]; nan where there is none."""
        return np.where(self.posted.count > 1, self.posted.count - 1, np.nan)


def _second_among(whole: Whole, top: int) -> Floats | None:
    """Whether the second emoji is among the likeliest to follow; of equals the first count as likelier."""
    if whole.posted.emoji.shape[1] < 2:
        return None
    likely, next_one = whole.likely, whole.posted.emoji[:, 1]
    chance = likely[np.arange(len(likely)), next_one][:, None]
    ahead = (likely > chance) | ((likely == chance) & (np.arange(likely.shape[1]) < next_one[:, None]))
    return np.where(np.isnan(whole.rest), np.nan, ahead.sum(1) < top)


def _pair_tv(whole: Whole) -> Floats | None:
    if whole.answers is None:
        return None
    found = np.full(len(whole.answers.q), np.nan)
    for row, (q, share, pairs) in enumerate(
        zip(whole.answers.q, whole.answers.share, whole.pairs, strict=True)
    ):
        if pairs:
            found[row] = pair_tv(q, share, pairs)
    return found


def _latent_information(whole: Whole) -> Floats | None:
    if whole.answers is None or whole.answers.q.shape[1] == 1:
        return None
    return latent_information(whole.answers)


REACTION_METRICS: tuple[Metric[Whole], ...] = (
    Metric(
        "reaction_nll",
        "NLL of a reaction",
        "lower",
        "Negative log-likelihood: surprise, in nats, at all that one person wrote under an image, emoji "
        "after emoji; 0.1 % is set aside for emojis never seen.",
        lambda whole: whole.nll.sum(1),
        rows="reaction",
    ),
    Metric(
        "reaction_gain",
        "Gain over independence",
        "higher",
        "How much less that is, in nats, than if the model took the emojis of a reaction as independent.",
        lambda whole: whole.independent.sum(1) - whole.nll.sum(1),
        rows="reaction",
    ),
    Metric(
        "completion_nll",
        "NLL of the rest",
        "lower",
        "Surprise at what follows the first emoji of a reaction, in nats per emoji.",
        lambda whole: whole.nll[:, 1:].sum(1) / whole.rest,
        rows="reaction",
    ),
    Metric(
        "completion_top1",
        "Second emoji right",
        "higher",
        "How often the second emoji is what the first makes likeliest.",
        lambda whole: _second_among(whole, 1),
        rows="reaction",
    ),
    Metric(
        "completion_top5",
        "Second emoji among five",
        "higher",
        "How often it is among the five likeliest.",
        lambda whole: _second_among(whole, 5),
        rows="reaction",
    ),
    Metric(
        "pair_tv",
        "Total variation of pairs",
        "lower",
        "Probability on the wrong pairs of emojis of a reaction: 0 is the truth.",
        _pair_tv,
        rows="image",
    ),
    Metric(
        "latent_information",
        "Use of the latent",
        "higher",
        "What a latent tells of an emoji, in nats: 0 if it is ignored. More than the truth has is no better.",
        _latent_information,
        rows="image",
    ),
)
"""Every metric of reactions, in the order in which tables show them."""


def judge(
    chunks: Iterable[Answers],
    posted: Posted,
    num_emojis: int,
    pairs_of: Callable[[int], Pairs | None] = lambda image: None,
) -> dict[str, Floats]:
    """All values of a model that answers with distributions.

    Args:
        chunks: its answers for all images in order, a few at a time, of its own V ≤ `num_emojis` emojis.
        pairs_of: the true pairs under an image; None where they are not known, or not to be looked at.
    """
    first, parts = 0, []
    for answers in chunks:
        last = first + len(answers.q)
        here = posted.under(first, last)
        spread = answers.saying_all(num_emojis)
        parts.append(
            values(
                REACTION_METRICS,
                Whole(
                    here,
                    nll=likelihoods(spread, here),
                    independent=likelihoods(spread.marginal, here),
                    likely=second(spread, here),
                    answers=answers.of_all(num_emojis),
                    pairs=[pairs_of(image) for image in range(first, last)],
                ),
            )
        )
        first = last
    return joined(parts)


def joined(parts: Sequence[Mapping[str, Floats]]) -> dict[str, Floats]:
    """Values of some images after those of others."""
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
