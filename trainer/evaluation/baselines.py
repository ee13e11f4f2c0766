"""What the GAN is compared with, made from the same tuples: the marginal, and a softmax classifier.

The classifier has the generator's trunk, sees the same augmented images, and is stopped where it is best on
the val split, like the GAN's snapshots. It is trained once for a run and kept in the run's folder.
"""

import json
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from ...datasets.store.atomic import creating_folder, is_whole
from ...datasets.stream.reader import Batch
from ...datasets.work.progress import progress
from ..config import Config
from ..inputs import Inputs
from ..model.augment import augment, normalise
from ..model.networks import Classifier
from ..model.noise import initial_weights, uniform
from ..model.tensors import read_tensors, write_tensors
from ..run import BASELINE
from ..validation import read_val, val_loss

LEARNING_RATE = 1e-3
LOOKS = 10  # times that the classifier is scored on the val split, to keep the best
CHUNK = 256  # images asked about at a time


@dataclass(frozen=True)
class MadeFrom:
    """What the kept classifier was made from: another one is trained when this differs."""

    config: dict
    dataset: str
    vectors: str
    steps: int


def marginal(inputs: Inputs) -> np.ndarray:
    """The share of each emoji in the train split, whatever the image, float64 [V]."""
    posted = inputs.train.manifest.vocabulary
    counts = np.array([posted.get(emoji, 0) for emoji in inputs.vocabulary], np.float64)
    return counts / counts.sum()


def train_classifier(config: Config, inputs: Inputs, run: Path, steps: int) -> Classifier:
    """The classifier of a run: read from its folder, or trained for `steps` batches and put there."""
    made_from = MadeFrom(config.model_dump(exclude={"run"}), inputs.dataset, inputs.vectors_hash, steps)
    folder = run / BASELINE
    with initial_weights(config.optimizer.seed):
        classifier = Classifier(config.model, len(inputs.vocabulary), inputs.train.manifest.image_size)
    if not (is_whole(folder) and json.loads((folder / "recipe.json").read_text()) == asdict(made_from)):
        weights = _fit(classifier, config, inputs, steps)
        with creating_folder(folder) as temporary:
            write_tensors(temporary / "classifier.safetensors", weights)
            (temporary / "recipe.json").write_text(json.dumps(asdict(made_from), indent=1))
    classifier.load_state_dict(read_tensors(folder / "classifier.safetensors"))
    return classifier.eval()


def _fit(classifier: Classifier, config: Config, inputs: Inputs, steps: int) -> dict[str, torch.Tensor]:
    """Train with Adam and linear decay; the weights of the best look at the val split, or of the last."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    classifier.to(device).train()
    settings = config.optimizer
    optimizer = torch.optim.Adam(classifier.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, settings.final_learning_rate, steps)
    reading = inputs.stream(config, start=0)
    held_out = read_val(inputs)
    best, weights = np.inf, {}
    with closing(reading) as batches, progress(steps, "classifier", "steps") as bar:
        for step in range(1, steps + 1):
            batch = next(batches)
            assert isinstance(batch, Batch)
            images = batch.images.to(device)
            if config.data.augment:
                place = torch.tensor([step, 0], device=device)
                images = augment(images, uniform(settings.seed, place, len(images), 5))
            else:
                images = normalise(images)
            log_q = classifier(images).gather(1, inputs.ids[batch.emoji].clamp(min=0).to(device)[:, None])
            known = (inputs.tuple_weights[batch.emoji] > 0).to(device)
            loss = -(log_q.squeeze(1) * known).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if step % max(1, steps // LOOKS) == 0 or step == steps:
                nll = np.nan
                if held_out:
                    nll = val_loss(classify(classifier, held_out.images), held_out, inputs)
                if nll < best or not held_out:
                    best = nll
                    weights = {name: tensor.cpu().clone() for name, tensor in classifier.state_dict().items()}
                bar.set_postfix(val_nll=f"{nll:.3f}")
            bar.update()
    classifier.cpu()
    return weights


@torch.inference_mode()
def classify(classifier: Classifier, images: torch.Tensor) -> np.ndarray:
    """q(e | y) of uint8 images [n, 3, size, size], float64 [n, V]."""
    device = next(classifier.parameters()).device
    chunks = [classifier(normalise(chunk.to(device))).exp().cpu() for chunk in images.split(CHUNK)]
    return torch.cat(chunks).double().numpy()
