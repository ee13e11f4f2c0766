"""Over the net a model says what it says everywhere else, and how to ask it is told truly."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from openapi_spec_validator import validate

from emojigan.datasets.images.read import read_image
from emojigan.launch.cli import main
from emojigan.trainer.model.snapshot import load_snapshot
from emojigan.trainer.serving.served_model import EmojiGAN

from ...model.test_snapshot import SIZE, VOCABULARY
from .serving import Serving, form, photo

SETTINGS = {"top_k": 5, "samples": 50, "seed": 7}


def test_a_photo_alone_gets_the_numbers_that_it_gets_among_eight(server: Serving):
    photos = [photo(seed) for seed in range(8)]
    body, headers = form(*photos)
    together = server.ask(body, headers, given="😂").json["answers"]
    alone = [server.ask(each, given="😂").json["answers"][0] for each in photos]
    assert [each["photo"] for each in together] == [f"{number}.jpg" for number in range(8)]
    assert [each | {"photo": "photo"} for each in together] == alone


def test_the_server_the_command_line_the_registered_model_and_an_evaluation_agree(
    server: Serving, snapshot: Path, tmp_path: Path
):
    file = tmp_path / "photo.jpg"
    file.write_bytes(photo())
    (served,) = server.ask(photo(), **SETTINGS).json["answers"]
    words = [f"--{key.replace('_', '-')}={value}" for key, value in SETTINGS.items()]
    told = CliRunner().invoke(main, ["predict", str(snapshot), str(file), "--json", *words]).stdout
    assert json.loads(told) | {"photo": "photo"} == served

    registered = EmojiGAN()
    config = {"readings": None, "snapshot": server.get("/ready").json["model"]["digest"]}
    registered.load_context(SimpleNamespace(artifacts={"snapshot": str(snapshot)}, model_config=config))
    params = {"top_k": 5, "n_samples": 50, "seed": 7}
    (rows,) = registered.predict(None, pd.DataFrame({"image": [photo()]}), params)
    assert [{**each, "latents": 50} for each in served["emojis"]] == rows

    pixels = torch.from_numpy(read_image(photo(), SIZE)).permute(2, 0, 1)[None]
    (p,) = load_snapshot(snapshot).distribution(pixels, num_samples=50, seed=7)
    assert {each["emoji"]: each["p"] for each in served["emojis"]} == pytest.approx(
        dict(zip(VOCABULARY, p, strict=True)), rel=1e-5
    )


def test_a_photo_that_cannot_be_read_says_why_and_stops_no_other(server: Serving):
    body, headers = form(photo(), b"no photo", photo()[:500])
    answered = server.ask(body, headers)
    first, second, third = answered.json["answers"]
    assert answered.status == 200 and "emojis" in first
    assert second["error"].startswith("1.jpg is none of JPEG") and third["error"] == "2.jpg is cut off."


def test_what_is_told_of_the_api_is_an_openapi_document_and_true(server: Serving):
    document = server.get("/openapi.json").json
    validate(document)
    answers = server.ask(photo(), given="😂", samples=9).json
    for name, content in (("Answers", answers), ("Facts", server.get("/v1/model").json)):
        jsonschema.validate(
            content, {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        )
    for each in document["paths"]["/v1/ask"]["post"]["parameters"]:
        default = each["schema"].get("default", "🔥")
        assert server.ask(photo(), **{each["name"]: json.dumps(default).strip('"')}).status in (200, 422)
    assert {each["name"] for each in document["paths"]["/v1/ask"]["post"]["parameters"]} == {
        *("top_k", "samples", "seed", "readings", "given", "deny")
    }


def test_what_people_read_of_the_api_names_every_parameter_and_no_other_server(server: Serving):
    page = server.get("/api").body.decode()
    assert all(f"<code>{name}</code>" in page for name in ("top_k", "samples", "given", "likeliest"))
    assert "http://" not in page and "https://" not in page


def test_it_lives_is_ready_and_counts(server: Serving):
    assert server.get("/health").status == server.get("/ready").status == 200
    server.ask(photo())
    told = server.get("/metrics").body.decode()
    assert 'emojigan_requests_total{path="/v1/ask",status="200"}' in told
    assert f'digest="{server.get("/ready").json["model"]["digest"]}"' in told
    assert float(np.float64(told.split('emojigan_photos_total{outcome="answered"} ')[1].split()[0])) >= 1


def test_the_server_itself_needs_neither_torch_nor_mlflow():
    """An exported model is served by a small process."""
    program = (
        "import sys, emojigan.trainer.serving.server.app, emojigan.trainer.serving.server.run\n"
        "print({'torch', 'mlflow', 'pandas', 'scipy'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
