"""How many readings there are is decided by the reactions of the val split; the report shows some."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emojigan.datasets.build.dataset import build_shards
from emojigan.datasets.build.options import BuildOptions
from emojigan.datasets.build.survey import Source
from emojigan.datasets.emojis.vectors.word2vec import keyed, save_vectors
from emojigan.datasets.store.folder import LocalFolder
from emojigan.datasets.worlds.make import make_world
from emojigan.datasets.worlds.shapes import ShapesOptions, shapes_world
from emojigan.datasets.worlds.truth import TRUTH, Truth
from emojigan.trainer.config import resolve
from emojigan.trainer.evaluation.metrics.scene import set_scene
from emojigan.trainer.evaluation.readings import CARDS, TOP, Card, Line, Readings, find_readings
from emojigan.trainer.evaluation.report.report import write_report
from emojigan.trainer.facts import Facts
from emojigan.trainer.inputs import read_inputs
from emojigan.trainer.model.networks import Generator
from emojigan.trainer.model.snapshot import Snapshot

from .report.test_report import HOSTILE, Page, report

NETWORKS = {"trunk_width": 4, "feature_dim": 8, "hidden_dim": 16, "latent_dim": 4}


class Knowing(Snapshot):
    """It has learned the moods of the one class of a world, each latent one of them."""

    moods: np.ndarray  # float32 [moods, V]

    def by_latent(self, images: np.ndarray, *, num_samples: int, seed: int) -> np.ndarray:
        drawn = np.random.default_rng(seed).integers(len(self.moods), size=num_samples)
        return np.tile(self.moods[drawn], (len(images), 1, 1))


@pytest.mark.parametrize(
    ("moods", "recipe", "most"), [(2, "tuples", 2), (1, "tuples", 1), (2, "paper", None)]
)
def test_as_many_as_people_have_moods(tmp_path: Path, moods: int, recipe: str, most: int | None):
    options = ShapesOptions(400, 0, classes=1, moods=moods, per_mood=8 // moods, flat=0, single=0, skew=0)
    make_world(tmp_path / "world", shapes_world(options), workers=1)
    source, shards = Source([tmp_path / "world" / "posts.jsonl"]), LocalFolder(tmp_path / "shards")
    build_shards(source, shards, BuildOptions(), workers=1, max_bad=0)
    truth = Truth.read(tmp_path / "world" / TRUTH)
    (reactions,) = truth.reactions.values()
    vectors = np.random.default_rng(0).normal(size=(len(reactions.emojis), 300)).astype(np.float32)
    save_vectors(keyed(list(reactions.emojis), vectors), tmp_path / "vectors.bin")
    config = resolve(recipe, None, NETWORKS)
    inputs = read_inputs(config, shards, tmp_path / "vectors.bin")
    facts = Facts(
        1, 64, config.model.model_dump(), inputs.vocabulary, inputs.dataset, inputs.vectors_hash, {}
    )
    snapshot = Knowing(facts, Generator(config.model, inputs.vectors, 64), inputs.weights)
    said = [[mood.p.get(emoji, 1e-6) for emoji in inputs.vocabulary] for mood in reactions.moods]
    object.__setattr__(snapshot, "moods", np.array(said))

    found = find_readings(snapshot, inputs, set_scene(inputs, tmp_path / "vectors.bin", truth))
    assert (found and found.most) == most
    for card in found.cards if found else ():
        assert len(card.readings) == len(card.moods) == most and len(found.cards) <= CARDS
        likeliest = {
            frozenset(emoji for emoji, _ in line.emojis[: min(TOP, 8 // moods)]) for line in card.readings
        }
        assert all(any(each <= {*mood.p} for mood in reactions.moods) for each in likeliest)


def test_the_page_shows_the_readings_of_some_images_and_that_one_has_none(tmp_path: Path):
    image = np.zeros((64, 64, 3), np.uint8)
    readings, moods = (Line(0.61, (("😍", 0.7), (HOSTILE, 0.3))),), (Line(0.6, (("🔥", 0.9),)),)
    cards = (Card(image, HOSTILE, readings, moods), Card(image, "dog", (), ()))
    text = write_report(replace(report(), readings=Readings(2, cards)), tmp_path).read_text("utf-8")
    page = Page(text)
    told = " ".join(page.text.split())
    assert "61 %😍 70 %" in told and "In truth: 60 %🔥 90 %" in told and "up to 2 readings" in told
    assert "None: two draws of latents have nothing in common." in told
    assert not page.all("script")


def test_a_model_without_readings_has_no_section_of_them(tmp_path: Path):
    assert "Readings" not in write_report(replace(report(), readings=None), tmp_path).read_text("utf-8")
