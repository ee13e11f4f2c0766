"""A model answers alike in every form in which it leaves, and what differs or is damaged is refused."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner, Result
from huggingface_hub import ModelCard
from PIL import Image

from emojigan.asking import load
from emojigan.datasets.errors import InputError
from emojigan.datasets.store.atomic import SUMS
from emojigan.datasets.store.folder import LocalFolder
from emojigan.launch.cli import main
from emojigan.trainer.export import forms
from emojigan.trainer.forgotten import Mark
from emojigan.trainer.model.noise import even_normal
from emojigan.trainer.model.snapshot import Snapshot
from emojigan.trainer.run import CONFIG, EVALUATION, FORGOTTEN
from emojigan.trainer.serving.load import finding
from emojigan.trainer.serving.scoring.job import Request
from emojigan.trainer.serving.scoring.score import Done, score
from emojigan.trainer.serving.scoring.sources import open_source

from ..model.test_snapshot import SIZE, VOCABULARY, images, make, save

pytest.importorskip("onnxscript", reason='exporting to ONNX: pip install -e ".[onnx]"')
pytest.importorskip("onnxruntime", reason='asking what was exported: pip install -e ".[serve]"')

ROOT = Path(__file__).parents[3]
MARK = Mark("2031-05-17", accounts=1, posts=2, tuples=3, train_tuples=3)


def learned() -> Snapshot:
    """With a bias and a residual of each emoji, of reactions that had weights."""
    snapshot = make(emoji_bias=True, emoji_residual=True)
    for parameter in (snapshot.generator.bias, snapshot.generator.residual):
        assert parameter is not None
        parameter.copy_(torch.randn(parameter.shape))
    return replace(snapshot, facts=replace(snapshot.facts, sizes=(0.5, 0.3, 0.2)))


CASES = {
    "tied": lambda: replace(make(), weights=np.ones(len(VOCABULARY))),
    "learned": learned,
    "free": lambda: make("paper"),
}


def command(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["export", *map(str, words)])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As much of an evaluated run as an export knows of: its snapshot, scores, readings and mark."""
    run = tmp_path_factory.mktemp("run")
    path = save(run, CASES["tied"]())
    scores = {"nll": 1.25, "tv": 0.5, "unknown": float("nan")}
    evaluation = {"snapshot": path.name, "readings": 2, "scores": {"EmojiGAN": scores}}
    (run / EVALUATION).write_text(json.dumps(evaluation))
    (run / CONFIG).touch()
    (run / FORGOTTEN).write_text(MARK.to_json())
    return run


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, run: Path) -> dict[str, tuple[Path, Path]]:
    """Of each case, what was exported, and the folder of ONNX that came of it."""
    folder, made = tmp_path_factory.mktemp("exported"), {}
    for name, snapshot in CASES.items():
        source = run if name == "tied" else save(folder / name, snapshot())
        out = folder / f"{name}-onnx"
        done = command(source, "--to", "onnx", "--out", out)
        assert done.exit_code == 0, done.output
        assert re.search(r"differs from torch by \d\.\de-0[6-9]|by 0\.0e\+00", done.stdout)
        made[name] = source, out
    return made


def photos(number: int = 4) -> list[np.ndarray]:
    return [*np.random.default_rng(2).integers(0, 256, (number, SIZE, SIZE, 3), np.uint8)]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("samples", [0, 1, 300])
def test_what_onnx_runtime_says_is_what_torch_says(exported: dict, case: str, samples: int):
    one, other = (load(path).ask(photos(), samples=samples, top_k=5, deny=["🔥"]) for path in exported[case])
    for expected, found in zip(one, other, strict=True):
        assert found.latents == expected.latents
        by_emoji = {each.emoji: [each.p, each.low, each.high] for each in expected.emojis}
        assert {each.emoji: [each.p, each.low, each.high] for each in found.emojis} == {
            emoji: pytest.approx(numbers, abs=1e-5) for emoji, numbers in by_emoji.items()
        }


