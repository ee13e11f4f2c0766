"""What the GAN is compared with, made from the same posts: the marginal, a softmax classifier, co-occurrence.

The classifier has the generator's trunk, sees the same augmented images, and is stopped where it is best on
the val split, like the GAN's snapshots; of two rates it has the better one. It is trained once for a run and
kept in the run's folder. What it says of single emojis is carried on to whole reactions by how often emojis
come together, whatever the image.
"""

import copy
import json
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from operator import itemgetter
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_array

from ...datasets.errors import InputError
from ...datasets.store.atomic import creating_folder, is_whole
from ...datasets.stream.held_out import HeldOut
from ...datasets.stream.reader import Batch
from ...datasets.work.progress import progress
from ..config import Config
from ..inputs import Inputs
from ..model.augment import augment, normalise
from ..model.average import move_average
from ..model.networks import Classifier
from ..model.noise import initial_weights, kept, uniform
from ..model.tensors import read_tensors, write_tensors
from ..run import BASELINE
from ..validation import read_val, val_loss
from .metrics.metric import Floats, values
from .metrics.reactions import REACTION_METRICS, Answers, Posted, Whole, joined, likelihoods

LEARNING_RATE = 1e-3  # or that of the training, where it is larger and val the better for it
LOOKS = 10  # times, at least, that the classifier is scored on the val split, to keep the best
CHUNK = 256  # images asked about at a time
SMOOTHING = (0.1, 0.3, 1.0, 3.0, 10.0, 100.0, 1000.0)  # pairs added to each, of which the val split takes one


@dataclass(frozen=True)
class MadeFrom:
    """What the kept classifier was made from: another one is trained when this differs."""

    config: dict
    dataset: str
    vectors: str
    steps: int
    rates: list[float]


def marginal(inputs: Inputs) -> np.ndarray:
    """The share of each emoji in the train split, whatever the image, float64 [V]."""
    posted = inputs.train.manifest.vocabulary
    counts = np.array([posted.get(emoji, 0) for emoji in inputs.vocabulary], np.float64)
    return counts / counts.sum()


def as_many(config: Config, inputs: Inputs) -> int:
    """Batches in which a classifier sees as many tuples as a training does."""
    settings, train = config.optimizer, inputs.train
    batches = settings.steps * (settings.num_critic_steps + settings.num_generator_steps)
    return round(batches * train.num_tuples / train.num_units)


def train_classifier(config: Config, inputs: Inputs, run: Path, steps: int) -> Classifier:
    """The classifier of a run: read from its folder, or trained for `steps` batches and put there."""
    rates = sorted({LEARNING_RATE, max(LEARNING_RATE, config.optimizer.learning_rate)})
    settings = config.model_dump(exclude={"run"})
    made_from = MadeFrom(settings, inputs.dataset, inputs.vectors_hash, steps, rates)
    folder = run / BASELINE
    with initial_weights(config.optimizer.seed):
        classifier = Classifier(config.model, len(inputs.vocabulary), inputs.train.manifest.image_size)
    if not (is_whole(folder) and json.loads((folder / "recipe.json").read_text()) == asdict(made_from)):
        fits = [_fit(copy.deepcopy(classifier), config, inputs, steps, rate) for rate in rates]
        _, weights = min(fits, key=itemgetter(0))
        with creating_folder(folder) as temporary:
            write_tensors(temporary / "classifier.safetensors", weights)
            (temporary / "recipe.json").write_text(json.dumps(asdict(made_from), indent=1))
    classifier.load_state_dict(read_tensors(folder / "classifier.safetensors"))
    return classifier.eval()


def _fit(
    classifier: Classifier, config: Config, inputs: Inputs, steps: int, rate: float
) -> tuple[float, dict[str, torch.Tensor]]:
    """Train with Adam and linear decay; the best −log q on val, and the averaged weights of that look.

    Without a val split they are infinity, and those of the last look.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    classifier.to(device).train()
    settings = config.optimizer
    optimizer = torch.optim.Adam(classifier.parameters(), rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, settings.final_learning_rate, steps)
    of_tuples = replace(inputs, train=replace(inputs.train, unit="tuple"))
    reading, held_out = of_tuples.stream(config, start=0), read_val(inputs)
    average = copy.deepcopy(classifier).requires_grad_(False)
    looks = max(LOOKS, settings.steps // config.run.snapshot_steps)
    best, weights = np.inf, {}
    with closing(reading) as batches, progress(steps, f"classifier, rate {rate:g}", "steps") as bar:
        for step in range(1, steps + 1):
            batch = next(batches)
            assert isinstance(batch, Batch)
            images, place = batch.images.to(device), torch.tensor([step, 0], device=device)
            drawn = uniform(settings.seed, place, len(images), 5 + config.model.feature_dim)
            of_images, of_features = drawn.split([5, config.model.feature_dim], dim=1)
            images = augment(images, of_images) if config.data.augment else normalise(images)
            log_q = classifier.head(classifier.trunk(images) * kept(of_features, settings.dropout))
            log_q = log_q.gather(1, inputs.ids[batch.emoji].clamp(min=0).to(device)[:, None])
            known = (inputs.tuple_weights[batch.emoji] > 0).to(device)
            loss = -(log_q.squeeze(1) * known).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            move_average(average, classifier, settings.ema_decay, step)
            if step % max(1, steps // looks) == 0 or step == steps:
                nll = np.inf
                if held_out:
                    nll = val_loss(classify(average, held_out.images), held_out, inputs)
                if nll < best or not held_out:
                    best = nll
                    weights = {name: tensor.cpu().clone() for name, tensor in average.state_dict().items()}
                bar.set_postfix(val_nll=f"{nll:.3f}")
            bar.update()
    return float(best), weights


@torch.inference_mode()
def classify(classifier: Classifier, images: torch.Tensor) -> np.ndarray:
    """q(e | y) of uint8 images [n, 3, size, size], float64 [n, V]."""
    device = next(classifier.parameters()).device
    chunks = [classifier(normalise(chunk.to(device))).exp().cpu() for chunk in images.split(CHUNK)]
    return torch.cat(chunks).double().numpy()


@torch.inference_mode()
def features(classifier: Classifier, images: torch.Tensor) -> np.ndarray:
    """What the classifier's trunk sees in uint8 images [n, 3, size, size], float64 [n, feature_dim]."""
    device = next(classifier.parameters()).device
    chunks = [classifier.trunk(normalise(chunk.to(device))).float().cpu() for chunk in images.split(CHUNK)]
    return torch.cat(chunks).double().numpy()


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
    row = {emoji: number for number, emoji in enumerate(inputs.vocabulary)}
    emoji = np.array([row.get(each, -1) for each in held_out.emojis])
    known = emoji >= 0
    posted = Posted.of(held_out.image[known], emoji[known], held_out.reaction[known])
    q = classify(classifier, held_out.images)

    def loss(lifts: Floats) -> float:
        return judge_chain(q, lifts, posted, len(row))["reaction_nll"].sum()

    return min((lift(pairs, smoothing) for smoothing in SMOOTHING), key=loss)
