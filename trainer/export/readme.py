"""README.md of an exported folder: what Hugging Face's hub reads of a model, how to ask it, and its card."""

import math
from collections.abc import Mapping

import yaml

from ...datasets.emojis.text import display
from ..facts import Facts
from ..forgotten import Mark

NAMED = 20  # emojis
ABOUT = """\
# EmojiGAN

p(emojis | image): what people on social media react to a picture with, as a distribution over {number:,}
emojis, of images of {size} pixels. The generator of a conditional WGAN-GP, after {step:,} steps. The first of
its emojis: {emojis}

It tells what people in the posts that it learned from wrote, not what is in a picture, nor what anybody
should feel. What may be done with its weights depends on those posts, whose licences EmojiGAN does not know:
put the licence that you may give into the first lines of this file, in the place of `unknown`.
"""
ASK = {
    "torch": """\
## How to ask it

With EmojiGAN installed, here as FOLDER, or from the hub:

```python
from emojigan.asking import load
from huggingface_hub import snapshot_download

model = load(snapshot_download("USER/NAME"))
(answer,) = model.ask(["photo.jpg"])
print(answer.emojis[0].emoji, answer.emojis[0].p)
```
""",
    "onnx": """\
## How to ask it

With EmojiGAN and its extra `serve` installed: `emojigan predict FOLDER photo.jpg`; torch is not imported.
With ONNX Runtime alone, `images` being uint8 [n, 3, {size}, {size}], RGB:

```python
import numpy, onnxruntime

latents, weights = numpy.load("latents.npy")[0, :256], numpy.load("weights.npy")
(q,) = onnxruntime.InferenceSession("model.onnx").run(["q"], {{"images": images, "latents": latents}})
p = q.mean(axis=1) / weights  # the shift of the training's weights undone, for a model of single emojis
p /= p.sum(axis=1, keepdims=True)  # [n, {number}], of the `vocabulary` in snapshot.json
```
""",
}


def readme(facts: Facts, mark: Mark | None, scores: Mapping[str, float], card: str, runs_on: str) -> str:
    """The text, as Markdown after YAML.

    Args:
        card: of the registered model; empty of any other.
        runs_on: "torch" or "onnx".
    """
    words = {
        "number": len(facts.vocabulary),
        "size": facts.image_size,
        "step": facts.step,
        "emojis": " ".join(map(display, facts.vocabulary[:NAMED])),
    }
    parts = [
        f"---\n{yaml.safe_dump(_metadata(scores, runs_on), sort_keys=False)}---\n",
        ABOUT.format(**words),
        f"**It {mark.warning}. Train it again.**\n" if mark else "",
        ASK[runs_on].format(**words),
        card,
    ]
    return "\n".join(part for part in parts if part)


def _metadata(scores: Mapping[str, float], runs_on: str) -> dict:
    """What the hub's search and its pages go by (its "model card metadata")."""
    metadata = {
        "license": "unknown",
        "library_name": "emojigan",
        "pipeline_tag": "image-classification",
        "tags": ["emoji", "emojigan", runs_on],
    }
    known = {key: float(score) for key, score in scores.items() if math.isfinite(score)}
    if known:
        result = {
            "task": {"type": "image-classification"},
            "dataset": {"type": "held-out-posts", "name": "held-out posts"},
            "metrics": [{"type": key, "value": score} for key, score in known.items()],
        }
        metadata["metrics"] = [*known]
        metadata["model-index"] = [{"name": "EmojiGAN", "results": [result]}]
    return metadata
