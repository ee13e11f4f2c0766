"""Two and four ranks do what one process does with the same global batch. Real processes, gloo."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
import torch
from click.testing import CliRunner

from emojigan.datasets.errors import InputError
from emojigan.datasets.store.atomic import is_whole
from emojigan.launch.cli import main
from emojigan.trainer.config import Config
from emojigan.trainer.runtime import ranks
from emojigan.trainer.tracking.mlflow_run import run_id_of

from .test_readme import COMMANDS
from .trainings import metrics

ROOT = Path(__file__).parents[1]
TINY = {"trunk_width": 4, "feature_dim": 8, "hidden_dim": 16, "latent_dim": 4}
# In "zero" the tuples of the first half of a batch have weight 0: all of one rank of two, of two of four.
CASES = {
    "none": {},
    "exponential": {},
    "zero": {"weights": "exponential"},
    "parts": {"weights": "exponential", "accumulate": 2},
    "reactions": {"weights": "exponential", "unit": "reaction"},
    # Last: they change the process.
    "in order": {"weights": "exponential", "deterministic_ranks": 4},
    "reactions in order": {"weights": "exponential", "unit": "reaction", "deterministic_ranks": 4},
}
RANKS = (1, 2, 4)
WORKER = '''
"""Train as each config of a file says, and save what the first updates saw and how the last ended.

On one, two and four ranks, each a process that is forked when all is imported, which takes seconds.
"""

import dataclasses
import json
import os
import socket
import sys
import traceback
from pathlib import Path

import torch
import torch._dynamo
from torch.optim.optimizer import register_optimizer_step_pre_hook

from emojigan.datasets.stream.stream import stream
from emojigan.datasets.store.folder import open_folder
from emojigan.trainer.config import Config
from emojigan.trainer.inputs import read_inputs
from emojigan.trainer.runtime.ranks import start
from emojigan.trainer.training.step import build, train_step

job = json.loads(Path(sys.argv[1]).read_text())


def train() -> None:
    for name, content in job["configs"].items():
        config = Config.model_validate(content)
        accelerator = start(config)
        rank, world_size = accelerator.process_index, accelerator.num_processes
        inputs = read_inputs(config, open_folder(job["shards"]), Path(job["vectors"]))
        reading = stream(
            inputs.train, seed=0, window=64, batch_size=16, start=0, rank=rank, world_size=world_size
        )
        batches = reading
        if name == "zero":
            inputs.tuple_weights[0] = 0
            of_none = torch.arange(16) < 8
            mine = of_none[rank * 16 // world_size : (rank + 1) * 16 // world_size]
            batches = (
                dataclasses.replace(batch, emoji=torch.where(mine, 0, batch.emoji.clamp(min=1)))
                for batch in reading
            )
        training = build(config, inputs, accelerator)
        gradients = []

        def note(optimizer, *_):
            gradients.append([p.grad.clone() for group in optimizer.param_groups for p in group["params"]])

        hook = register_optimizer_step_pre_hook(note)
        for step in range(3):
            train_step(training, batches, 2 * step)
        hook.remove()
        reading.close()
        parameters = [*training.critic.parameters(), *training.generator.parameters()]
        saved = {"gradients": gradients, "parameters": [p.detach() for p in parameters]}
        torch.save(saved, Path(job["out"]) / f"{name}-{world_size}-{rank}.pt")


def rank_of(number: int, rank: int, port: int) -> int:
    """Fork a process that trains as this rank."""
    if pid := os.fork():
        return pid
    if number > 1:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(number)}
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    try:
        train()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


for number in job["ranks"]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    pids = [rank_of(number, rank, port) for rank in range(number)]
    ended = [os.waitpid(pid, 0)[1] for pid in pids]
    assert not any(ended), ended
'''


STOPPED = """
from emojigan.launch.cli import main
from emojigan.trainer.training import loop

step = loop.train_step
done = []


def counted(*given):
    done.append(given)
    return step(*given)


