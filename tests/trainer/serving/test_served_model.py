"""What a registered model is asked for in vain is refused in words, and what it can say is Bayes' rule.

What is denied it says nowhere.
"""

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from PIL import Image

from emojigan.datasets.errors import InputError
from emojigan.datasets.images.read import read_image
from emojigan.datasets.store.atomic import SUMS, sha256
from emojigan.trainer.model.readings import LATENTS, completion, latents_of
from emojigan.trainer.serving.served_model import EmojiGAN

from ..model.test_snapshot import SIZE, VOCABULARY, make, save


def load(
    folder: Path, recipe: str = "tuples", readings: int | None = 3, vocabulary: tuple[str, ...] = VOCABULARY
) -> EmojiGAN:
    snapshot = make(recipe)
    snapshot = replace(snapshot, facts=replace(snapshot.facts, vocabulary=vocabulary))
    path, model = save(folder, snapshot), EmojiGAN()
    config = {"readings": readings, "snapshot": sha256(path / SUMS)}
    model.load_context(SimpleNamespace(artifacts={"snapshot": str(path)}, model_config=config))
    return model


def photo() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def ask(model: EmojiGAN, **params) -> list:
    (answer,) = model.predict(None, pd.DataFrame({"image": [photo()]}), params)
    return answer


def test_what_people_add_is_by_all_latents(tmp_path: Path):
    model = load(tmp_path)
    pixels = torch.from_numpy(read_image(photo(), SIZE)).permute(2, 0, 1)[None]
    (latents,) = latents_of(make(), pixels, number=LATENTS, seed=4)
    p = completion(latents, [1, 2])
    told = {row["emoji"]: row["p"] for row in ask(model, given=np.array(["😂", "🔥"]), seed=4, top_k=99)}
    assert told == pytest.approx({VOCABULARY[row]: p[row] for row in (0, 3, 4)}, rel=1e-4)


def test_an_emoji_may_be_given_in_any_form_and_twice(tmp_path: Path):
    model = load(tmp_path)
    assert ask(model, given=["🔥\ufe0f", "🔥"]) == ask(model, given=["🔥"])


def test_readings_have_shares_and_emojis(tmp_path: Path):
    for reading in ask(load(tmp_path), readings=True, top_k=99):
        assert reading.keys() == {"share", "emojis"} and 0 < reading["share"] <= 1
        assert sum(row["p"] for row in reading["emojis"]) == pytest.approx(1)


def test_there_are_as_many_readings_as_held_out_posts_support(tmp_path: Path):
    assert len(ask(load(tmp_path, readings=1), readings=True)) == 1


def test_an_answer_has_the_intervals_and_the_number_of_its_latents(tmp_path: Path):
    pixels = torch.from_numpy(read_image(photo(), SIZE)).permute(2, 0, 1)[None]
    (found,) = make().estimates(pixels, num_samples=0, seed=4)
    rows = ask(load(tmp_path), seed=4, top_k=99)
    assert [row["p"] for row in rows] == sorted(found.p, reverse=True)
    for row in rows:
        at = VOCABULARY.index(row["emoji"])
        assert (row["low"], row["high"], row["latents"]) == (found.low[at], found.high[at], found.latents)


@pytest.mark.parametrize("n_samples", [1, 50])
def test_a_number_of_latents_is_kept_to(tmp_path: Path, n_samples: int):
    assert {row["latents"] for row in ask(load(tmp_path), n_samples=n_samples)} == {n_samples}


@pytest.mark.parametrize(
    ("recipe", "question"),
    [("paper", {}), ("tuples", {}), ("tuples", {"readings": True}), ("tuples", {"given": ["😂"]})],
)
def test_what_is_denied_is_said_nowhere(tmp_path: Path, recipe: str, question: dict):
    said = ask(load(tmp_path, recipe), **question, deny=["🔥", "🐶", "🧀"], top_k=99)
    for rows in [reading["emojis"] for reading in said] if "readings" in question else [said]:
        assert {row["emoji"] for row in rows} == {*VOCABULARY} - {"🔥", "🐶", *question.get("given", ())}
        assert sum(row["p"] for row in rows) == pytest.approx(1)


def test_the_others_keep_their_ratios(tmp_path: Path):
    model = load(tmp_path)
    whole, left = (
        {row["emoji"]: row["p"] for row in ask(model, n_samples=50, deny=deny)} for deny in ([], ["🌊"])
    )
    rest = 1 - whole.pop("🌊")
    assert left == pytest.approx({emoji: p / rest for emoji, p in whole.items()})


@pytest.mark.parametrize(
    ("vocabulary", "deny", "left"),
    [
        (("👍", "👍🏽", "👍🏿", "😂", "❤"), "👍", "😂 ❤️"),
        (("👍", "👍🏽", "👍🏿", "😂", "❤"), "👍🏽", "👍 👍🏿 😂 ❤️"),
        (("👍", "😍", "🔥", "😂", "❤"), "👍🏽", "😍 🔥 😂 ❤️"),
        (("👍", "😍", "🔥", "😂", "❤"), "❤️", "👍 😍 🔥 😂"),
    ],
)
def test_variants_are_denied_as_in_a_deny_list(
    tmp_path: Path, vocabulary: tuple[str, ...], deny: str, left: str
):
    said = ask(load(tmp_path, vocabulary=vocabulary), deny=[deny])
    assert sorted(row["emoji"] for row in said) == sorted(left.split())


@pytest.mark.parametrize(
    ("model", "params", "message"),
    [
        ({}, {"given": ["🧀"]}, "🧀 is none of the 5 emojis that this model knows"),
        ({}, {"given": ["😂"], "readings": True}, "not for both at once"),
        ({}, {"given": [*VOCABULARY, "😂"]}, "there is none that could be next"),
        ({}, {"given": VOCABULARY[:2], "deny": VOCABULARY[2:]}, "there is none that could be next"),
        ({}, {"deny": VOCABULARY}, "With all of its emojis denied, there is none that the model could say"),
        ({}, {"n_samples": -1}, "samples 1 to 10,000, or 0 for as many as it takes"),
        ({"recipe": "paper"}, {"readings": True}, "The output of this model is free"),
        ({"recipe": "paper"}, {"given": ["😂"]}, "The output of this model is free"),
        ({"readings": None}, {"readings": True}, "This model has no readings"),
    ],
)
def test_what_is_asked_for_in_vain_is_refused(tmp_path: Path, model: dict, params: dict, message: str):
    with pytest.raises(MlflowException, match=message):
        ask(load(tmp_path, **model), **params)


def test_another_snapshot_than_the_one_that_was_registered_is_refused(tmp_path: Path):
    one, other = save(tmp_path / "one", make(step=1)), save(tmp_path / "other", make(step=2))
    config = {"readings": 3, "snapshot": sha256(one / SUMS)}
    with pytest.raises(InputError, match="is not the snapshot that was registered"):
        EmojiGAN().load_context(SimpleNamespace(artifacts={"snapshot": str(other)}, model_config=config))
