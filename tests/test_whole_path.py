"""From shards to an answer, with the real components: training, evaluation, MLflow registry, prediction."""

import html
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import mlflow
import pandas
import pytest
from click.testing import CliRunner

from emojigan.datasets.shards.layout import SPLITS
from emojigan.datasets.shards.manifest import read_manifest
from emojigan.datasets.store.folder import LocalFolder
from emojigan.datasets.worlds.reactions import Mood, Reactions
from emojigan.launch.cli import main
from emojigan.trainer.evaluation.metrics.table import METRICS
from emojigan.trainer.model.estimate import ROUNDS
from emojigan.trainer.tracking.mlflow_run import run_id_of
from emojigan.trainer.tracking.server import mlflow_client

from .one_person import NUM_POSTS, instagram, mastodon, x

TINY = "--steps 30 --batch-size 32 --trunk-width 4 --feature-dim 8 --hidden-dim 16 --latent-dim 4"


def emojigan(*arguments: str | Path | int) -> str:
    """Run a command and return what it printed."""
    result = CliRunner().invoke(main, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, shards: Path, vectors_file: Path, posts_folder: Path):
    """A trained, evaluated and registered run, with an MLflow of its own."""
    folder = tmp_path_factory.mktemp("path")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        run = folder / "run"
        emojigan("train", shards, "--vectors", vectors_file, "--out", run, *TINY.split())
        table = (posts_folder / "posts.jsonl").read_text(encoding="utf-8")
        lines = [json.loads(line) for line in table.splitlines()]
        emojis = sorted({e for line in lines for e in line["text"].split()[1:]})
        truth = {
            "posts": {line["id"]: "all" for line in lines},
            "photographs": {"all": {emoji: 1 / len(emojis) for emoji in emojis}},
        }
        (folder / "truth.json").write_text(json.dumps(truth))
        (folder / "sensitive.txt").write_text("💔\n🍆\n@ann\n", encoding="utf-8")
        asked = ("--truth", folder / "truth.json", "--sensitive", folder / "sensitive.txt")
        (folder / "table.txt").write_text(emojigan("evaluate", run, *asked, "--baseline-steps", "40"))
        emojigan("register", run, "--name", "tiny")
        yield run


def test_evaluation_names_both_baselines_and_the_floor(run: Path) -> None:
    table = (run.parent / "table.txt").read_text()
    for column in ("EmojiGAN", "Softmax classifier", "Marginal", "Truth itself"):
        assert column in table
    scores = json.loads((run / "evaluation.json").read_text())
    assert set(scores["scores"]) == {
        "EmojiGAN",
        "Softmax classifier",
        "Co-occurrence model",
        "Nearest neighbours",
        "Marginal",
    }
    assert scores["floor"]["tv"] == 0


def test_an_evaluation_tells_what_is_said_of_sensitive_emojis(run: Path) -> None:
    page = (run / "report" / "harm.html").read_text("utf-8")
    assert "The model says 💔 " in page and "of 1 kind of picture" in page  # the truth knows one
    assert "Neither known to the model nor posted here" in page and "🍆" in page
    assert all(f'data-model="{each}' in page for each in ("People post", "True", "exponential", "tfidf"))


def test_every_score_has_an_interval_and_a_word_beside_the_classifier(run: Path) -> None:
    """But what is no mean over posts, and what a classifier does not have."""
    told = json.loads((run / "evaluation.json").read_text())
    scores, intervals = told["scores"]["EmojiGAN"], told["intervals"]["EmojiGAN"]
    assert {"tv", "nll", "reaction_nll", "completion_nll", "completion_top5"} <= set(intervals)
    assert set(scores) - set(intervals) == {metric.key for metric in METRICS if metric.rows == "all"}
    assert all(low <= scores[key] <= high for key, (low, high) in ends(intervals).items() if key != "tv_50")
    beside = told["beside"]["Softmax classifier"]
    assert set(intervals) - set(beside) == {"latent_information"}
    for each in beside.values():
        low, high = each["difference"]["low"], each["difference"]["high"]
        assert each["word"] == ("better" if high < 0 else "worse" if low > 0 else "level")
    assert set(told["beside"]["Co-occurrence model"]) < set(beside)