loop.train_step = counted
loop.asked = lambda: len(done) >= {steps}
main()
"""


def config(weights: str, unit: str = "tuple", **run: int) -> dict[str, Any]:
    """One critic and one generator update a step; steps so short that the second sees the first weights."""
    of_reactions = {"latents": 3, "nll_batches": "all"} if unit == "reaction" else {}
    dropout = 0.5 if unit == "reaction" else 0.0
    return {
        "data": {"batch_size": 16, "unit": unit},
        "model": TINY,
        "objective": {"weights": weights, "k": 10, **of_reactions},
        "optimizer": {"num_critic_steps": 1, "learning_rate": 1e-12, "dropout": dropout},
        "run": {"precision": "float32", **run},
    }


def launch(
    *words: str | Path, environment: dict[str, str], folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        env=environment,
        text=True,
        capture_output=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def trained(
    shards: Path, vectors_file: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[int, list[dict]]]:
    """What every rank saw, by case and number of ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    job = {
        "configs": {name: config(**{"weights": name} | case) for name, case in CASES.items()},
        "shards": str(shards),
        "vectors": str(vectors_file),
        "out": str(folder),
        "ranks": RANKS,
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    (folder / "worker.py").write_text(WORKER, encoding="utf-8")
    done = launch(sys.executable, folder / "worker.py", folder / "job.json", environment=environment)
    assert done.returncode == 0, done.stderr
    return {
        case: {
            number: [torch.load(folder / f"{case}-{number}-{rank}.pt") for rank in range(number)]
            for number in RANKS
        }
        for case in CASES
    }


@pytest.mark.parametrize("number", RANKS[1:])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("update", [0, 1], ids=["critic", "generator"])
def test_gradients_of_several_ranks_are_those_of_one_process(trained, number: int, case: str, update: int):
    (one,) = trained[case][1]
    for rank in trained[case][number]:
        pairs = list(zip(one["gradients"][update], rank["gradients"][update], strict=True))
        errors = torch.stack([(gradient - expected).norm() for expected, gradient in pairs])
        norms = torch.stack([expected.norm() for expected, _ in pairs])
        assert errors.norm() <= 1e-6 * norms.norm()
        assert (errors <= 1e-5 * norms + 1e-8 * norms.norm()).all()  # small gradients too


@pytest.mark.parametrize("update", [0, 1], ids=["critic", "generator"])
def test_gradients_of_a_batch_in_parts_are_those_of_the_whole(trained, update: int):
    (whole,), (parts,) = trained["exponential"][1], trained["parts"][1]
    for expected, found in zip(whole["gradients"][update], parts["gradients"][update], strict=True):
        assert (found - expected).norm() <= 1e-5 * expected.norm() + 1e-8


@pytest.mark.parametrize("number", RANKS[1:])
@pytest.mark.parametrize("case", ["in order", "reactions in order"])
def test_gradients_in_order_are_the_same_bits_on_any_number_of_ranks(trained, number: int, case: str):
    (one,) = trained[case][1]
    for rank in trained[case][number]:
        for mine, expected in zip(rank["gradients"], one["gradients"], strict=True):
            assert all(torch.equal(a, b) for a, b in zip(mine, expected, strict=True))


@pytest.mark.parametrize("update", [0, 1], ids=["critic", "generator"])
def test_gradients_in_order_are_those_of_the_whole(trained, update: int):
    (whole,), (ordered,) = trained["exponential"][1], trained["in order"][1]
    for expected, found in zip(whole["gradients"][update], ordered["gradients"][update], strict=True):
        assert (found - expected).norm() <= 1e-5 * expected.norm() + 1e-8


@pytest.mark.parametrize("case", ["exponential", "zero"])
def test_skewed_weights_change_the_gradients(trained, case: str):
    """Else the tests above would say nothing about weights."""
    none, skewed = (trained[each][1][0]["gradients"][0] for each in ("none", case))
    assert any((a - b).norm() > 0.1 * a.norm() for a, b in zip(none, skewed, strict=True))


@pytest.mark.parametrize("number", RANKS[1:])
@pytest.mark.parametrize("case", CASES)
def test_all_ranks_end_after_as_many_updates_with_equal_weights(trained, number: int, case: str):
    first, *others = trained[case][number]
    for other in others:
        number_of = 9 if case.startswith("reactions") else 6  # the generator's with each of the critic's, too
        assert len(first["gradients"]) == len(other["gradients"]) == number_of
        pairs = zip(first["parameters"], other["parameters"], strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


@pytest.fixture(scope="module")
def run(
    shards: Path, vectors_file: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run on two ranks, as the README has it; of small sizes, and on a port that is free."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "shards").symlink_to(shards)
    (folder / "vectors.bin").symlink_to(vectors_file)
    (words,) = (words for words in COMMANDS if words[0] == "torchrun")
    options = "--batch-size 16 --steps 3 --log-steps 1 --world-size 2"
    sizes = [f"--{key.replace('_', '-')}={value}" for key, value in TINY.items()]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = launch(
        *(words[0], "--standalone", *words[1:], *options.split(), *sizes),
        environment={**environment, "PATH": path},
        folder=folder,
    )
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "two"


def test_the_command_line_trains_on_two_ranks_to_the_last_step(run: Path):
    assert is_whole(run / "checkpoints" / "step-00000003")


def test_only_one_rank_writes_metrics(run: Path):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train/penalty" in line] == [1, 2, 3]


def test_one_rank_of_a_node_looks_at_it(run: Path):
    first = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    assert 0 < first["system/system_memory_usage_percentage"] < 100
    assert len([name for name in first if name.startswith("system/")]) == 3


def test_only_one_rank_tells_mlflow(run: Path, environment: dict[str, str]):
    client = mlflow.MlflowClient(environment["MLFLOW_TRACKING_URI"])
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, filter_string="attributes.run_name = 'two'")
    assert [each.info.run_id for each in runs] == [run_id_of(run)]
    assert runs[0].info.status == "FINISHED"


@pytest.mark.soak
def test_a_training_in_order_is_the_same_on_ranks_that_change_between_restarts(
    shards: Path, vectors_file: Path, environment: dict[str, str], tmp_path: Path
):
    """In its weights, both optimizers and the metrics that no clock has a part in, bit for bit."""
    keys = {"batch_size": 16, "steps": 12, "log_steps": 5, "checkpoint_steps": 3, "deterministic_ranks": 4}
    options = [f"--{key.replace('_', '-')}={value}" for key, value in (TINY | keys).items()]
    words = ["emojigan", "train", shards, "--vectors", vectors_file, *options]
    environment = {**environment, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def train(run: str, number: int, steps: int) -> None:
        torchrun = ["torchrun", "--standalone", "--nproc_per_node", str(number), "--no-python"]
        launcher = torchrun if number > 1 else []
        # Of fewer steps it stops as one does that is told to.
        program = STOPPED.format(steps=steps)
        command = [sys.executable, "-c", program, *words[1:]] if steps < 12 else words
        done = launch(*launcher, *command, "--out", tmp_path / run, environment=environment)
        assert (done.returncode == 0) == (steps == 12), done.stderr

    train("one", 1, 12)
    for number, steps in ((4, 3), (1, 3), (2, 12)):
        train("changing", number, steps)
    name = "checkpoints/step-00000012/state.safetensors"
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "changing" / name).read_bytes()
    assert metrics(tmp_path / "one") == metrics(tmp_path / "changing")


@pytest.fixture
def apart(environment: dict[str, str], tmp_path: Path) -> Callable[..., list[str]]:
    """Train on two ranks, each with a working directory of its own, as nodes have; what each refuses."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(server.getsockname()[1]), "WORLD_SIZE": "2"}
    program = (
        "from emojigan.trainer.runtime import ranks; from emojigan.launch.cli import main; "
        "ranks.SEEN_WITHIN = 0.5; main()"
    )
    for rank in ("0", "1"):
        (tmp_path / rank).mkdir()

    def both(*words: str) -> list[str]:
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", program, "train", *words],
                cwd=tmp_path / rank,
                env={**environment, **meet, "RANK": rank, "LOCAL_RANK": rank},
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for rank in ("0", "1")
        ]
        said = [process.communicate(timeout=300)[1] for process in processes]
        assert [process.returncode for process in processes] == [2, 2], said
        return said

    return both


def test_ranks_that_do_not_share_the_folder_of_the_run_are_refused_and_one_says_so(
    shards: Path, vectors_file: Path, apart: Callable[..., list[str]], tmp_path: Path
):
    """As nodes have where --out is a disk of their own."""
    said = apart(str(shards), "--vectors", str(vectors_file), "--out", "run", "--batch-size", "16")
    first, other = (f"{socket.gethostname()}:{tmp_path / rank / 'run'}" for rank in ("0", "1"))
    line = f"Error: What rank 0 writes in {first} is not seen in {other}. Put --out where all nodes see it.\n"
    assert said == [line, ""]
    assert not [*tmp_path.glob("*/run")]


def test_shards_that_one_rank_does_not_see_all_refuse_and_it_says_so(
    shards: Path, vectors_file: Path, apart: Callable[..., list[str]], tmp_path: Path
):
    (tmp_path / "0" / "shards").symlink_to(shards)
    first, other = apart("shards", "--vectors", str(vectors_file), "--out", str(tmp_path / "run"))
    assert first == "" and other.startswith("Error: shards") and other.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_ranks_that_are_not_started_alike_are_refused_and_one_says_so(
    shards: Path, vectors_file: Path, apart: Callable[..., list[str]], tmp_path: Path
):
    """As nodes have that read a file of the same name on disks of their own."""
    for rank, rate in (("0", 0.002), ("1", 0.0005)):
        (tmp_path / rank / "training.yaml").write_text(f"optimizer:\n  learning_rate: {rate}\n")
    words = ["--vectors", str(vectors_file), "--config", "training.yaml", "--out", str(tmp_path / "run")]
    assert apart(str(shards), *words) == [
        "Error: The ranks are not started alike: --learning-rate is 0.002 on rank 0 and 0.0005 on rank "
        "1. Start all with the same.\n",
        "",
    ]
    assert not (tmp_path / "run").exists()


def refused(shards: Path, vectors_file: Path, run: Path, *options: str) -> str:
    """The one line that `train` says instead of starting."""
    words = ["train", str(shards), "--vectors", str(vectors_file), "--out", str(run), *options]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert not run.exists()
    return result.stderr


def test_another_number_of_ranks_than_promised_is_refused(shards: Path, vectors_file: Path, tmp_path: Path):
    message = refused(shards, vectors_file, tmp_path / "run", "--world-size", "2", "--precision", "float32")
    assert message.startswith("Error: 2 ranks were promised and 1 started.")
    assert "--num_processes 2" in message and "torchrun --nproc_per_node N" in message
    assert message.count("\n") == 1


def test_the_config_of_accelerate_starts_as_many_ranks_as_it_is_told_without_a_gpu_too(
    environment: dict[str, str],
):
    told = "{os.environ['WORLD_SIZE']} {os.environ['ACCELERATE_MIXED_PRECISION']}\\n"
    program = f'import os; os.write(1, f"{told}".encode())'  # at once: two ranks write
    options = f"--config_file {ROOT / 'accelerate_config.yaml'} --num_processes 2 --no_python".split()
    launcher = [sys.executable, "-m", "accelerate.commands.launch", *options]
    done = launch(*launcher, sys.executable, "-c", program, environment=environment)
    assert done.stdout == "2 no\n" * 2, done.stderr  # --precision decides, not this file


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a machine without a GPU")
def test_ranks_that_were_to_be_on_gpus_do_not_start_on_cpus_and_one_says_so(
    shards: Path, vectors_file: Path, environment: dict[str, str], tmp_path: Path
):
    options = f"--config_file {ROOT / 'accelerate_config.yaml'} --num_processes 2 --no_python".split()
    launcher = [sys.executable, "-m", "accelerate.commands.launch", *options]
    program = [sys.executable, "-c", "from emojigan.launch.cli import main; main()", "train", shards]
    words = [*launcher, *program, "--vectors", vectors_file, "--out", tmp_path / "run"]
    done = launch(*words, environment=environment)
    assert done.returncode != 0
    (said,) = (line for line in done.stderr.splitlines() if line.startswith("Error: "))
    assert "told to start ranks on GPUs" in said and "torchrun --nproc_per_node N" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["train", "doctor"])
def test_a_rank_that_is_not_told_where_the_others_are_is_refused_in_a_line(
    shards: Path, vectors_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
):
    """As one that a scheduler started, with its numbers in the variables of a launcher."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    words = [command, str(shards), "--vectors", str(vectors_file), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2 and not (tmp_path / "run").exists()
    assert result.stderr == (
        "Error: WORLD_SIZE says that there are 2 ranks, but not set is LOCAL_RANK, MASTER_ADDR, MASTER_PORT. "
        "Start them by `torchrun` or `accelerate launch`, which set all of it.\n"
    )


def test_ranks_that_compute_by_different_libraries_are_refused(monkeypatch: pytest.MonkeyPatch):
    def gathered(mine: list[dict[str, str]]) -> list[dict[str, str]]:
        return [*mine, {**mine[0], "torch": "1.0"}]

    monkeypatch.setattr(ranks, "gather_object", gathered)
    two = SimpleNamespace(num_processes=2)
    told = f"not started alike: torch is {version('torch')} on rank 0 and 1.0 on rank 1."
    with pytest.raises(InputError, match=re.escape(told)):
        ranks.check_same_words(two, Config())  # pyright: ignore[reportArgumentType]


def test_one_process_of_accelerate_may_be_on_a_cpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ACCELERATE_DYNAMO_MODE", "default")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    ranks.refuse_cpus_for_gpus()


@pytest.mark.parametrize(
    ("logical", "run"), [(3, {}), (512, {}), (2, {"accumulate": 2})], ids=["three", "too many", "parts"]
)
def test_ranks_that_cannot_be_in_order_are_refused(logical: int, run: dict):
    message = f"--deterministic-ranks {logical} must be a power of two that 1 rank"
    with pytest.raises(InputError, match=re.escape(message)):
        ranks.check_fit(Config.model_validate({"run": {**run, "deterministic_ranks": logical}}), 1)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({}, "--batch-size 256 cannot be shared by 3 ranks."),
        ({"accumulate": 5}, "--batch-size 256 cannot be shared by 3 ranks, in 5 parts each (--accumulate)."),
    ],
)
def test_a_batch_that_the_ranks_cannot_share_is_refused(
    monkeypatch: pytest.MonkeyPatch, run: dict, message: str
):
    class Three:
        num_processes = 3

    monkeypatch.setattr(ranks, "Accelerator", lambda **_: Three())
    with pytest.raises(InputError, match=re.escape(message)):
        ranks.start(Config.model_validate({"run": run}))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("precision", ["fp16", "tf32"])
def test_what_only_gpus_compute_in_is_refused_on_a_cpu(precision: str):
    with pytest.raises(InputError, match=rf"--precision {precision} is for GPUs\. On a CPU use bf16"):
        ranks.start(Config.model_validate({"run": {"precision": precision}}))


@pytest.mark.parametrize(("has", "chosen"), [({"amx_bf16": True}, torch.bfloat16), ({}, torch.float32)])
def test_a_cpu_computes_in_bf16_where_it_is_made_for_it(monkeypatch: pytest.MonkeyPatch, has: dict, chosen):
    monkeypatch.setattr(ranks.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(ranks.torch.cpu, "get_capabilities", lambda: has)
    assert ranks.precision(Config()) == chosen
