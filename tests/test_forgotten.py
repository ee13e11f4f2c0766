"""A run outlives what is forgotten of its dataset, and what was trained with it is told and marked."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from emojigan.datasets.build.dataset import build_shards
from emojigan.datasets.build.labels import hash_account
from emojigan.datasets.build.options import BuildOptions
from emojigan.datasets.build.survey import Source
from emojigan.datasets.care.forget import forget
from emojigan.datasets.emojis.vectors.word2vec import keyed, save_vectors
from emojigan.datasets.errors import InputError
from emojigan.datasets.posts.post import Post
from emojigan.datasets.shards.index import Index
from emojigan.datasets.shards.manifest import Manifest, read_manifest
from emojigan.datasets.store.folder import LocalFolder
from emojigan.launch.cli import main
from emojigan.trainer.config import Config, read_config
from emojigan.trainer.facts import read_facts
from emojigan.trainer.forgotten import TAG, read_mark
from emojigan.trainer.inputs import Inputs, read_inputs
from emojigan.trainer.run import REPORT_PAGE, Origin
from emojigan.trainer.runtime.ranks import check_same_start, code_digest
from emojigan.trainer.tracking.mlflow_run import run_id_of
from emojigan.trainer.validation import read_val

EMOJIS = "😍😂🔥🐶🌊🍕🎉💔🦄"
ZOE = "zoe-7"  # the only one who posts 🦄
STEPS = 16
OPTIONS = (
    "--trunk-width 4 --feature-dim 8 --hidden-dim 16 --latent-dim 4 --batch-size 16 --precision float32 "
    f"--num-critic-steps 1 --steps {STEPS} --log-steps 1 --checkpoint-steps 8 --snapshot-steps 8 "
    "--weights exponential --k 2"
).split()


def hashed(account: str) -> str:
    return hash_account(Post("", account, ()))


def manifest_of(folder: Path) -> Manifest:
    return read_manifest(LocalFolder(folder))


def without(folder: Path, *accounts: str) -> None:
    forget(LocalFolder(folder), [hashed(each) for each in accounts], dry_run=False, workers=1)


def accounts_in(folder: Path, split: str) -> list[str]:
    """The hashes of the accounts of a split, those with the most posts first."""
    found = [
        account
        for shard in manifest_of(folder).of_split(split)
        for account in Index.from_bytes((folder / shard.index).read_bytes()).accounts
    ]
    return sorted(set(found), key=lambda each: (-found.count(each), each))


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def folder(posts_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """shards, in which Zoe has six posts with 🦄, vectors.bin, and the database of an MLflow."""
    folder = tmp_path_factory.mktemp("forgotten")
    posts = shutil.copytree(posts_folder, folder / "posts")
    with open(posts / "posts.jsonl", "a", encoding="utf-8") as table:
        for number in range(6):
            pixels = np.random.default_rng(1000 + number).integers(0, 256, (64, 64, 3), np.uint8)
            Image.fromarray(pixels).save(posts / f"zoe{number}.png")
            post = {"id": f"zoes{number}", "account": ZOE, "image": f"zoe{number}.png", "text": "🦄 🔥"}
            table.write(json.dumps(post) + "\n")
    options = BuildOptions(images_per_shard=50)
    build_shards(
        Source([posts / "posts.jsonl"]), LocalFolder(folder / "shards"), options, workers=1, max_bad=0
    )
    assert hashed(ZOE) in accounts_in(folder / "shards", "train")
    assert "🦄" in manifest_of(folder / "shards").vocabulary
    matrix = np.random.default_rng(1).normal(size=(len(EMOJIS), 300)).astype(np.float32)
    save_vectors(keyed(list(EMOJIS), matrix), folder / "vectors.bin")
    return folder


def command(place: Path, *words: str | Path) -> Result:
    """Run a command in a folder, with the MLflow that is there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place / 'mlflow.db'}")
        return CliRunner().invoke(main, [str(word) for word in words])


