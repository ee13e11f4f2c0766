"""How far a model's distributions are from the true ones, image by image. Only where the truth is known."""

import numpy as np
import ot
from scipy.special import entr, rel_entr
from scipy.stats import binom

from .metric import Floats, Ids, Metric, Said, with_truth

NUM_SAMPLES = 50  # per image, as in the paper
MODE = 0.01  # an emoji with at least this probability is a mode of the truth,
COVERED = 0.2  # and covered if the model gives it at least this share of its probability.
BETA = 8  # how much more recall counts than precision in the one, and less in the other
ANGLES = 101  # of the curve of precision and recall
MOVED = 300  # tuples of which the earth mover's distance is taken: a hundredth of a second each


def total_variation(q: Floats, p: Floats) -> Floats:
    """½ Σ_v |q_v − p_v|, in [0, 1]. -> [n]"""
    return np.abs(q - p).sum(-1) / 2


def jensen_shannon(q: Floats, p: Floats) -> Floats:
    """½ KL(q ‖ m) + ½ KL(p ‖ m) with m = (p + q) / 2, in nats, in [0, ln 2] (Lin 1991). -> [n]"""
    middle = (q + p) / 2
    return (rel_entr(q, middle) + rel_entr(p, middle)).sum(-1) / 2


def junk(q: Floats, p: Floats) -> Floats:
    """Mass of q where p is zero. -> [n]"""
    return np.where(p == 0, q, 0).sum(-1)


def entropy_ratio(q: Floats, p: Floats) -> Floats:
    """exp H(q) / exp H(p): effective numbers of emojis. -> [n]"""
    return np.exp(entr(q).sum(-1) - entr(p).sum(-1))


def modes_covered(q: Floats, p: Floats) -> Floats:
    """Share of the v with p_v ≥ .01 for which q_v ≥ .2 p_v; 1 where p has no such v. -> [n]"""
    modes = p >= MODE  # [n, V]
    covered = (modes & (q >= COVERED * p)).sum(-1)
    return np.where(modes.any(-1), covered / np.maximum(modes.sum(-1), 1), 1.0)


def precision_recall(q: Floats, p: Floats, beta: float) -> Floats:
    """The largest F_β on the curve of precision and recall of a distribution, in [0, 1]. -> [n]

        α(λ) = Σ_v min(λ p_v, q_v),   β(λ) = α(λ) / λ,   λ = tan θ

    Precision α is how much of q is where p is, recall β how much of p is where q is (Sajjadi et al. 2018,
    theorem 3 and section 4.2); with β = 8 recall counts, with β = 1/8 precision.
    """
    best = np.zeros(len(q))
    for angle in np.linspace(0, np.pi / 2, ANGLES + 2)[1:-1]:
        slope = np.tan(angle)
        precision = np.minimum(slope * p, q).sum(-1)
        recall = precision / slope
        best = np.maximum(best, (1 + beta**2) * precision * recall / (beta**2 * precision + recall + 1e-300))
    return best


def earth_movers(q: Floats, p: Floats, distance: Floats) -> Floats:
    """min_π Σ π_vw D_vw over the couplings π of q and p: what has to be carried how far. -> [n]

    Exact, by the network simplex of POT (Bonneel et al. 2011).
    """
    found = np.empty(len(q))
    for row, (ours, theirs) in enumerate(zip(q, p, strict=True)):
        there, here = ours > 0, theirs > 0
        costs = np.ascontiguousarray(distance[np.ix_(there, here)])
        found[row] = ot.emd2(ours[there] / ours.sum(), theirs[here] / theirs.sum(), costs)
    return found


def pooled(q: Floats, groups: Ids) -> Floats:
    """The mean distribution of each group, groups in rising order of their id. -> [G, V]"""
    ids, row = np.unique(groups, return_inverse=True)
    sums = np.zeros((len(ids), q.shape[1]))
    np.add.at(sums, row, q)
    return sums / np.bincount(row)[:, None]


def sample_histogram(q: Floats, num_samples: int, seed: int) -> Floats:
    """Frequencies of `num_samples` independent draws from each row of q. -> [n, V]"""
    exact = q / q.sum(-1, keepdims=True)  # NumPy refuses a sum of 1 + 1e-11
    return np.random.default_rng(seed).multinomial(num_samples, exact) / num_samples


