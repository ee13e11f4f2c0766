"""`emojigan train` chooses what was not given, tells it, and chooses the same to resume."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import click
import mlflow
import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from PIL import Image

from emojigan.datasets.emojis.vectors.word2vec import keyed, load_vectors, save_vectors
from emojigan.launch.cli import main
from emojigan.launch.commands.train import train
from emojigan.trainer.config import DEFAULT, Config, resolve
from emojigan.trainer.model.snapshot import load_snapshot
from emojigan.trainer.sizes import CPU_NETWORKS, ON_CPU
from emojigan.trainer.tracking.mlflow_run import run_id_of
from emojigan.trainer.training import dry_run

FEW = ["--batch-size", "16", "--steps", "4", "--num-critic-steps", "1", "--checkpoint-steps", "2"]


@pytest.fixture
def invoke(
    shards: Path,
    vectors_file: Path,
    tmp_path: Path,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Result]:
    """Runs `train` with some options, on the run folder `run` of tmp_path."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", environment["MLFLOW_TRACKING_URI"])
    words = ["train", str(shards), "--vectors", str(vectors_file), "--out", str(tmp_path / "run")]
    return lambda *more: CliRunner().invoke(main, [*words, *more])


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """There is a GPU, or none; one that is not there is not asked how fast it is."""

    def gpu(available: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
        monkeypatch.setattr(dry_run, "estimate", lambda *_: "about 3 h 20 min on this GPU")

    return gpu


def planned(result: Result) -> Config:
    """The config that a dry run printed."""
    assert result.exit_code == 0, result.output
    return Config.model_validate(yaml.safe_load(result.stdout.split("\n\n")[0]))


def test_the_help_tells_the_default_of_every_key_and_what_a_recipe_changes():
    helps = {each.name: each.help or "" for each in train.params if isinstance(each, click.Option)}
    for part in Config().model_dump().values():
        assert all("[default: " in helps[key] for key in part)
    assert helps["window"].endswith("[default: 64]")
    assert helps["augment"].endswith("[default: yes; paper: no]")
    assert helps["helpers"].endswith("[default: as the cores allow]")
    assert helps["learning_rate"].endswith("[default: 0.002; paper: 0.0001; tuples: 0.0005, on a CPU 0.001]")


def test_an_option_that_is_not_given_says_nothing(invoke):
    """Else recipe and config file would not be heard."""
    config = planned(invoke("--recipe", "paper", "--dry-run"))
    paper = resolve("paper", None, {})
    assert (config.objective, config.data) == (paper.objective, paper.data)


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a CPU")
def test_a_cpu_is_given_small_sizes_and_they_are_told(invoke):
    result = invoke("--dry-run")
    config = planned(result)
    assert {key: getattr(config.model, key) for key in CPU_NETWORKS} == CPU_NETWORKS
    assert (config.data.batch_size, config.optimizer.learning_rate) == (64, 2e-3)  # that of the recipe
    line = result.stdout.splitlines()[-1]
    assert line.startswith("chosen for a CPU and ") and "--trunk-width 16" in line
    assert f"--steps {config.optimizer.steps};" in line and config.optimizer.steps < 2600


def test_a_gpu_is_given_the_recipes_sizes(invoke, pretend: Callable[[bool], None]):
    pretend(True)
    result = invoke("--dry-run")
    assert planned(result).model == resolve(DEFAULT, None, {}).model
    assert result.stdout.splitlines()[-1].startswith("chosen for a GPU and ")


def test_a_dry_run_tells_the_time_of_one_rank_on_a_gpu(invoke, pretend: Callable[[bool], None]):
    line = "\ntime     about 3 h 20 min on this GPU\n"
    pretend(True)
    assert line in invoke("--dry-run").stdout
    assert line not in invoke("--dry-run", "--world-size", "2").stdout
    pretend(False)
    assert line not in invoke("--dry-run").stdout


def test_a_training_tells_what_was_chosen_how_much_it_is_and_how_long_it_takes(invoke, tmp_path: Path):
    result = invoke(*FEW, "--steps", "5")
    assert result.exit_code == 0, result.output
    assert "5 steps of 2 batches of 16: 0." in result.stdout and " epochs of " in result.stdout
    assert result.stdout.count(" on this machine\n") == 1
    if not torch.cuda.is_available():
        assert result.stdout.startswith("chosen for a CPU and ")
        saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
        assert saved["model"].items() >= CPU_NETWORKS.items()


@pytest.mark.parametrize("more", [[], ["--helpers", "3"]])
def test_a_dry_run_tells_how_many_helpers_there_are(invoke, monkeypatch: pytest.MonkeyPatch, more: list[str]):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1000")
    number = more[1] if more else "1"
    assert f"\nhelpers  {number} a rank: threads that make batches ahead" in invoke("--dry-run", *more).stdout


def test_images_that_are_kept_in_memory_train_as_those_that_are_streamed(invoke, tmp_path: Path):
    states = []
    for kept in ("on", "off"):
        result = invoke(*FEW, "--device-cache", kept)
        assert result.exit_code == 0, result.output
        assert ("\nimages kept " in result.stdout) == (kept == "on")
        states.append((tmp_path / "run/checkpoints/step-00000004/state.safetensors").read_bytes())
        shutil.rmtree(tmp_path / "run")
    assert states[0] == states[1]


def test_the_same_command_resumes_with_the_same_sizes_on_any_device(invoke, pretend: Callable[[bool], None]):
    assert invoke(*FEW).exit_code == 0
    again = invoke(*FEW)
    assert again.exit_code == 0 and "resumed at step 4" in again.stdout
    here = planned(invoke(*FEW, "--dry-run"))
    pretend(not torch.cuda.is_available())
    assert planned(invoke(*FEW, "--dry-run")) == here


def test_a_size_that_is_given_outranks_what_suits(invoke):
    config = planned(invoke("--dry-run", "--trunk-width", "8", "--steps", "9"))
    assert (config.model.trunk_width, config.optimizer.steps) == (8, 9)
    assert config.model.feature_dim == Config().model.feature_dim != ON_CPU["feature_dim"]


def test_a_training_that_is_refused_leaves_no_folder(invoke, tmp_path: Path):
    result = invoke(*FEW, "--lanes", "3")
    assert result.exit_code == 2 and "cannot be shared by 3 lanes" in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_training_says_what_comes_next(invoke, tmp_path: Path):
    following = f"Next: emojigan evaluate {tmp_path / 'run'}"
    assert invoke(*FEW).stdout.endswith(f"trained to step 4. {following}\n")
    again = invoke(*FEW).stdout
    assert again.endswith(f"trained already, at its last step, 4. {following}, or --steps for more\n")
    elsewhere = tmp_path / "a run"
    assert f"emojigan evaluate '{elsewhere}'\n" in invoke(*FEW, "--out", str(elsewhere)).stdout


def test_a_training_notes_how_fast_it_is(invoke, tmp_path: Path):
    assert invoke(*FEW, "--log-steps", "2").exit_code == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    speeds = [line for line in lines if "train/nll" in line]
    assert [line["step"] for line in speeds] == [2, 4]
    for line in speeds:
        assert line["train/tuples_per_second"] > 0
        assert 0 < line["train/utilisation"] < 1
        assert 0 <= line["train/data_wait"] < 1
        assert ("train/device_memory_gib" in line) == torch.cuda.is_available()
    looked = [line for line in lines if "system/cpu_utilization_percentage" in line]
    assert [line["step"] for line in looked] == [2]  # and again 10 s later
    assert 0 <= looked[0]["system/cpu_utilization_percentage"] <= 100


@pytest.mark.parametrize("every", ["2", "4"], ids=["one before the last", "the last"])
def test_a_checkpoint_that_cannot_be_written_ends_the_training_in_one_line(
    every: str, invoke, environment: dict[str, str], tmp_path: Path
):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").write_text("a file, where a folder is to be")
    result = invoke(*FEW, "--checkpoint-steps", every)
    assert result.exit_code == 2 and "trained to" not in result.stdout
    told = "File exists. Mend that, and run the same command again."
    assert result.stderr.splitlines()[-1] == f"Error: {tmp_path}/run/checkpoints: {told}"
    client = mlflow.MlflowClient(environment["MLFLOW_TRACKING_URI"])
    assert client.get_run(run_id_of(tmp_path / "run") or "").info.status == "FAILED"


@pytest.mark.parametrize("more", [["--dry-run"], []], ids=["dry run", "training"])
@pytest.mark.parametrize("emoji", ["🦄", "🚀"], ids=["rare", "without vector"])
def test_a_val_split_of_which_nothing_can_be_learned_is_refused_before_the_first_step(
    emoji: str, more: list[str], vectors_file: Path, tmp_path: Path
):
    """By time, posts 30 to 34 are val. 🚀 is often enough in train, but has no vector."""
    lines = []
    for number in range(40):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        text = emoji if 30 <= number < 35 else "🚀" if number < 6 else "🔥 😍"
        post = {"id": number, "account": "Ann", "image": f"{number}.png", "text": text, "time": number}
        lines.append(json.dumps(post) + "\n")
    (tmp_path / "posts.jsonl").write_text("".join(lines))
    shares = ["--split-by", "time", "--val-share", "0.125", "--test-share", "0.125", "--workers", "1"]
    words = ["shards", "build", str(tmp_path / "posts.jsonl"), "--out", str(tmp_path / "shards"), *shares]
    built = CliRunner().invoke(main, words)
    assert ("The val split has no tuple of the vocabulary: " in built.stdout) == (emoji == "🦄")
    words = [
        "train",
        str(tmp_path / "shards"),
        "--vectors",
        str(vectors_file),
        "--out",
        str(tmp_path / "run"),
    ]
    result = CliRunner().invoke(main, [*words, *FEW, *more])
    assert result.exit_code == 2
    assert "the val split has no emoji that can be learned: those of all 5 tuples" in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", [(), ("--emoji-residual",)], ids=["tied", "with a residual"])
def test_emojis_that_share_a_vector_are_told_unless_something_tells_them_apart(
    invoke: Callable[..., Result], vectors_file: Path, tmp_path: Path, option: tuple[str, ...]
):
    vectors = load_vectors(vectors_file)
    matrix = vectors.matrix.copy()
    matrix[1] = matrix[0]
    save_vectors(keyed(vectors.emojis, matrix), tmp_path / "alike.bin")
    result = invoke(*FEW, "--vectors", str(tmp_path / "alike.bin"), *option)
    assert result.exit_code == 0, result.output
    assert ("2 emojis have the vector of another one" in result.stdout) == (not option)


@pytest.fixture
def deny(tmp_path: Path) -> Callable[..., list[str]]:
    """Writes a deny list, and gives the option."""

    def write(*lines: str) -> list[str]:
        (tmp_path / "deny.txt").write_text("\n".join(lines), encoding="utf-8")
        return ["--deny", str(tmp_path / "deny.txt")]

    return write


def test_a_model_cannot_say_what_was_denied_at_training(invoke, deny, tmp_path: Path):
    result = invoke(*FEW, *deny("😍", "❤️"))
    assert result.exit_code == 0, result.output
    assert " tuples have a denied emoji; they count with weight 0.\n" in result.stdout
    assert "without a vector" not in result.stdout and result.stderr.count("no effect") == 0
    snapshot = load_snapshot(tmp_path / "run/snapshots/step-00000004")
    assert "😍" not in snapshot.facts.vocabulary and len(snapshot.facts.vocabulary) == 7


def test_a_run_goes_on_with_the_same_deny_list_alone(invoke, deny):
    assert invoke(*FEW, *deny("😍", "🔥")).exit_code == 0
    again = invoke(*FEW, *deny("🔥", "# the same", "😍", "🔥"))
    assert again.exit_code == 0 and "resumed at step 4" in again.stdout, again.output
    other = invoke(*FEW, *deny("😍"))
    assert other.exit_code == 2
    assert "was made with another data.deny (['🔥', '😍'], now ['😍'])." in other.stderr
    assert invoke(*FEW).exit_code == 2  # with none


def test_accounts_and_words_of_a_deny_list_are_told_to_have_no_effect(invoke, deny, tmp_path: Path):
    result = invoke("--dry-run", *deny("😍", "@ann", "spam", "buy now"))
    what = f"1 accounts and 2 words of {tmp_path}/deny.txt have no effect on a training; "
    assert result.stderr == what + "`emojigan shards build --deny` leaves them out.\n"
    assert planned(result).data.deny == ("😍",)


def test_a_deny_list_without_emojis_is_refused(invoke, deny, tmp_path: Path):
    result = invoke(*FEW, *deny("@ann", "spam"))
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert f"{tmp_path}/deny.txt has no emoji, and nothing else has an effect on a training." in result.stderr
    assert not (tmp_path / "run").exists()