def train(place: Path, run: Path, *more: str) -> list[str]:
    vectors = ["--vectors", str(place / "vectors.bin"), "--out", str(run)]
    return ["train", str(place / "shards"), *vectors, *OPTIONS, *more]


def forgetting(place: Path, *more: str | Path) -> list[str | Path]:
    return ["shards", "forget", place / "shards", "--workers", "1", *more]


EVALUATE = ("--baseline-steps", "4")


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    """A run of all steps, evaluated and registered as tiny."""
    run = folder / "runs" / "first"
    for words in (train(folder, run), ["evaluate", run, *EVALUATE], ["register", run, "--name", "tiny"]):
        result = command(folder, *words)
        assert result.exit_code == 0, result.output
    return run


def interrupted(folder: Path, place: Path) -> Path:
    """Copy the folder; in the copy, runs/first was interrupted after 8 of its 16 steps."""
    shutil.copytree(folder, place, ignore=shutil.ignore_patterns("posts", "mlruns"))
    run = place / "runs" / "first"
    for name in ("checkpoints/step-00000016", "snapshots/step-00000016"):
        shutil.rmtree(run / name)
    places = json.loads((run / "inputs.json").read_text())
    places |= {"shards": str(place / "shards"), "vectors": str(place / "vectors.bin")}
    (run / "inputs.json").write_text(json.dumps(places))
    return place


@pytest.fixture
def place(folder: Path, trained: Path, tmp_path: Path) -> Path:
    return interrupted(folder, tmp_path / "place")


@pytest.fixture
def emojigan(place: Path) -> Callable[..., Result]:
    return partial(command, place)


def told(*events: dict) -> str:
    posts, accounts = sum(event["posts"] for event in events), sum(len(event["forgot"]) for event in events)
    return f"The dataset lost {posts} posts of {accounts} accounts since this run began (forgotten); it "


# Going on.


@dataclass(frozen=True)
class Left:
    """A run that went on and was evaluated after people were forgotten, and what was said then."""

    place: Path
    trained: Result
    evaluated: Result
    datasets: tuple[str, str, str]  # before, without Zoe, without somebody who was held out
    names: set[str]  # of both
    posts: set[str]  # of the one who was held out


