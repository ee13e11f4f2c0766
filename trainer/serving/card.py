"""The card of a model: what it is, what it learned from, how good it is, and what it cannot do.

config, facts, manifest of the dataset, Kept, Mark ─► card ─► description of the version, README.md, tags

README.md lies beside the snapshot in the registered model, and not in it: the snapshot's SHA256SUMS, by which
it is known, stay what they are.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ...datasets.emojis.text import display
from ...datasets.printable import printable
from ...datasets.shards.manifest import Manifest
from ..config import Config
from ..evaluation.judge import METRIC
from ..evaluation.kept import Kept
from ..facts import Facts
from ..forgotten import Mark
from .gate import score_text
from .registry import LISTED

LONGEST = 5000  # characters of a description, which a database of MLflow takes
SHOWN = (
    "reaction_nll",
    "nll",
    "completion_top5",
    "energy_score",
    "tv",
    "calibration_error",
    "frequency_error",
)
NAMED = 20  # emojis
ABOUT = """\
p(emojis | image): what people on social media react to a picture with, as a distribution over emojis. A
conditional WGAN-GP, by EmojiGAN. Its alias `champion` moves only to a version that beats the marginal
distribution and, on the same held-out posts, is not worse than the champion before it; a version's tags tell
why it became one. Ask it by `emojigan predict models:/NAME@champion photo.jpg`."""


@dataclass(frozen=True)
class About:
    """What a card is written from."""

    name: str  # of the registered model
    config: Config
    facts: Facts  # of the snapshot
    manifest: Manifest  # of the dataset now
    kept: Kept
    mark: Mark | None
    start: Mapping[str, str]  # of the training
    again: str  # the command that trains it again
    report: str  # where the report is


def card(about: About) -> str:
    """The card, as Markdown."""
    return "\n\n".join(f"## {title}\n\n{text}" for title, text in _sections(about)) + "\n"


def shortened(text: str) -> str:
    """A card as long as a description may be."""
    rest = "\n\n… README.md in the model's artifacts has the rest."
    return text if len(text) <= LONGEST else text[: LONGEST - len(rest)] + rest


def tags(about: About) -> dict[str, str]:
    """What lists and MLflow's pages tell of a version."""
    own = about.kept.own
    scores = {
        key: score_text(about.kept.scores[own][key], about.kept.intervals[own].get(key))
        for key in LISTED
        if key in about.kept.scores[own]
    }
    return scores | {
        "learned from": _data(about.manifest, "train"),
        "judged on": _data(about.manifest, "test"),
        "emojis": f"{len(about.facts.vocabulary):,}",
        "report": about.report,
    }


def _sections(about: About) -> Iterator[tuple[str, str]]:
    yield "What it is", _what(about)
    yield "What it learned from", _learned(about)
    yield "How good it is", _scores(about.kept)
    yield "What it cannot do", "\n".join(f"- {each}" for each in _limits(about))
    yield "How to ask it", _ask(about)
    yield "How to make it again", _again(about)
    yield (
        "Licence",
        "The code is under the MIT licence. What may be done with the weights depends on the posts that they "
        "were learned from, whose licences EmojiGAN does not know.",
    )


def _what(about: About) -> str:
    facts, unit = about.facts, about.config.data.unit
    learned = "whole reactions, the emojis of a post together" if unit == "reaction" else "single emojis"
    return (
        f"p(emojis | image) for {len(facts.vocabulary):,} emojis, of images of {facts.image_size} pixels. A "
        f"generator of a conditional WGAN-GP that learned {learned}; its average after {facts.step:,} steps. "
        f"The most frequent of its emojis: {' '.join(map(display, facts.vocabulary[:NAMED]))}"
    )


def _learned(about: About) -> str:
    objective = about.config.objective
    weights = "Its samples had no weights."
    if objective.weights != "none":
        weights = (
            f"Its samples were weighted ({objective.weights}); that shifts what is learned, and the shift is "
            "undone when it is asked: exactly for single emojis, not for what goes together."
        )
    posts, shown = about.manifest.posts.get("used", 0), _data(about.manifest, "train")
    lines = [
        f"{shown}, of a dataset of {posts:,} posts: `{about.facts.dataset}` (SHA-256 of its manifest).",
        f"Vectors: `{about.facts.vectors}`. {weights}",
    ]
    if about.config.data.deny:
        denied = " ".join(map(display, about.config.data.deny))
        lines.append(f"Denied, so that they are not learned: {denied}")
    if about.mark:
        lines.append(f"**It {about.mark.warning}. Train it again.**")
    return "\n\n".join(lines)


def _data(manifest: Manifest, split: str) -> str:
    shards = manifest.of_split(split)
    images, tuples = sum(each.images for each in shards), sum(each.tuples for each in shards)
    return f"{tuples:,} emojis under {images:,} images"


def _scores(kept: Kept) -> str:
    """A table: the model, with intervals, and what it was compared with."""
    keys = [key for key in SHOWN if key in kept.scores[kept.own]]
    lines = [["", *kept.scores], ["---"] * (1 + len(kept.scores))]
    for key in keys:
        arrow = "↑" if METRIC[key].better == "higher" else "↓"
        cells = [f"{METRIC[key].label} {arrow}"]
        for label, scores in kept.scores.items():
            interval = kept.intervals[label].get(key) if label == kept.own else None
            word = kept.beside[label][key].word if key in kept.beside.get(label, {}) else ""
            cells.append(f"{score_text(scores[key], interval)} {word}".strip() if key in scores else "–")
        lines.append(cells)
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return (
        f"{table}\n\nOn held-out posts of manifest `{kept.manifest}`. In brackets: the 95 % interval, posts "
        "drawn again. The word at another model's score says what this one is beside it."
    )


def _limits(about: About) -> Iterator[str]:
    yield "It tells what people in these posts wrote, not what is in a picture, nor what anybody should feel."
    yield f"It says no emoji but the {len(about.facts.vocabulary):,} of its vocabulary."
    yield f"Split {about.manifest.split_text}."
    if about.kept.readings is None:
        yield "It has no readings: nothing tells which emojis one person puts together."
    if about.kept.harm is None:
        yield "Nobody has looked at what it says of sensitive emojis (`emojigan evaluate --sensitive FILE`)."
    elif about.kept.harm:
        yield f"Of sensitive emojis: {about.kept.harm}."
    else:
        yield "Of the sensitive emojis that were looked at, it says none more often than people do."


def _ask(about: About) -> str:
    return (
        "```python\nimport mlflow, pandas\n\n"
        f'model = mlflow.pyfunc.load_model("models:/{about.name}@champion")\n'
        'model.predict(pandas.DataFrame({"image": [open("photo.jpg", "rb").read()]}), {"top_k": 5})\n```\n\n'
        'For each image a list of `{"emoji", "p", "low", "high", "latents"}`, the likeliest first. This runs '
        "the code that came with the model; `emojigan predict` runs the installed one."
    )


def _again(about: About) -> str:
    start = about.start
    versions = ", ".join(f"{name} {value}" for name, value in start.items() if name != "command")
    began = f"`{start['command']}` ({versions})" if "command" in start else "not noted"
    return (
        f"Last started by {began}, seed {about.config.optimizer.seed}. By its config.yaml: `{about.again}`. "
        f"Snapshot `{about.kept.digest}` (SHA-256 of its SHA256SUMS). Report: {printable(about.report)}"
    )
