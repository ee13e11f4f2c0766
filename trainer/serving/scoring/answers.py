"""What a model says of the images of a part, as a table.

pixels ─► p(emoji | image) ─► the top emojis and the entropy, on the device still ─► only these ─► table

The columns are those that `SCHEMA` tells. An image that could not be read, or of which nothing can be said,
has nulls and, in `error`, what is wrong.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from ....datasets.emojis.text import display
from ....datasets.emojis.weights import MIN_EFFECTIVE_SAMPLES, samples_after_undoing
from ...model.estimate import Asked
from ...model.snapshot import Snapshot
from ..model import Reading
from .sources import Images

EMOJI = pa.dictionary(pa.int16(), pa.string())
READING = pa.struct({"share": pa.float32(), "emojis": pa.list_(pa.string()), "p": pa.list_(pa.float32())})
SCHEMA = {
    "key": pa.string(),  # of shards train/000000/000012, of a folder the path in it, of a table the row
    "post": pa.string(),  # the first that has the image; null where none is told
    "emojis": pa.list_(EMOJI),  # the likeliest, first
    "p": pa.list_(pa.float32()),  # p(emoji | image) of each of them
    "entropy": pa.float32(),  # of all emojis, in nats
    "readings": pa.list_(READING),  # the largest share first; null where none were asked for
    "error": pa.string(),  # null where there is an answer
}
FINE, WEIGHTS, DENIED = 0, 1, 2
WHY = {
    WEIGHTS: "the weights of the model's training cannot be undone here: train with a smaller --k",
    DENIED: "all that the model says of it is denied",
}


@dataclass(frozen=True)
class Answers:
    """What is said of n images, on the device that computed it, if it has done so already."""

    emoji: torch.Tensor  # int64 [n, top_k], rows of the vocabulary, the likeliest first; equal ones by row
    p: torch.Tensor  # float32 [n, top_k]
    entropy: torch.Tensor  # float32 [n], nats
    why: torch.Tensor  # int64 [n], FINE where there is an answer


@torch.inference_mode()
def answer(
    snapshot: Asked, images: torch.Tensor, *, samples: int, seed: int, top_k: int, denied: Sequence[int]
) -> Answers:
    """Ask about images, uint8 [n, 3, size, size]; the shift of training weights is undone image by image."""
    q, why = _undone(snapshot, images, samples, seed)
    if denied:
        q[:, denied] = 0
        said = q.sum(dim=1, keepdim=True)
        why = why.where(said[:, 0] > 0, torch.full_like(why, DENIED))
        q /= said.clamp(min=1e-300)
    emoji, p = _top(q, min(top_k, q.shape[1] - len(denied)), denied)
    return Answers(emoji, p, torch.special.entr(q).sum(dim=1).float(), why)


def _undone(
    snapshot: Asked, images: torch.Tensor, samples: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """p(emoji | image), float64 [n, V], and why there is none, int64 [n]."""
    if isinstance(snapshot, Snapshot):
        q = snapshot.averages_there(images, num_samples=samples, seed=seed)
    else:
        q = torch.from_numpy(snapshot.averages(images, num_samples=samples, seed=seed))
    why = torch.full((len(q),), FINE, device=q.device)
    if snapshot.is_weighted:
        left = samples_after_undoing(q.cpu().numpy(), snapshot.weights)
        fine = torch.from_numpy(left >= MIN_EFFECTIVE_SAMPLES)
        why[~fine.to(q.device)] = WEIGHTS
        if fine.any():
            p = snapshot.distribution(images[fine], num_samples=samples, seed=seed)
            q[fine.to(q.device)] = torch.from_numpy(p).to(q.device)
    return q, why


def _top(q: torch.Tensor, number: int, denied: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The likeliest emojis, int64 [n, number], and their p, float32; equal ones by the vocabulary.

    The bits of a float32 that is not negative rise with it. With the row behind them all are distinct, so
    that every device finds the same.
    """
    bits = q.float().view(torch.int32).long()
    order = (bits << 32) - torch.arange(q.shape[1], device=q.device)
    order[:, denied] = -(2**62)
    top = order.topk(number, dim=1).values
    row = -top & 0xFFFFFFFF
    return row, ((top + row) >> 32).int().view(torch.float32)


def table(
    images: Images,
    answers: Answers,
    readings: Sequence[Sequence[Reading]] | None,
    vocabulary: Sequence[str],
    about: Mapping[str, str],
) -> pa.Table:
    """A row for each image of a part, in its order.

    Args:
        readings: of those that could be read, if they were asked for.
        about: the schema's metadata.
    """
    why = answers.why.cpu().numpy()
    read = np.setdiff1d(np.arange(len(images.keys)), [*images.bad])
    bad = images.bad | {int(read[row]): WHY[int(why[row])] for row in np.flatnonzero(why)}
    fine = np.flatnonzero(why == FINE)
    answered = np.zeros(len(images.keys), bool)
    answered[read[fine]] = True
    emojis = pa.array([display(emoji) for emoji in vocabulary], pa.string())
    rows = pa.array(answers.emoji.cpu().numpy()[fine].ravel().astype(np.int16))
    entropy = np.zeros(len(answered), np.float32)
    entropy[answered] = answers.entropy.cpu().numpy()[fine]
    columns = {
        "key": pa.array(images.keys, pa.string()),
        "post": pa.array(images.posts, pa.string()),
        "emojis": _lists(pa.DictionaryArray.from_arrays(rows, emojis), answered),
        "p": _lists(pa.array(answers.p.cpu().numpy()[fine].ravel()), answered),
        "entropy": pa.array(entropy, mask=~answered),
        "readings": _readings(readings, fine, answered),
        "error": pa.array([bad.get(row) for row in range(len(answered))], pa.string()),
    }
    schema = pa.schema(SCHEMA, metadata=dict(about))  # pyright: ignore[reportArgumentType]
    return pa.Table.from_arrays([columns[name] for name in SCHEMA], schema=schema)


def _lists(values: pa.Array, answered: np.ndarray) -> pa.Array:
    """The values in lists of the same length, one for each row that has an answer; null for the others."""
    length = len(values) // max(answered.sum(), 1)
    offsets = np.concatenate([[0], np.cumsum(answered * length)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(~answered))


def _readings(
    readings: Sequence[Sequence[Reading]] | None, fine: np.ndarray, answered: np.ndarray
) -> pa.Array:
    if readings is None:
        return pa.nulls(len(answered), SCHEMA["readings"])
    told = iter([[_reading(each) for each in readings[row]] for row in fine])
    return pa.array([next(told) if there else None for there in answered], SCHEMA["readings"])


def _reading(reading: Reading) -> dict:
    emojis, p = zip(*((each.emoji, each.p) for each in reading.emojis), strict=True)
    return {"share": reading.share, "emojis": emojis, "p": p}