def test_readings_and_completions_are_exported_too(exported: dict):
    one, other = (load(path) for path in exported["tied"])
    assert other.most_readings == 2
    for expected, found in zip(one.readings(photos()), other.readings(photos()), strict=True):
        assert [each.share for each in found] == pytest.approx([each.share for each in expected], abs=1e-5)
    completed = [[each.p for each in model.complete(photos(1), ["😂"])[0]] for model in (one, other)]
    assert completed[1] == pytest.approx(completed[0], abs=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_scores_by_onnx_runtime_are_those_by_torch(exported: dict, case: str, tmp_path: Path):
    for number, pixels in enumerate(photos(70)):  # more than are asked about at a time
        Image.fromarray(pixels).save(tmp_path / f"{number:02d}.png")
    source, tables = open_source(str(tmp_path)), []
    for form, path in zip(("torch", "onnx"), exported[case], strict=True):
        out = tmp_path / form
        with finding(path) as found:
            request = Request(found.digest, source.content, 40, 3, 3, False, (), "float32")
            *_, done = score(source, found, request, LocalFolder(out), workers=1, shown=False)
        assert isinstance(done, Done) and done.images == 70
        tables.append(pq.read_table(out / "000000.parquet").to_pylist())
    for expected, found in zip(*tables, strict=True):
        assert found["key"] == expected["key"] and found["error"] == expected["error"]
        assert found["p"] == pytest.approx(expected["p"], abs=1e-5)
        assert found["entropy"] == pytest.approx(expected["entropy"], abs=1e-4)


def test_of_an_export_no_other_precision_is_scored(exported: dict, tmp_path: Path):
    Image.fromarray(photos(1)[0]).save(tmp_path / "photo.png")
    asked = ["score", tmp_path, exported["tied"][1], "--out", tmp_path / "scores", "--precision", "bf16"]
    done = CliRunner().invoke(main, [*map(str, asked)])
    assert done.exit_code == 2 and "leave --precision out" in done.stderr
    assert not (tmp_path / "scores").exists()


def test_with_torch_an_exported_model_has_latents_of_any_seed(exported: dict):
    answers = [load(path).ask(photos(1), samples=300, seed=7)[0].emojis for path in exported["tied"]]
    assert [each.p for each in answers[1]] == pytest.approx([each.p for each in answers[0]], abs=1e-5)


def test_an_exported_model_is_asked_where_torch_is_not_installed(exported: dict):
    program = f"""
import sys
sys.modules["torch"] = None  # importing it fails
from emojigan.datasets.errors import InputError
from emojigan.asking import load
import numpy as np
model, photo = load(sys.argv[1]), np.full(({SIZE}, {SIZE}, 3), 99, np.uint8)
assert model.ask([photo]) and model.readings([photo]) and model.complete([photo], ["😂"])
assert sys.modules.keys().isdisjoint({{"mlflow", "pandas", "scipy", "pyarrow"}})
try:
    model.ask([photo], seed=2)
except InputError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, exported["tied"][1]], capture_output=True, text=True, check=True
    )
    assert re.fullmatch(
        "Without torch an exported model has 4,096 latents at most, of seed 0 .+\n", done.stdout
    )


@pytest.mark.parametrize("name", ["model.onnx", "latents.npy", "snapshot.json"])
def test_a_damaged_export_is_refused(exported: dict, name: str):
    file = exported["tied"][1] / name
    content = file.read_bytes()
    file.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    with pytest.raises(InputError, match="is damaged"):
        load(file.parent)
    file.write_bytes(content)
    load(file.parent)


def test_a_graph_that_says_anything_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(forms, "FARTHEST", -1.0)
    done = command(save(tmp_path / "run", make()), "--to", "onnx", "--out", tmp_path / "out" / "onnx")
    assert done.exit_code == 2 and re.search(r"is not written: .+ differs from torch by \d\.\de", done.stderr)
    assert not [*(tmp_path / "out").iterdir()]


def test_another_graph_is_far_from_a_snapshot(exported: dict):
    other = load(exported["learned"][1]).snapshot
    assert forms.difference(make(), other) > forms.FARTHEST  # pyright: ignore[reportArgumentType]


def test_what_is_there_and_what_was_exported_already_are_refused(exported: dict, tmp_path: Path):
    source, out = exported["tied"]
    done = command(source, "--to", "hub-folder", "--out", out)
    assert done.exit_code == 2 and "is there already: remove it" in done.stderr
    done = command(out, "--to", "safetensors", "--out", tmp_path / "model.safetensors")
    assert done.exit_code == 2 and "is exported already" in done.stderr
    assert not [*tmp_path.iterdir()]


def test_the_readme_has_a_loader_in_plain_torch(tmp_path: Path):
    snapshot, out = learned(), tmp_path / "model.safetensors"
    path = save(tmp_path / "run", snapshot)
    assert command(path, "--to", "safetensors", "--out", out).exit_code == 0
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (program,) = (each for each in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "safe_open" in each)
    names: dict = {}
    exec(program.replace("model.safetensors", str(out)), names)
    said = names["q"](images(), even_normal(20, 4, seed=0))
    assert torch.allclose(
        said, torch.from_numpy(snapshot.by_latent(images(), num_samples=20, seed=0)), atol=1e-6
    )
    assert tuple(names["facts"]["vocabulary"]) == VOCABULARY


def test_the_folder_for_a_hub_is_a_snapshot_with_a_card(run: Path, tmp_path: Path):
    out = tmp_path / "hub"
    done = command(run, "--to", "hub-folder", "--out", out)
    assert done.exit_code == 0 and MARK.warning in done.stderr
    card = ModelCard.load(out / "README.md")
    assert (card.data.pipeline_tag, card.data.library_name) == ("image-classification", "emojigan")
    told = {each.metric_type: each.metric_value for each in card.data.eval_results or ()}
    assert told == {"nll": 1.25, "tv": 0.5} and card.data.metrics == [*told]
    assert MARK.warning in card.text
    (out / "README.md").write_text("somebody changed it")
    (out / ".gitattributes").write_text("the hub added it")
    assert load(out).ask(photos()) == load(run).ask(photos())
    assert load(out).most_readings == 2


def test_a_folder_for_a_hub_is_as_whole_as_its_sums(run: Path, tmp_path: Path):
    out = tmp_path / "hub"
    command(run, "--to", "hub-folder", "--out", out)
    names = {line.split()[1] for line in (out / SUMS).read_text().splitlines()}
    assert names == {path.name for path in out.iterdir()} - {SUMS, "README.md"}
    (out / FORGOTTEN).unlink()
    with pytest.raises(InputError, match="is not a whole snapshot"):
        load(out)