def sampling_floor(p: Floats, num_samples: int) -> Floats:
    """Expected total variation between p and a histogram of `num_samples` draws from p itself. -> [n]

    Exact: N_v is binomial, and by De Moivre E|N_v − np| = 2 k (1 − p) P(N_v = k) with k = ⌊np⌋ + 1 (Diaconis
    & Zabell 1991). This is the distance that even a perfect model shows when it is known by
    `num_samples` samples only: a lower one is chance.
    """
    k = np.floor(num_samples * p) + 1  # [n, V]
    return (k * (1 - p) * binom.pmf(k, num_samples, p)).sum(-1) / num_samples


def mode_stability(q: Floats) -> Floats:
    """Whether two histograms of 50 draws from q have the same mode, the first of equals: 1 or 0. -> [n]"""
    first, again = (sample_histogram(q, NUM_SAMPLES, seed).argmax(-1) for seed in (1, 2))
    return (first == again).astype(np.float64)


def _of_samples(q: Floats, p: Floats) -> Floats:
    return total_variation(sample_histogram(q, NUM_SAMPLES, seed=0), p)


def _pooled_tv(said: Said) -> Floats | None:
    if said.truth is None or said.groups is None:
        return None
    return total_variation(pooled(said.q, said.groups), pooled(said.truth, said.groups))


def _moved(said: Said) -> Floats | None:
    if said.truth is None:
        return None
    n = len(said.q)
    some = np.unique(np.linspace(0, n - 1, min(n, MOVED)).astype(int))
    found = np.full(n, np.nan)
    found[some] = earth_movers(said.q[some], said.truth[some], said.distance)
    return found


METRICS: tuple[Metric[Said], ...] = (
    Metric(
        "tv",
        "Total variation",
        "lower",
        "Probability on the wrong emojis, image by image: 0 is the truth, 1 has nothing in common with it.",
        with_truth(total_variation),
    ),
    Metric(
        "tv_50",
        "Total variation of 50 samples",
        "lower",
        "The same for a histogram of 50 samples per image, which is what the paper draws. Even the truth, "
        "sampled, does not reach 0.",
        with_truth(_of_samples),
    ),
    Metric(
        "pooled_tv",
        "Total variation, pooled",
        "lower",
        "Averages over the images of one photograph or cluster before comparing: systematic error alone. "
        "Without an interval: posts drawn again would add their noise to it.",
        _pooled_tv,
        rows="all",
    ),
    Metric(
        "js",
        "Jensen–Shannon divergence",
        "lower",
        "In nats: 0 is the truth, ln 2 ≈ 0.69 the worst.",
        with_truth(jensen_shannon),
    ),
    Metric(
        "emd",
        "Earth mover's distance",
        "lower",
        "How far probability has to be carried, over the emojis' vectors, to make the truth of the answer: "
        f"a grin for a smile costs little. Exact, of {MOVED} tuples.",
        _moved,
    ),
    Metric(
        "precision",
        "Precision",
        "higher",
        "How much of the answer lies where the truth has it too: junk lowers it.",
        with_truth(lambda q, p: precision_recall(q, p, 1 / BETA)),
    ),
    Metric(
        "recall",
        "Recall",
        "higher",
        "How much of the truth lies where the answer has it too: what is never said lowers it.",
        with_truth(lambda q, p: precision_recall(q, p, BETA)),
    ),
    Metric(
        "junk",
        "Junk",
        "lower",
        "Probability on emojis that nobody would post under the image.",
        with_truth(junk),
    ),
    Metric(
        "modes_covered",
        "Modes covered",
        "higher",
        "Share of the emojis with a true probability of 1 % or more that get at least a fifth of it.",
        with_truth(modes_covered),
    ),
    Metric(
        "entropy_ratio",
        "Entropy ratio",
        "one",
        "Effective number of emojis per image over the true number: below 1 is collapse, above 1 is blur.",
        with_truth(entropy_ratio),
    ),
    Metric(
        "mode_stability",
        "Mode stability",
        "higher",
        "How often the likeliest emoji of 50 samples is that of 50 others. Where people differ it is low, "
        "however good a model is: beside the truth's it is to be read.",
        lambda said: mode_stability(said.q),
    ),
)
