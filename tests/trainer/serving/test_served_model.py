"""What a registered model is asked for in vain is refused in words, and what it can say is Bayes' rule."""

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from PIL import Image

from emojigan.datasets.images.read import read_image
from emojigan.trainer.model.readings import LATENTS, completion, latents_of
from emojigan.trainer.serving.served_model import EmojiGAN

from ..model.test_snapshot import SIZE, VOCABULARY, make, save


def load(folder: Path, recipe: str = "tuples", readings: int | None = 3) -> EmojiGAN:
    path, model = save(folder, make(recipe)), EmojiGAN()
    config = {"readings": readings}
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


@pytest.mark.parametrize(
    ("model", "params", "message"),
    [
        ({}, {"given": ["🧀"]}, "🧀 is none of the 5 emojis that it knows"),
        ({}, {"given": ["😂"], "readings": True}, "not for both at once"),
        ({}, {"given": [*VOCABULARY, "😂"]}, "there is none that could be next"),
        ({"recipe": "paper"}, {"readings": True}, "its output is free"),
        ({"recipe": "paper"}, {"given": ["😂"]}, "its output is free"),
        ({"readings": None}, {"readings": True}, "it has no readings"),
    ],
)
def test_what_is_asked_for_in_vain_is_refused(tmp_path: Path, model: dict, params: dict, message: str):
    with pytest.raises(MlflowException, match=message):
        ask(load(tmp_path, **model), **params)