@pytest.fixture(scope="module")
def left(folder: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Left:
    place = interrupted(folder, tmp_path_factory.mktemp("left") / "place")
    run, shards = place / "runs" / "first", place / "shards"
    (held_out, *_) = accounts_in(shards, "test")
    posts = {
        post
        for shard in manifest_of(shards).of_split("test")
        for index in [Index.from_bytes((shards / shard.index).read_bytes())]
        for post, account in zip(index.posts, index.accounts, strict=True)
        if account == held_out
    }
    datasets, results = [manifest_of(shards).sha256()], []
    for who, words in (
        (("--account", ZOE), train(place, run)),
        (("--hash", held_out), ["evaluate", run, *EVALUATE]),
    ):
        assert command(place, *forgetting(place, *who)).exit_code == 0
        datasets.append(manifest_of(shards).sha256())
        results.append(command(place, *words))
        assert results[-1].exit_code == 0, results[-1].output
    names = {ZOE, hashed(ZOE), held_out, *(f"zoes{number}" for number in range(6))}
    return Left(place, *results, tuple(datasets), names, posts)


def test_a_run_goes_on_with_what_is_left(left: Left):
    run, (before, after, _) = left.place / "runs" / "first", left.datasets
    assert "resumed at step 8 of 16" in left.trained.stdout
    (first, _) = manifest_of(left.place / "shards").history
    assert told(first) + "goes on with what is left.\n" in left.trained.stderr
    state = json.loads((run / "checkpoints" / "step-00000016" / "state.json").read_text())
    assert state["identity"]["dataset"] == after
    origin = json.loads((run / "inputs.json").read_text())["origin"]
    assert origin["datasets"] == [[0, before], [8, after]]
    facts = [read_facts(run / "snapshots" / name) for name in ("step-00000008", "step-00000016")]
    assert facts[0].vocabulary == facts[1].vocabulary and "🦄" in facts[1].vocabulary
    assert [each.dataset for each in facts] == [before, before]  # all that it was trained with was in that


def test_an_evaluation_is_of_what_is_left_and_says_so(left: Left, folder: Path):
    history = manifest_of(left.place / "shards").history
    assert told(*history) + "is judged on what is left.\n" in left.evaluated.stderr
    page = (left.place / "runs" / "first" / "report" / "index.html").read_text(encoding="utf-8")
    before, after = (
        sum(shard.images for shard in manifest_of(each / "shards").of_split("test"))
        for each in (folder, left.place)
    )
    assert after < before and f"{after} images" in page
    assert "since this run began (forgotten)" in page


def test_no_byte_of_a_run_names_whom_it_forgot(left: Left, trained: Path):
    """Neither as account nor by a post, once it has gone on and was evaluated again."""
    named = [re.compile(rf"\bpost {post}\b".encode()) for post in left.posts]
    assert any(each.search((trained / "report" / "index.html").read_bytes()) for each in named)
    named += [re.compile(re.escape(name.encode())) for name in left.names]
    for path, content in contents(left.place / "runs" / "first").items():
        assert not [each for each in named if each.search(content) or each.search(str(path).encode())], path


def test_a_run_that_goes_on_ends_alike_however_often_it_is_interrupted(
    place: Path, tmp_path: Path, emojigan: Callable[..., Result]
):
    without(place / "shards", ZOE)
    other = shutil.copytree(place / "runs" / "first", tmp_path / "other")
    for run, more in ((place / "runs" / "first", ()), (other, ("--checkpoint-steps", "3"))):
        assert emojigan(*train(place, run, *more)).exit_code == 0
    shutil.rmtree(other / "checkpoints" / "step-00000016")
    assert "resumed at step 15" in emojigan(*train(place, other)).output
    name = "checkpoints/step-00000016/state.safetensors"
    assert (other / name).read_bytes() == (place / "runs" / "first" / name).read_bytes()


@pytest.mark.soak
def test_two_ranks_go_on_with_what_is_left(place: Path, environment: dict[str, str]):
    run = place / "runs" / "first"
    without(place / "shards", ZOE)
    words = ["torchrun", "--standalone", "--nproc_per_node", "2", "--no-python", "emojigan"]
    done = subprocess.run(
        [*words, *train(place, run)],
        env={**environment, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(told(*manifest_of(place / "shards").history)) == 1
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train/nll" in line] == list(range(1, STEPS + 1))


@pytest.mark.parametrize(
    ("mine", "told"),
    [
        ((4, "b", "c"), r"checkpoints of steps \[4, 8\]"),
        ((8, "a", "c"), "different datasets"),
        ((8, "b", "d"), "different vectors"),
    ],
)
def test_ranks_that_found_something_else_do_not_begin(mine: tuple[int, str, str], told: str):
    class Two:
        device, num_processes = "cpu", 2

        def gather(self, mine: torch.Tensor) -> torch.Tensor:
            digests = ("b" * 15, "c" * 15, code_digest()[:15])
            return torch.cat([mine, torch.tensor([[8, *(int(each, 16) for each in digests)]])])

    check_same_start(Two(), 8, "b" * 64, "c" * 64)  # pyright: ignore[reportArgumentType]
    step, dataset, vectors = mine
    with pytest.raises(InputError, match=told):
        check_same_start(Two(), step, dataset * 64, vectors * 64)  # pyright: ignore[reportArgumentType]


def test_forgotten_people_do_not_come_back_into_a_run(
    place: Path, folder: Path, emojigan: Callable[..., Result]
):
    """An older copy of the dataset is refused, and nobody is asked to put anything back."""
    run = place / "runs" / "first"
    without(place / "shards", ZOE)
    assert emojigan(*train(place, run)).exit_code == 0
    shutil.rmtree(place / "shards")
    shutil.copytree(folder / "shards", place / "shards")
    for words in (train(place, run), ["evaluate", run]):
        result = emojigan(*words)
        assert result.exit_code == 2 and result.stderr.count("\n") == 1
        assert "as it is after every `emojigan shards forget`" in result.stderr
        assert "back" not in result.stderr.lower()


def test_another_dataset_is_refused_though_it_lost_somebody(
    place: Path, posts_folder: Path, tmp_path: Path, emojigan: Callable[..., Result]
):
    shutil.rmtree(place / "shards")
    source, options = Source([posts_folder / "posts.jsonl"]), BuildOptions(images_per_shard=40)
    build_shards(source, LocalFolder(place / "shards"), options, workers=1, max_bad=0)
    without(place / "shards", "Ann1")
    for words in (train(place, place / "runs" / "first"), ["evaluate", place / "runs" / "first"]):
        result = emojigan(*words)
        assert result.exit_code == 2 and "as it is after every `emojigan shards forget`" in result.stderr


def test_a_dataset_whose_beginning_is_not_known_is_refused(place: Path, emojigan: Callable[..., Result]):
    """The checkpoint is of a dataset that is known; what that was before is not, as an event does not say."""
    run, shards = place / "runs" / "first", place / "shards"
    without(shards, ZOE)
    assert emojigan(*train(place, run)).exit_code == 0
    without(shards, "Ann1")
    manifest = json.loads((shards / "manifest.json").read_text(encoding="utf-8"))
    del manifest["history"][0]["from"]
    (shards / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    for words in (train(place, run), ["evaluate", run]):
        result = emojigan(*words)
        assert result.exit_code == 2 and result.stderr.count("\n") == 1
        assert f"{shards} is not the dataset that {run} was trained on, as it is after" in result.stderr


def test_a_dataset_of_which_everybody_is_forgotten_is_refused_in_one_line(
    place: Path, emojigan: Callable[..., Result]
):
    shards = place / "shards"
    forget(LocalFolder(shards), accounts_in(shards, "train"), dry_run=False, workers=1)
    for run in (place / "runs" / "first", place / "runs" / "new"):
        result = emojigan(*train(place, run))
        assert result.exit_code == 2 and result.stderr.count("\n") == 1
        assert "the train split is empty since accounts were forgotten" in result.stderr


def test_a_run_that_begins_again_has_no_mark(place: Path, emojigan: Callable[..., Result]):
    """Neither in its folder nor in MLflow."""
    run, client = place / "runs" / "first", mlflow.MlflowClient(f"sqlite:///{place / 'mlflow.db'}")
    run_id = run_id_of(run)
    assert run_id
    without(place / "shards", ZOE)
    assert emojigan(*train(place, run)).exit_code == 0
    assert read_mark(run) and TAG in client.get_run(run_id).data.tags
    shutil.rmtree(run / "checkpoints")
    result = emojigan(*train(place, run))
    assert result.exit_code == 0 and "forgotten" not in result.stderr
    assert read_mark(run) is None
    assert run_id_of(run) == run_id and TAG not in client.get_run(run_id).data.tags


def test_a_run_whose_val_split_is_forgotten_goes_on_unscored(place: Path, emojigan: Callable[..., Result]):
    """It is evaluated by its best scored snapshot, or by its last."""
    run, shards = place / "runs" / "first", place / "shards"
    forget(LocalFolder(shards), accounts_in(shards, "val"), dry_run=False, workers=1)
    assert not manifest_of(shards).of_split("val")
    result = emojigan(*train(place, run))
    assert result.exit_code == 0, result.output
    assert result.stderr.count("All of val that could score a snapshot is forgotten") == 1
    (first, last) = (run / "snapshots" / name for name in ("step-00000008", "step-00000016"))
    assert read_facts(first).scores and not read_facts(last).scores
    for snapshot, told in ((first, "step 8, the best on the val split"), (last, "step 16, the last: ")):
        result = emojigan("evaluate", run, *EVALUATE)
        assert result.exit_code == 0, result.output
        assert json.loads((run / "evaluation.json").read_text())["snapshot"] == snapshot.name
        assert told in (run / REPORT_PAGE).read_text(encoding="utf-8")
        shutil.rmtree(snapshot)
    result = emojigan(*train(place, place / "runs" / "second"))
    assert result.exit_code == 2 and "the val split is empty" in result.stderr  # nothing begins without


def test_a_val_split_without_an_emoji_to_say_is_forgotten_only_where_something_was(place: Path):
    before = inputs_of(place, "none")
    without(place / "shards", ZOE)
    after = inputs_of(place, "none", before.origin)
    assert read_val(before) and read_val(after)
    assert read_val(replace(after, vocabulary=("🦄", "🦖"))) is None
    with pytest.raises(InputError, match="the val split has no emoji that can be learned"):
        read_val(replace(before, vocabulary=("🦄", "🦖")))


def inputs_of(place: Path, scheme: str, origin: Origin | None = None) -> Inputs:
    config = Config.model_validate({"objective": {"weights": scheme, "k": 2}})
    return read_inputs(config, LocalFolder(place / "shards"), place / "vectors.bin", origin)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), scheme=st.sampled_from(["none", "exponential", "tfidf"]))
def test_an_emoji_means_the_same_whatever_was_forgotten(folder: Path, data: st.DataObject, scheme: str):
    """Its vector, its weight and its place are those of the beginning, bit for bit."""
    accounts = accounts_in(folder / "shards", "train")
    gone = data.draw(st.sets(st.sampled_from(accounts), min_size=1, max_size=len(accounts) // 2))
    place = folder / "less"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder / "shards", place / "shards")
    shutil.copy(folder / "vectors.bin", place)
    before = inputs_of(place, scheme)
    forget(LocalFolder(place / "shards"), gone, dry_run=False, workers=1)
    after = inputs_of(place, scheme, before.origin)
    assert after.vocabulary == before.vocabulary
    assert torch.equal(after.vectors, before.vectors)
    assert np.array_equal(after.weights, before.weights)
    names = list(before.train.manifest.vocabulary)
    kept = [names.index(emoji) for emoji in after.train.manifest.vocabulary]
    assert torch.equal(after.ids, before.ids[kept])
    assert torch.equal(after.tuple_weights, before.tuple_weights[kept])


# Telling and marking.


def test_forget_tells_and_marks_what_was_trained_with_the_account(
    place: Path, emojigan: Callable[..., Result]
):
    """The run's folder, its MLflow run and its registered model; the command that it prints works."""
    run, uri = place / "runs" / "first", f"sqlite:///{place / 'mlflow.db'}"
    client = mlflow.MlflowClient(uri)
    client.set_registered_model_alias("tiny", "champion", "1")
    run_id = run_id_of(run)
    assert run_id
    telling = forgetting(place, "--account", ZOE, "--runs", place / "runs", "--mlflow")

    def tags() -> tuple[str | None, str | None]:
        version = client.get_model_version("tiny", "1")
        return client.get_run(run_id).data.tags.get(TAG), version.tags.get(TAG)

    before = contents(run)
    dry = emojigan(*telling, "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert contents(run) == before and tags() == (None, None)
    result = emojigan(*telling)
    assert result.exit_code == 0, result.output
    assert result.stdout == dry.stdout.replace("Would forget", "Forgot").replace("it would be", "it is")
    for name in (str(run), f"run first of MLflow ({run_id})", "models:/tiny/1 (@champion)"):
        assert f"\n{name} " in result.stdout
    mark = read_mark(run)
    assert mark and (mark.accounts, mark.posts, mark.train_tuples) == (1, 6, 12)
    assert tags() == (mark.to_json(), mark.to_json())
    assert ZOE not in mark.to_json() and hashed(ZOE) not in mark.to_json()

    # The two commands train it again: that of the folder, and that of MLflow, once its places are filled in.
    lines = [line.removeprefix("  emojigan ") for line in result.stdout.splitlines()]
    ours, theirs = (shlex.split(line) for line in lines if line.startswith("train "))
    filled_in = {"FILE": str(place / "vectors.bin"), "RUN": str(place / "third")}
    config = read_config(run / "config.yaml")
    for words, again in ((ours, f"{run}-retrained"), (theirs, place / "third")):
        assert emojigan(*(filled_in.get(word, word) for word in words)).exit_code == 0
        assert read_config(Path(again) / "config.yaml").model_copy(update={"run": config.run}) == config
        assert read_mark(Path(again)) is None

    assert "retrained was trained" not in emojigan(*telling).stdout


def test_a_forgetting_that_was_killed_before_it_told_tells_when_it_is_run_again(
    place: Path, emojigan: Callable[..., Result]
):
    run = place / "runs" / "first"
    without(place / "shards", ZOE)  # and killed
    result = emojigan(*forgetting(place, "--account", ZOE, "--runs", run))
    assert result.exit_code == 0
    assert f"{run} was trained with 12 of the tuples that went with them: it is marked." in result.stdout
    mark = read_mark(run)
    assert mark is not None


def test_the_day_of_a_mark_is_the_first(place: Path, emojigan: Callable[..., Result]):
    run, words = place / "runs" / "first", forgetting(place, "--runs", place / "runs")
    assert emojigan(*words, "--account", ZOE).exit_code == 0
    mark = read_mark(run)
    assert mark
    (run / "forgotten.json").write_text(replace(mark, date="2001-01-01").to_json())
    assert emojigan(*words, "--account", ZOE).exit_code == 0
    assert read_mark(run) == replace(mark, date="2001-01-01")
    somebody = accounts_in(place / "shards", "train")[0]
    assert emojigan(*words, "--hash", somebody).exit_code == 0
    later = read_mark(run)
    assert later and (later.date, later.accounts) == ("2001-01-01", 2)


def test_who_was_held_out_marks_no_run(place: Path, emojigan: Callable[..., Result]):
    run = place / "runs" / "first"
    (held_out, *_) = accounts_in(place / "shards", "test")
    uri = f"sqlite:///{place / 'mlflow.db'}"
    words = forgetting(place, "--hash", held_out, "--runs", place / "runs", "--mlflow")
    told = emojigan(*words).stdout
    for name in (str(run), "run first of MLflow", "models:/tiny/1"):
        assert re.search(rf"^{name}.* was not trained with them: they were held out\.$", told, re.MULTILINE)
    assert f"{run / REPORT_PAGE} may show their pictures. Make it again:\n  emojigan evaluate {run}\n" in told
    assert "Its report in MLflow" in told and "In its place" not in told
    assert read_mark(run) is None and TAG not in mlflow.MlflowClient(uri).get_model_version("tiny", "1").tags


def test_what_is_told_is_of_those_who_are_named(place: Path, emojigan: Callable[..., Result]):
    """Who was held out was not trained with, though somebody was before; the mark counts both."""
    run, words = place / "runs" / "first", forgetting(place, "--runs", place / "runs", "--mlflow")
    (held_out, *_) = accounts_in(place / "shards", "test")
    assert emojigan(*words, "--account", ZOE).exit_code == 0
    told = emojigan(*words, "--hash", held_out).stdout
    assert told.count("was not trained with them: they were held out.") == 3 and "was trained" not in told
    mark = read_mark(run)
    assert mark and (mark.accounts, mark.train_tuples) == (2, 12)
    (somebody, *_) = accounts_in(place / "shards", "train")
    told = emojigan(*words, "--hash", somebody).stdout
    went = manifest_of(place / "shards").history[-1]["train"]
    assert told.count(f"was trained with {went} of the tuples that went with them: it is marked.") == 3


def test_a_run_that_began_after_the_forgetting_is_not_told(place: Path, emojigan: Callable[..., Result]):
    without(place / "shards", ZOE)
    assert emojigan(*train(place, place / "runs" / "later", "--steps", "1")).exit_code == 0
    words = forgetting(place, "--account", ZOE, "--runs", place / "runs" / "later")
    result = emojigan(*words)
    assert result.exit_code == 0 and "trained" not in result.stdout


def test_a_folder_without_runs_and_a_damaged_run_are_told(place: Path, emojigan: Callable[..., Result]):
    (place / "empty").mkdir()
    shutil.copytree(place / "runs" / "first", place / "runs" / "a-damaged")
    (place / "runs" / "a-damaged" / "inputs.json").write_text("{")
    words = forgetting(place, "--account", ZOE, "--runs", place / "empty")
    result = emojigan(*words, "--runs", place / "runs")
    assert result.exit_code == 0
    assert f"{place / 'empty'} holds no run.\n" in result.stderr
    assert f"{place / 'runs' / 'a-damaged'} cannot be looked at: " in result.stderr
    assert f"{place / 'runs' / 'first'} was trained with" in result.stdout


def test_a_marked_model_says_so_when_it_is_registered_and_when_it_is_asked(
    place: Path, trained: Path, posts_folder: Path, emojigan: Callable[..., Result]
):
    run, uri = place / "runs" / "first", f"sqlite:///{place / 'mlflow.db'}"
    photo = posts_folder / "images" / "0.png"
    shutil.copytree(trained / "snapshots", run / "snapshots", dirs_exist_ok=True)
    shutil.copy(trained / "evaluation.json", run)
    assert "forgotten" not in emojigan("predict", "models:/tiny/1", photo).stderr
    words = forgetting(place, "--account", ZOE, "--runs", run)
    assert emojigan(*words).exit_code == 0
    mark = read_mark(run)
    assert mark
    result = emojigan("register", run, "--name", "tiny")
    assert result.exit_code == 0, result.output
    warning = f"was trained with 12 tuples that are forgotten since {mark.date}."
    assert f"Warning: it {warning}" in result.stderr
    assert mlflow.MlflowClient(uri).get_model_version("tiny", "1").tags[TAG] == mark.to_json()
    result = emojigan("predict", "models:/tiny/1", photo, "--json")
    assert result.exit_code == 0, result.output
    assert f"Warning: models:/tiny/1 {warning}\n" in result.stderr
    assert json.loads(result.stdout)


# Runs of versions that did not note what their dataset was.


def test_a_run_of_an_earlier_version_is_found_and_goes_on_only_with_the_same_dataset(
    place: Path, emojigan: Callable[..., Result]
):
    run = place / "runs" / "first"
    places = json.loads((run / "inputs.json").read_text())
    origin = places.pop("origin")
    (run / "inputs.json").write_text(json.dumps(places))
    kept = shutil.copytree(run, place / "runs" / "second")
    assert emojigan(*train(place, run)).exit_code == 0
    assert json.loads((run / "inputs.json").read_text())["origin"] == origin
    result = emojigan(*forgetting(place, "--account", ZOE, "--runs", kept))
    assert f"{kept} was trained with 12 of the tuples that went with them: it is marked." in result.stdout
    assert emojigan(*train(place, run)).exit_code == 0  # it has noted it by now
    result = emojigan(*train(place, kept))
    assert result.exit_code == 2 and "was made with another dataset" in result.stderr
