"""The classifier, carried on to whole reactions by how often emojis come together, whatever the image."""

import numpy as np
from scipy.sparse import csr_array

from ....datasets.errors import InputError
from ....datasets.stream.held_out import HeldOut
from ...inputs import Inputs
from ...model.networks import Classifier
from ..metrics.metric import Floats, values
from ..metrics.reactions import REACTION_METRICS, Answers, Posted, Whole, joined, likelihoods
from .baseline import Candidate, Given, reactions_of
from .classifier import classify

CHUNK = 256  # images looked at together
SMOOTHING = (0.1, 0.3, 1.0, 3.0, 10.0, 100.0, 1000.0)  # pairs added to each, of which the val split takes one


def cooccurrence(given: Given) -> Candidate | None:
    """The chain, with the lift that val likes best; it is no other model of single emojis."""
    if not given.scene.has_pairs:
        return None
    inputs, scene = given.inputs, given.scene
    lifts = choose_lift(count_pairs(inputs), given.classifier, given.val, inputs)
    q = classify(given.classifier, scene.held_out.images)
    return Candidate(
        "Co-occurrence model",
        "The classifier; after the first emoji, times how much oftener than by chance two come together, "
        "whatever the image.",
        None,
        judge_chain(q, lifts, scene.posted, len(scene.support)),
    )


def count_pairs(inputs: Inputs) -> Floats:
    """In how many reactions of the train split both of two emojis are, [V, V]; 0 on the diagonal.

    Raises:
        InputError: an index is damaged.
    """
    row = {emoji: number for number, emoji in enumerate(inputs.vocabulary)}
    pairs = np.zeros((len(row), len(row)))
    for number, entry in enumerate(inputs.train.shards):
        try:
            index = inputs.train.read_index(number)
        except ValueError as error:
            raise InputError(f"{inputs.train.folder}/{entry.name}: {error}. Copy it again.") from error
        emoji = np.array([row.get(each, -1) for each in index.emojis])[index.emoji]
        place = np.unique(np.stack([index.reaction, emoji])[:, emoji >= 0], axis=1)
        has = csr_array((np.ones(place.shape[1]), place), shape=(len(index.emoji), len(row)))
        pairs += (has.T @ has).toarray()
    np.fill_diagonal(pairs, 0)
    return pairs


def lift(pairs: Floats, smoothing: float) -> Floats:
    """How much oftener two emojis come together than if emojis met at random, [V, V].

        lift(e, f) = (N(e, f) + a) / (N m(e) m(f) + a)

    with N(e, f) of the N pairs, m(e) the share of e in all pairs, and `smoothing` a: without a pair it is 1.
    """
    share = pairs.sum(1) / max(pairs.sum(), 1)
    return (pairs + smoothing) / (pairs.sum() * np.outer(share, share) + smoothing)


def chain(q: Floats, lifts: Floats, posted: Posted) -> tuple[Floats, Floats]:
    """A reaction emoji after emoji, the first from the classifier.

        p(e | y, said) ∝ q(e | y) · mean over s in said of lift(e, s),   over all e that were not said

    Args:
        q: of the classifier, [n, V].
        lifts: [V, V].

    Returns:
        What `likelihoods` and `second` of reactions give, [reactions, most] and [reactions, V].
    """
    likely = q[posted.image]  # [reactions, V]
    nll = np.zeros(posted.emoji.shape)
    nll[:, 0] = -np.log(np.take_along_axis(likely, posted.emoji[:, :1], 1)[:, 0])
    np.put_along_axis(likely, posted.emoji[:, :1], 0, 1)
    lifted = lifts[posted.emoji[:, 0]]  # [reactions, V], the sum: the mean differs by a factor
    next_one = likely * lifted
    for place in range(1, posted.emoji.shape[1]):
        rows = np.flatnonzero(posted.count > place)
        emoji = posted.emoji[rows, place]
        chance = likely[rows] * lifted[rows]
        nll[rows, place] = np.log(chance.sum(1)) - np.log(chance[np.arange(len(rows)), emoji])
        likely[rows, emoji] = 0
        lifted[rows] += lifts[emoji]
    return nll, next_one


def judge_chain(q: np.ndarray, lifts: Floats, posted: Posted, num_emojis: int) -> dict[str, Floats]:
    """All values of the chain, as `judge` gives them; q [n, V] is what the classifier says of the images."""
    beyond = num_emojis - len(lifts)
    lifts = np.pad(lifts, (0, beyond), constant_values=1)  # of an emoji that is not in the vocabulary
    parts = []
    for first in range(0, len(q), CHUNK):
        here = posted.under(first, first + CHUNK)
        says = Answers.equal(q[first : first + CHUNK, None]).saying_all(num_emojis)
        nll, likely = chain(says.q[:, 0], lifts, here)
        parts.append(values(REACTION_METRICS, Whole(here, nll, likelihoods(says, here), likely)))
    return joined(parts)


def choose_lift(pairs: Floats, classifier: Classifier, held_out: HeldOut | None, inputs: Inputs) -> Floats:
    """The lift that completes the reactions of the val split best; without one, the least smoothed."""
    if held_out is None:
        return lift(pairs, SMOOTHING[0])
    posted = reactions_of(held_out, inputs.vocabulary)
    q = classify(classifier, held_out.images)

    def loss(lifts: Floats) -> float:
        return judge_chain(q, lifts, posted, len(inputs.vocabulary))["reaction_nll"].sum()

    return min((lift(pairs, smoothing) for smoothing in SMOOTHING), key=loss)
