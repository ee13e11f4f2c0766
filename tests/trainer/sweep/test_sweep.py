"""A sweep from its creation to its report, by the command line: trainings of the product, on folds."""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

from emojigan.datasets.build.dataset import build_shards
from emojigan.datasets.build.options import BuildOptions
from emojigan.datasets.build.survey import Source
from emojigan.datasets.store.folder import LocalFolder
from emojigan.datasets.store.lock import writing
from emojigan.launch.cli import main
from emojigan.trainer.config import Config, RunConfig
from emojigan.trainer.evaluation.compare import compare_runs
from emojigan.trainer.evaluation.judge import keys_without_truth
from emojigan.trainer.run import read_beginning
from emojigan.trainer.sweep import work
from emojigan.trainer.sweep.plan import read_sweep, write_sweep
from emojigan.trainer.sweep.report import report
from emojigan.trainer.tracking.mlflow_run import begin_parent, run_id_of

from ...conftest import TINY_NETWORKS
from ...stores import postgresql
from ...trainings import PROGRAM, ended, metrics, wait

RATES = [1e-3, 3e-2]
TRIED = ["--grid", "dropout=0,.5"]


def command(*words: object) -> Result:
    return CliRunner().invoke(main, ["sweep", *map(str, words)])


def told(*words: object) -> str:
    result = command(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def swept(folded: Path, vectors_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two learning rates on two folds, by two workers, one after the other."""
    folder = tmp_path_factory.mktemp("sweeps") / "a first"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder.parent / 'mlflow.db'}")
        words = [folded, "--vectors", vectors_file, "--out", folder, *TINY_NETWORKS, "--steps", 8]
        created = told("create", *words, "--grid", "learning-rate=1e-3,3e-2")
        assert "4 trials over 2 folds" in created and f"emojigan sweep work '{folder}'\n" in created
        assert "No trial is complete yet.\nemojigan sweep work" in told("report", folder)
        assert "1 complete, 3 waiting" in told("work", folder, "--trials", 1)
        assert "4 complete\n" in told("work", folder)
        yield folder


def test_each_configuration_is_scored_on_each_fold_by_a_run_that_has_not_seen_it(swept: Path):
    runs = {run.parent.name + run.name: run for run in swept.glob("trials/*/fold-*")}
    configs = [read_beginning(runs[name])[0] for name in sorted(runs)]
    tried = [(config.optimizer.learning_rate, config.data.fold) for config in configs]
    assert tried == [(rate, fold) for rate in RATES for fold in (0, 1)]
    found = {result.point["learning_rate"]: result for result in report(swept).results}
    for name, run in runs.items():
        (scored,) = compare_runs([run]).models
        rate, fold = tried[int(name[:4])]
        assert found[rate].scores[fold] == scored.scores["reaction_nll"]
        assert {*scored.scores} == {*keys_without_truth(whole=True)}  # as `create` knows beforehand
    assert [result.mean for result in report(swept).results] == sorted(each.mean for each in found.values())


def test_its_report_tells_the_spread_and_a_command_that_trains_the_best_on_all_folds(swept: Path):
    lines = told("report", swept).splitlines()
    best = report(swept).results[0]
    values = np.array([*best.scores.values()])
    assert f"{values.mean():.4f}  {values.std(ddof=1):.4f}" in next(
        each for each in lines if each.startswith("--")
    )
    program, *words = shlex.split(next(line for line in lines if line.startswith("emojigan train")))
    dry = CliRunner().invoke(main, [*words, "--dry-run"])
    assert program == "emojigan" and dry.exit_code == 0, dry.output
    assert f"learning_rate: {best.point['learning_rate']}" in dry.stdout and "fold: null" in dry.stdout
    assert best.label in (swept / "report.html").read_text(encoding="utf-8")


def test_its_runs_stand_under_one_of_mlflow(swept: Path):
    client, (sweep, _) = mlflow.MlflowClient(os.environ["MLFLOW_TRACKING_URI"]), read_sweep(swept)
    for run in swept.glob("trials/*/fold-*"):
        assert client.get_run(run_id_of(run)).data.tags["mlflow.parentRunId"] == sweep.parent
    parent = client.get_run(sweep.parent)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics == {"best/reaction_nll": report(swept).results[0].mean}


def test_what_does_not_fit_in_memory_has_failed_and_the_next_is_taken(
    swept: Path, folded: Path, vectors_file: Path, tmp_path: Path
):
    """A worker that completed none ends with 1, and the report tells what failed."""
    out, grid = tmp_path / "out", ["--grid", "hidden-dim=100000000000000"]
    told("create", folded, "--vectors", vectors_file, "--out", out, *TINY_NETWORKS, *grid)
    result = command("work", out)
    failed = [f"trial {number} has failed: it does not fit in this device's memory." for number in (0, 1)]
    assert result.exit_code == 1 and "All trials that were taken here have failed" in result.stderr
    assert [line for line in result.stdout.splitlines() if "has failed" in line] == failed
    lines = told("report", out).splitlines()
    assert [line for line in lines if "has failed" in line] == failed
    assert f"emojigan sweep repair {out}" in lines
    assert "does not fit" in (out / "report.html").read_text(encoding="utf-8")
    parent = mlflow.MlflowClient(os.environ["MLFLOW_TRACKING_URI"]).get_run(read_sweep(out)[0].parent)
    assert parent.info.status == "FAILED" and "sweep repair" in parent.data.tags["emojigan.command"]


def test_the_folder_of_a_run_is_no_place_for_a_sweep(swept: Path):
    sweep, _ = read_sweep(swept)
    run = swept / "trials" / "0000" / "fold-0"
    result = command("create", sweep.shards, "--vectors", sweep.vectors, "--out", run, *TRIED)
    assert result.exit_code == 2 and "holds a run. A sweep needs a folder of its own" in result.stderr
    assert not (run / "sweep.yaml").exists()


def test_of_two_sweeps_created_at_once_in_a_folder_one_is_refused(
    folded: Path, vectors_file: Path, tmp_path: Path, environment: dict[str, str]
):
    words = ["sweep", "create", folded, "--vectors", vectors_file, "--out", tmp_path / "out", *TINY_NETWORKS]
    both = [
        subprocess.Popen(
            [*PROGRAM, *map(str, words), "--grid", grid],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for grid in ("dropout=0,.5", "learning-rate=1e-3,2e-3,3e-3")
    ]
    said = [process.communicate(timeout=120) for process in both]
    assert sorted(process.returncode for process in both) == [0, 2], said
    ((_, refused),) = (each for each, process in zip(said, both, strict=True) if process.returncode)
    assert "holds a sweep already" in refused or "is being written by" in refused
    assert f"{read_sweep(tmp_path / 'out')[0].trials} waiting" in told("report", tmp_path / "out")


@pytest.mark.parametrize("other", ["shards", "vectors"])
def test_a_worker_refuses_what_the_other_trials_were_not_trained_on(swept: Path, tmp_path: Path, other: str):
    copy = shutil.copytree(swept, tmp_path / "copy")
    sweep, config = read_sweep(copy)
    another = {"dataset": "0" * 64} if other == "shards" else {"vectors_sha256": "0" * 64}
    write_sweep(copy, replace(sweep, **another), config)
    result = command("work", copy)
    assert result.exit_code == 2 and "that the sweep was created" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_each_of_many_configurations_is_compiled(
    folded: Path, vectors_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Torch keeps eight variants of a function, and runs a ninth as it is."""

    class Dropped(nn.Module):
        def __init__(self, rate: float) -> None:
            super().__init__()
            self.rate = rate

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return inputs * self.rate

    def compiler(graph: torch.fx.GraphModule, inputs: Sequence[torch.Tensor]) -> Callable:
        compiled.append(graph)
        return graph.forward

    def train(settings: RunConfig, settle: Callable[[], Config], *rest: object) -> None:
        module = torch.compile(Dropped(settle().optimizer.dropout), backend=compiler, dynamic=False)
        assert module(torch.ones(2)).sum() == 2 * settle().optimizer.dropout

    compiled: list[torch.fx.GraphModule] = []
    scored = SimpleNamespace(models=[SimpleNamespace(scores={"reaction_nll": 1.0})])
    monkeypatch.setattr(work, "train", train)
    monkeypatch.setattr(work, "compare_runs", lambda runs: scored)
    rates = ",".join(f"{number / 16}" for number in range(1, 11))
    words = [folded, "--vectors", vectors_file, "--out", tmp_path / "out", *TINY_NETWORKS]
    told("create", *words, "--grid", f"dropout={rates}")
    assert "20 complete" in told("work", tmp_path / "out") and len(compiled) == 20


def test_a_sweep_that_cannot_be_written_is_not_begun_in_mlflow(
    swept: Path, folded: Path, vectors_file: Path, tmp_path: Path
):
    (tmp_path / "file").touch()

    def runs() -> int:
        return len(client.search_runs([each.experiment_id for each in client.search_experiments()]))

    client = mlflow.MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    before = runs()
    words = [folded, "--vectors", vectors_file, "--out", tmp_path / "file" / "x", *TINY_NETWORKS, *TRIED]
    result = command("create", *words)
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1, result.output
    assert runs() == before


def test_a_complete_sweep_is_told_where_mlflow_does_not_know_it(swept: Path, tmp_path: Path):
    copy = shutil.copytree(swept, tmp_path / "copy")
    sweep, config = read_sweep(copy)
    write_sweep(copy, replace(sweep, parent="0" * 32), config)
    result = command("work", copy)
    assert result.exit_code == 0 and result.stdout == "trials: 4 complete\n"
    (line,) = result.stderr.splitlines()
    assert line.startswith("MLflow at sqlite:") and "not found. What came out is not told there" in line


def test_trainings_that_mlflow_missed_are_told_once_when_it_is_there(
    swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """And stand under the sweep's run, as the others; but not those whose folders or runs are deleted."""
    copy = shutil.copytree(swept, tmp_path / "copy")
    sweep, config = read_sweep(copy)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address := f"sqlite:///{tmp_path / 'mlflow.db'}")
    write_sweep(copy, replace(sweep, parent=begin_parent("copy", "It knows none yet.")), config)
    shutil.rmtree(copy / "trials" / "0003")
    with writing(LocalFolder(copy / "trials" / "0000" / "fold-0"), "emojigan train"):
        result = command("work", copy)
        assert result.exit_code == 2 and "is being written by `emojigan train`" in result.stderr
        assert result.stderr.startswith("Error: ") and len(result.stderr.splitlines()) == 1
    said, client = told("work", copy), mlflow.MlflowClient(address)
    assert [line for line in said.splitlines() if line.startswith("trial ")] == [
        f"trial {number}, fold {number % 2}: MLflow lacks some of it." for number in range(3)
    ]
    for run in copy.glob("trials/*/fold-*"):
        found = client.get_run(run_id_of(run))
        assert found.info.status == "FINISHED"
        assert found.data.tags["mlflow.parentRunId"] == read_sweep(copy)[0].parent
        history = client.get_metric_history(run_id_of(run), "train/nll")
        assert sorted(each.step for each in history) == [*range(1, 9)]
        client.delete_run(run_id_of(run))
    assert told("work", copy) == "trials: 4 complete\n"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "nothing to try"),
        (["--grid", "rate=1,2"], "--rate is no key that can be tried"),
        (["--grid", "fold=0,1"], "--fold is no key that can be tried"),
        (["--grid", "dropout=0,1"], "--dropout 1: optimizer.dropout: Input should be less than 1"),
        (["--grid", "output=tied,free"], "a free output has no likelihood"),
        (["--range", "dropout=0..0.5"], "A grid has values, and no --range"),
        (["--range", "dropout=0.5..0", "--search", "tpe", "--trials", "3"], "the lower first"),
        ([*TRIED, "--search", "tpe"], "--trials is for"),
        ([*TRIED, "--metric", "luck"], "--metric luck: give one of"),
        ([*TRIED, "--storage", "sqlite:///trials.db"], "sqlite is no place"),
        ([*TRIED, "--storage", "postgresql://ann:s3cret@db/x"], "Leave the password out"),
        ([*TRIED, "--storage", "postgresql://db/x?user=ann&password=s3cret"], "Leave the password out"),
        ([*TRIED, "--storage", "postgresql://127.0.0.1:1/x"], "cannot be used: connection to server at"),
        ([*TRIED, "--storage", "postgresql://db:port/x"], "cannot be used: invalid literal for int()"),
        ([*TRIED, "--metric", "tv"], "--metric tv: give one of"),
        (["--recipe", "paper", *TRIED, "--metric", "reaction_nll"], "--metric reaction_nll: give one of"),
        ([*TRIED, "--world-size", "2"], "--world-size: a worker of a sweep is one process"),
        ([*TRIED, "--deterministic-ranks", "2"], "--deterministic-ranks: a worker of a sweep is one process"),
        ([*TRIED, "--fold", "1"], "--fold: the folds are the sweep's"),
        ([*TRIED, "--init-from", "nothing"], "nothing: neither a run with a checkpoint nor a snapshot"),
        ([*TRIED, "--grid", "init-from=nothing"], "nothing: neither a run with a checkpoint nor a snapshot"),
        ([*TRIED, "--range", "dropout=0..0.5"], "--dropout has values and a range"),
        (["--grid", "batch-size=32,100000"], "fewer than --batch-size 100000"),
        ([*TRIED, "--lanes", "5"], "cannot be of 5 --lanes and in 1 --accumulate"),
        ([*TRIED, "--out", "s3://bucket/sweep"], "runs and sweeps lie on a disk"),
    ],
)
def test_what_cannot_be_tried_is_refused_in_a_line_and_nothing_is_created(
    folded: Path,
    vectors_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    reason: str,
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    result = command("create", folded, "--vectors", vectors_file, "--out", tmp_path / "out", *words)
    assert result.exit_code == 2 and reason in result.stderr, result.output
    assert len(result.stderr.splitlines()) == 1 and "s3cret" not in result.stderr
    assert [*tmp_path.rglob("*")] == [tmp_path / "here"]


@pytest.mark.parametrize("option", ["--grid", "--range"])
def test_a_key_is_given_once(tmp_path: Path, option: str):
    words = ["shards", "--vectors", "v", "--out", tmp_path / "out", option, "dropout=0..1"]
    result = command("create", *words, option, "--dropout=.5..1")
    assert result.exit_code == 2 and "--dropout is given twice" in result.stderr


def test_what_is_created_holds_for_workers_anywhere_and_has_equal_values_once(
    swept: Path, folded: Path, vectors_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = swept / "trials/0000/fold-0"
    monkeypatch.chdir(run.parent)
    words = ["create", folded, "--vectors", vectors_file, "--out", tmp_path / "out", *TINY_NETWORKS]
    words += ["--init-from", "fold-0", "--search", "random", "--trials", 1]
    ranges = ["--range", "keep-snapshots=1..5", "--range", "latent-scale=1..8"]
    told(*words, *ranges, "--grid", "dropout=0,0.0,.5")
    sweep, config = read_sweep(tmp_path / "out")
    assert config.run.init_from == str(run)
    assert repr(sweep.grid) == "{'dropout': (0.0, 0.5)}"
    assert repr(sweep.ranges) == "{'keep_snapshots': (1, 5), 'latent_scale': (1.0, 8.0)}"


def test_shards_without_folds_have_nothing_to_choose_on(shards: Path, vectors_file: Path, tmp_path: Path):
    words = [shards, "--vectors", vectors_file, "--out", tmp_path / "out", "--grid", "dropout=0,.5"]
    assert "has no folds, and the test split is not for choosing" in command("create", *words).stderr


@pytest.mark.soak
def test_twenty_trainings_by_six_workers_of_which_one_is_killed_and_one_is_stopped(
    posts_folder: Path, vectors_file: Path, environment: dict[str, str], tmp_path: Path
):
    """Each is trained to its end once, and the two that were left are gone on with."""
    shards, folder = tmp_path / "shards", tmp_path / "sweep"
    options = BuildOptions(images_per_shard=50, folds=5)
    build_shards(Source([posts_folder / "posts.jsonl"]), LocalFolder(shards), options, workers=1, max_bad=0)

    def start(*words: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*PROGRAM, "sweep", *map(str, words)],
            env={**environment, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def trained(worker: subprocess.Popen[str]) -> list[Path]:
        """The run that a worker is training, once it is past its first checkpoint."""
        found = []
        for lock in folder.glob("trials/*/.lock"):
            with contextlib.suppress(FileNotFoundError):
                if f"process {worker.pid} " in lock.read_text():
                    found += lock.parent.glob("fold-*/checkpoints/step-00000010")
        return [path.parents[1] for path in found]

    steps = ["--steps", 60, "--checkpoint-steps", 10, "--snapshot-steps", 30, "--keep-checkpoints", 9]
    grid = ["--grid", "learning-rate=1e-3,3e-3", "--grid", "dropout=0,.5"]
    words = [shards, "--vectors", vectors_file, "--out", folder, *TINY_NETWORKS, *steps, *grid]
    with postgresql() as address:
        code, output = ended(start("create", *words, "--storage", address.replace("+psycopg2", "")))
        assert code == 0 and "20 trials over 5 folds" in output, output
        workers = [start("work", folder) for _ in range(6)]
        left = []
        for worker, number, expected in (workers[0], signal.SIGKILL, -9), (workers[1], signal.SIGTERM, 75):
            wait(lambda worker=worker: bool(trained(worker)), worker)
            left += trained(worker)
            worker.send_signal(number)
            code, output = ended(worker)
            assert code == expected, output
        outputs = [ended(worker, 1200) for worker in workers[2:]]
        outputs.append(ended(start("work", folder)))  # if one was left when the others had looked
        assert [code for code, _ in outputs] == [0] * 5, outputs
        assert "trials: 20 complete\n" in outputs[-1][1]
        code, output = ended(start("report", folder))
        assert code == 0 and output.count("--learning-rate") == 4 + 2, output

    runs = sorted(folder.glob("trials/*/fold-*"))
    tried = [read_beginning(run)[0] for run in runs]
    assert len(runs) == 20
    assert (
        len({(each.optimizer.learning_rate, each.optimizer.dropout, each.data.fold) for each in tried}) == 20
    )
    for run in runs:
        assert [line["step"] for line in metrics(run) if "train/nll" in line] == [*range(1, 61)]
    printed = "".join(output for _, output in outputs)
    assert printed.count("resumed at step") == len(left) == 2
    assert all(f"trial {int(run.parent.name)} of 20" in printed for run in left)