def ends(intervals: dict[str, dict[str, float]]) -> dict[str, tuple[float, float]]:
    return {key: (each["low"], each["high"]) for key, each in intervals.items()}


def test_the_report_says_how_the_posts_were_split(run: Path) -> None:
    assert "Split by account: nobody is in two splits" in (run / "report" / "index.html").read_text("utf-8")


def test_a_free_output_has_scores_of_tuples_alone(shards: Path, vectors_file: Path, tmp_path: Path) -> None:
    few = ["--recipe", "paper", "--steps", 2, "--batch-size", 8, *TINY.split()[4:]]
    emojigan("train", shards, "--vectors", vectors_file, "--out", tmp_path / "run", *few)
    assert "A free output does not say" in emojigan("evaluate", tmp_path / "run", "--baseline-steps", "4")
    scores = json.loads((tmp_path / "run" / "evaluation.json").read_text())["scores"]
    assert "nll" in scores["EmojiGAN"] and "reaction_nll" not in scores["EmojiGAN"]
    assert "reaction_nll" in scores["Softmax classifier"]


def test_where_reactions_are_known_pairs_are_judged(run: Path, posts_folder: Path, tmp_path: Path) -> None:
    """Of two kinds of pictures, of which one has no pairs; and an emoji that is in no post is left out."""
    lines = [json.loads(line) for line in (posts_folder / "posts.jsonl").read_text("utf-8").splitlines()]
    emojis = sorted({e for line in lines for e in line["text"].split()[1:]})
    halves = [{emoji: 1 / len(half) for emoji in half} for half in (emojis[:4], emojis[4:])]
    moods = [Mood(0.75, {**halves[0], "🦄": 1.0}), Mood(0.25, halves[1])]
    moods[0] = Mood(0.75, {emoji: p / 2 for emoji, p in moods[0].p.items()})
    meant = {
        "two": Reactions(tuple(moods), (0.5, 0.5)),
        "one": Reactions((Mood(1.0, {emojis[0]: 1.0}),), (1.0,)),
    }
    truth = {
        "posts": {line["id"]: ("two", "one")[number % 5 == 0] for number, line in enumerate(lines)},
        "photographs": {group: each.without("🦄").tuples() for group, each in meant.items()},
        "reactions": {group: each.to_json() for group, each in meant.items()},
        "held_out": ["🦄"],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    kept = (run / "evaluation.json").read_bytes()
    emojigan("evaluate", run, "--truth", tmp_path / "truth.json", "--baseline-steps", "40")
    told = json.loads((run / "evaluation.json").read_text())
    (run / "evaluation.json").write_bytes(kept)
    floor, independent = told["floor"], told["scores"]["Independent truth"]
    assert floor["pair_tv"] == pytest.approx(0, abs=1e-12)  # moods of equal chances
    differ, within = 1 - (0.75**2 + 0.25**2) / 4, (0.75**2 + 0.25**2) * 3 / 4  # of independent pairs
    assert independent["pair_tv"] == pytest.approx(1 - within / differ)
    interval = told["intervals"]["Independent truth"]["pair_tv"]
    assert [*interval.values()] == pytest.approx([1 - within / differ] * 2)
    assert independent["reaction_gain"] == 0 < floor["latent_information"]


def test_posts_of_one_emoji_have_no_reactions_to_measure(
    posts_folder: Path, vectors_file: Path, tmp_path: Path
) -> None:
    lines = [json.loads(line) for line in (posts_folder / "posts.jsonl").read_text("utf-8").splitlines()]
    single = [json.dumps({**line, "text": line["text"].split()[-1]}) for line in lines]
    (tmp_path / "posts.jsonl").write_text("\n".join(single), encoding="utf-8")
    shutil.copytree(posts_folder / "images", tmp_path / "images")
    emojigan("shards", "build", tmp_path / "posts.jsonl", "--out", tmp_path / "shards", "--workers", 1)
    few = ["--steps", 2, "--batch-size", 8, *TINY.split()[4:]]
    emojigan("train", tmp_path / "shards", "--vectors", vectors_file, "--out", tmp_path / "run", *few)
    told = emojigan("evaluate", tmp_path / "run", "--baseline-steps", "4")
    assert "held-out reactions has two emojis: there is nothing whole to measure." in told
    assert "Gain over independence" not in told and "Co-occurrence model" not in told


def test_report_and_scores_are_in_the_mlflow_run(run: Path) -> None:
    client, run_id = mlflow_client(), run_id_of(run)
    assert run_id
    assert {file.path for file in client.list_artifacts(run_id, "report")} >= {
        "report/index.html",
        "report/fig2.png",
        "report/fig3.png",
        "report/fig4.png",
    }
    data = client.get_run(run_id).data
    assert data.metrics["test/tv_low"] <= data.metrics["test/tv"] <= data.metrics["test/tv_high"]
    assert data.metrics["test/tv_floor"] == 0 < data.metrics["test/reaction_nll"]
    told = [each.split(": ") for each in data.tags["emojigan.beside_classifier"].split("; ")]
    assert {word for word, _ in told} <= {"better", "level", "worse"}
    assert {"nll", "reaction_nll"} <= {key for _, keys in told for key in keys.split(", ")}
    assert client.get_run(run_id).info.status == "FINISHED"


def test_the_report_names_no_other_host(run: Path) -> None:
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=[\"']?https?:", page)


def test_a_truth_of_other_posts_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text('{"posts": {}, "photographs": {}}')
    result = CliRunner().invoke(main, ["evaluate", str(run), "--truth", str(tmp_path / "truth.json")])
    assert result.exit_code == 2
    assert "does not know post" in result.stderr


def test_other_vectors_than_the_trained_ones_are_refused(run: Path, tmp_path: Path) -> None:
    places = json.loads((run / "inputs.json").read_text())
    emojigan("vectors", "build", "--out", tmp_path / "other.bin")
    (run / "inputs.json").write_text(json.dumps({**places, "vectors": str(tmp_path / "other.bin")}))
    result = CliRunner().invoke(main, ["evaluate", str(run)])
    (run / "inputs.json").write_text(json.dumps(places))
    assert result.exit_code == 2
    assert "not the vector file" in result.stderr


def test_a_run_whose_inputs_were_moved_is_evaluated_where_they_are_now(run: Path, tmp_path: Path) -> None:
    """And without a truth it has proper scores only."""
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    inputs = json.loads((run / "inputs.json").read_text(encoding="utf-8"))
    shutil.copytree(inputs["shards"], tmp_path / "shards")
    shutil.copy(inputs["vectors"], tmp_path / "vectors.bin")
    gone = {"shards": str(tmp_path / "gone"), "vectors": str(tmp_path / "gone.bin")}
    (moved / "inputs.json").write_text(json.dumps({**inputs, **gone}), encoding="utf-8")
    places = ("--shards", tmp_path / "shards", "--vectors", tmp_path / "vectors.bin")
    assert "EmojiGAN" in emojigan("evaluate", moved, "--baseline-steps", "40", *places)
    scores = json.loads((moved / "evaluation.json").read_text())
    assert {*scores["floor"]} == {"fed", "fed_infinity", "fed_clusters", "fed_joint"}
    assert {"nll", "brier", "energy_score"} <= set(scores["scores"]["EmojiGAN"])
    assert "tv" not in scores["scores"]["EmojiGAN"]


def test_a_run_that_was_not_trained_is_not_evaluated(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["evaluate", str(tmp_path)])
    assert (result.exit_code, "has no snapshot. Train first: emojigan train" in result.stderr) == (2, True)


def test_a_run_that_was_not_evaluated_is_not_registered(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["register", str(tmp_path)])
    assert (result.exit_code, "emojigan evaluate" in result.stderr) == (2, True)


def test_what_mlflow_refuses_is_a_one_line_error(run: Path) -> None:
    result = CliRunner().invoke(main, ["register", str(run), "--name", "a/b"])
    assert result.exit_code == 2
    assert "MLFLOW_TRACKING_URI" in result.stderr and result.stderr.count("\n") == 1


def test_registering_again_gives_the_same_version(run: Path) -> None:
    emojigan("register", run, "--name", "tiny")
    assert len(mlflow_client().search_model_versions("name = 'tiny'")) == 1


def test_the_version_is_linked_to_its_scores(run: Path) -> None:
    version = mlflow_client().get_model_version("tiny", "1")
    model = mlflow.get_logged_model(version.source.removeprefix("models:/"))
    assert {metric.key for metric in model.metrics or []} >= {"test/tv", "test/nll"}


def test_predict_gives_probabilities_in_falling_order(run: Path, posts_folder: Path) -> None:
    photo = posts_folder / "images" / "0.png"
    answer = json.loads(emojigan("predict", "models:/tiny/1", photo, "--json", "--top-k", "100"))
    probabilities = [row["p"] for row in answer["emojis"]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1)
    assert all(row["low"] <= row["p"] <= row["high"] for row in answer["emojis"])
    assert answer["latents"] >= ROUNDS[0]


def test_predict_asks_as_many_latents_as_it_is_told(run: Path, posts_folder: Path) -> None:
    words = ("predict", "models:/tiny/1", posts_folder / "images" / "0.png", "--json", "--samples", "7")
    assert json.loads(emojigan(*words))["latents"] == 7


def test_predict_is_the_same_for_the_same_seed(run: Path, posts_folder: Path) -> None:
    photo = posts_folder / "images" / "0.png"
    first, second = (emojigan("predict", "models:/tiny/1", photo, "--json", "--seed", "7") for _ in range(2))
    assert first == second


def test_predict_tells_the_mode_and_draws_a_bar_for_each_emoji(run: Path, posts_folder: Path) -> None:
    _, mode, *bars = emojigan(
        "predict", "models:/tiny/1", posts_folder / "images" / "0.png", "--top-k", "3"
    ).splitlines()
    assert mode.startswith(("  mostly ", "  no mode: "))
    assert len(bars) == 3
    assert all(re.search(r"\d% \[ *[\d.]+, +[\d.]+\] [█▏]", line) for line in bars)


def test_predict_says_nothing_that_a_deny_list_has(run: Path, posts_folder: Path, tmp_path: Path) -> None:
    words = ("predict", "models:/tiny/1", posts_folder / "images" / "0.png", "--json", "--top-k", "100")
    known = [row["emoji"] for row in json.loads(emojigan(*words))["emojis"]]
    deny = tmp_path / "deny.txt"
    deny.write_text(f"# not ours\n@ann\nsome words\n{known[0]}\n", encoding="utf-8")
    told = json.loads(emojigan(*words, "--deny", deny, "--readings", "--given", known[1]))
    of_readings = [row for reading in told["readings"] for row in reading["emojis"]]
    for rows in (told["emojis"], of_readings, told["completion"]):
        assert rows and known[0] not in {row["emoji"] for row in rows}


def test_a_deny_list_without_emojis_is_told_in_one_line(
    run: Path, posts_folder: Path, tmp_path: Path
) -> None:
    deny = tmp_path / "deny.txt"
    deny.write_text("@ann\n", encoding="utf-8")
    photo = str(posts_folder / "images" / "0.png")
    result = CliRunner().invoke(main, ["predict", "models:/tiny/1", photo, "--deny", str(deny)])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {deny} has no emoji")


def test_predict_tells_readings_and_what_goes_with_an_emoji(run: Path, posts_folder: Path) -> None:
    photo = posts_folder / "images" / "0.png"
    words = ("predict", "models:/tiny/1", photo, "--top-k", "100", "--readings")
    plain = json.loads(emojigan(*words, "--json"))
    assert plain.keys() == {"photo", "emojis", "likeliest", "latents", "readings"}
    assert sum(reading["share"] for reading in plain["readings"]) == pytest.approx(1)
    for reading in plain["readings"]:
        assert sum(row["p"] for row in reading["emojis"]) == pytest.approx(1)
    known = [row["emoji"] for row in plain["emojis"]]
    told = json.loads(emojigan(*words, "--given", known[0], "--given", known[1], "--json"))
    assert {**told, **plain} == told and told["given"] == known[:2]
    assert {row["emoji"] for row in told["completion"]} == {*known[2:]}
    assert sum(row["p"] for row in told["completion"]) == pytest.approx(1)


def test_predict_prints_a_line_for_each_reading_and_then_what_people_add(
    run: Path, posts_folder: Path
) -> None:
    words = ("predict", "models:/tiny/1", posts_folder / "images" / "0.png", "--top-k", "2")
    known = json.loads(emojigan(*words, "--json"))["emojis"][0]["emoji"]
    _, _, *lines = emojigan(*words, "--readings", "--given", known).splitlines()
    assert all("%" in line for line in lines[:2] + lines[-2:])
    assert lines[-3].strip() == f"who writes {known} adds"
    assert lines[2:-3] and all("% see it as " in line for line in lines[2:-3])


def test_the_number_of_readings_is_found_by_the_evaluation_and_goes_with_the_model(run: Path) -> None:
    found = json.loads((run / "evaluation.json").read_text())["readings"]
    model = mlflow.pyfunc.load_model("models:/tiny/1")
    assert found >= 1 and model.model_config["readings"] == found


@pytest.mark.parametrize("emoji", ["😶‍🌫️", "x"])
def test_an_emoji_that_the_model_does_not_know_is_a_one_line_error(
    run: Path, posts_folder: Path, emoji: str
) -> None:
    photo = str(posts_folder / "images" / "0.png")
    result = CliRunner().invoke(main, ["predict", "models:/tiny/1", photo, "--given", emoji])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {emoji} is none of the ")
    assert result.stderr.count("\n") == 1


def test_a_model_of_somebody_else_is_a_one_line_error(run: Path, posts_folder: Path, tmp_path: Path) -> None:
    code = tmp_path / "theirs.py"
    code.write_text(
        "from mlflow.models import set_model\nfrom mlflow.pyfunc import PythonModel\n"
        "class Theirs(PythonModel):\n"
        "    def predict(self, context, model_input: list[str], params=None):\n"
        "        return model_input\n"
        "set_model(Theirs())\n"
    )
    mlflow.pyfunc.save_model(tmp_path / "model", python_model=str(code), pip_requirements=[])
    words = ["predict", str(tmp_path / "model"), str(posts_folder / "images" / "0.png")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert result.stderr == f"Error: {tmp_path / 'model'} is a model of MLflow, but none of EmojiGAN.\n"


def test_a_run_its_snapshot_and_what_was_registered_answer_alike(run: Path, posts_folder: Path) -> None:
    photo = posts_folder / "images" / "0.png"
    scored = run / "snapshots" / json.loads((run / "evaluation.json").read_text())["snapshot"]
    addresses = (run, scored, "models:/tiny/1", "models:/tiny/latest")
    said = [emojigan("predict", each, photo, "--json", "--readings") for each in addresses]
    assert len({*said}) == 1
    packaged = mlflow.pyfunc.load_model("models:/tiny/1")
    (rows,) = packaged.predict(pandas.DataFrame({"image": [photo.read_bytes()]}))
    answer = json.loads(said[0])
    assert rows == [{**row, "latents": answer["latents"]} for row in answer["emojis"]]


def test_bad_photos_are_told_by_name_and_stop_no_other(run: Path, posts_folder: Path, tmp_path: Path) -> None:
    good = (posts_folder / "images" / "0.png").read_bytes()
    for name in ("b.png", "d/e.PNG", "f.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(good)
    (tmp_path / "a.jpg").write_bytes(b"no photo")
    (tmp_path / "c.png").write_bytes(good[: len(good) // 2])
    (tmp_path / "list.txt").write_text("not asked about")
    words = ["predict", str(run), str(tmp_path), "missing.jpg", "--json"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1
    photos = [Path(json.loads(line)["photo"]) for line in result.stdout.splitlines()]
    assert photos == [tmp_path / name for name in ("b.png", "d/e.PNG", "f.png")]
    *bad, last = result.stderr.splitlines()
    assert last == "3 photos could not be read."
    assert bad == [
        f"{tmp_path / 'a.jpg'} is none of JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF and HEIC.",
        f"{tmp_path / 'c.png'} is cut off.",
        "missing.jpg: No such file or directory.",
    ]


def test_photos_are_patterns_or_come_by_stdin(run: Path, posts_folder: Path) -> None:
    images = posts_folder / "images"
    named = "".join(f"{images / name}\n" for name in ("3.png", "1.png"))
    words = ["predict", str(run), str(images / "2[45].png"), "-", "--json"]
    result = CliRunner().invoke(main, words, input=named)
    assert result.exit_code == 0, result.output
    photos = [Path(json.loads(line)["photo"]).name for line in result.stdout.splitlines()]
    assert photos == ["24.png", "25.png", "3.png", "1.png"]


@pytest.mark.parametrize(
    ("photo", "told"),
    [
        ("https://example.com/a.jpg", "https://example.com/a.jpg is an address of the web"),
        ("{run}/checkpoints", "{run}/checkpoints has no photo"),
        ("{run}/*.webp", "{run}/*.webp has no photo"),
    ],
)
def test_what_has_no_photo_is_a_one_line_error(run: Path, photo: str, told: str) -> None:
    result = CliRunner().invoke(main, ["predict", str(run), photo.format(run=run)])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {told.format(run=run)}") and result.stderr.count("\n") == 1


@pytest.mark.parametrize("model", ["nobody", "{run}/checkpoints", "{run}/snapshots/step-00000001"])
def test_what_is_no_model_is_a_one_line_error(run: Path, posts_folder: Path, model: str) -> None:
    photo = str(posts_folder / "images" / "0.png")
    result = CliRunner().invoke(main, ["predict", model.format(run=run), photo])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {model.format(run=run)} is no model: give the folder of a run")
    assert result.stderr.count("\n") == 1


def test_a_model_that_is_not_there_is_a_one_line_error(run: Path, posts_folder: Path) -> None:
    photo = str(posts_folder / "images" / "0.png")
    result = CliRunner().invoke(main, ["predict", "models:/nobody@champion", photo])
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1


WITHOUT_US = """
import sys
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in f.__module__]
sys.path[:] = [p for p in sys.path if "__editable__" not in p and p not in ("", {root!r})]
try:
    import emojigan.trainer
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("emojigan is still importable")
import mlflow, pandas
model = mlflow.pyfunc.load_model("models:/tiny/1")
print(len(model.predict(pandas.DataFrame({{"image": [open({photo!r}, "rb").read()]}}), {{"top_k": 3}})[0]))
"""


def test_the_model_loads_without_pickle_and_without_emojigan(run: Path, posts_folder: Path) -> None:
    root = str(Path(__file__).parents[1])
    program = WITHOUT_US.format(root=root, photo=str(posts_folder / "images" / "0.png"))
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=run.parent,
        env={**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.splitlines()[-1:] == ["3"], result.stderr[-2000:]


@pytest.mark.parametrize(
    ("write", "split_by"), [(instagram, "auto"), (x, "auto"), (mastodon, "auto"), (mastodon, "time")]
)
def test_the_archive_of_one_person_is_built_and_trained_on(
    write: Callable[[Path], Path], split_by: str, run: Path, vectors_file: Path, tmp_path: Path
) -> None:
    archive, shards = write(tmp_path / "archive"), tmp_path / "shards"
    page = emojigan("shards", "build", archive, "--out", shards, "--split-by", split_by, "--workers", 1)
    manifest = read_manifest(LocalFolder(shards))
    assert f"\nsplit by {'time' if split_by == 'time' else 'post'}: " in page
    assert manifest.posts["used"] == NUM_POSTS and all(manifest.of_split(split) for split in SPLITS)
    few = ["--steps", 2, "--batch-size", 8, *TINY.split()[4:]]
    words = ["train", shards, "--vectors", vectors_file, "--out", tmp_path / "run", *few]
    emojigan(*words, "--dry-run")
    assert "trained to step 2" in emojigan(*words)


def test_runs_are_listed_with_what_they_scored(run: Path) -> None:
    head, *lines = emojigan("runs", run.parent).splitlines()
    assert head.split() == ["run", "learns", "from", "steps", "reaction_nll", "nll", "tv", "dataset"]
    nll = json.loads((run / "evaluation.json").read_text())["scores"]["EmojiGAN"]["nll"]
    (line,) = (line for line in lines if line.startswith(str(run)))
    assert f"{nll:.3f}" in line and " 30 " in line


def test_a_run_is_worse_beside_one_that_learned_longer_and_level_with_itself(
    run: Path, shards: Path, vectors_file: Path
) -> None:
    longer = run.parent / "longer"
    words = ["train", shards, "--vectors", vectors_file, "--out", longer, *TINY.split()]
    emojigan(*words, "--steps", "70", "--learning-rate", "0.01")
    assert "run is worse than longer: NLL of a reaction" in emojigan("compare", run, longer)
    assert "difference [+0.000, +0.000]" in emojigan("compare", run, run)
    first, *_ = emojigan("compare", longer, run, "--json").splitlines()
    assert json.loads(first)["label"] == "longer"


def test_the_report_tells_how_to_come_there_again(run: Path) -> None:
    page = html.unescape((run / "report" / "index.html").read_text("utf-8"))
    again = f"--config {run / 'config.yaml'} --out NEW"
    for told in (again, f"torch {version('torch')}", "<dt>seed</dt><dd>0</dd>"):
        assert told in page
    assert "How did its training go?" in page and "Emojis that it errs most on" in page


def test_another_seed_widens_what_is_level_and_is_told(run: Path, shards: Path, vectors_file: Path) -> None:
    other, page = run.parent / "other-seed", run / "report" / "index.html"
    emojigan("train", shards, "--vectors", vectors_file, "--out", other, *TINY.split(), "--seed", "1")

    def widths() -> dict[str, float]:
        """Of the intervals of what the run is beside the classifier, by metric."""
        beside = json.loads((run / "evaluation.json").read_text())["beside"]["Softmax classifier"]
        return {key: each["difference"]["high"] - each["difference"]["low"] for key, each in beside.items()}

    alone = widths()
    table = emojigan("evaluate", run, "--seeds", other, "--baseline-steps", "40")
    assert "of 2 trainings that differ in the seed alone" in table and "Two tell little" in table
    assert all(
        width > alone[key] for key, width in widths().items() if key in ("nll", "brier", "energy_score")
    )
    assert "±" in page.read_text("utf-8")
    kept = json.loads((run / "evaluation.json").read_text())
    assert kept["seeds"]["nll"][0] == kept["scores"]["EmojiGAN"]["nll"] != kept["seeds"]["nll"][1]
    result = CliRunner().invoke(main, ["evaluate", str(run), "--seeds", str(run)])
    assert result.exit_code == 2 and "--seeds takes runs of one recipe" in result.stderr
