"""What is not finite reaches no weight and no file: it is told, left behind, gone back from, or the end."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from emojigan.datasets.shards.manifest import read_manifest
from emojigan.datasets.store.atomic import is_whole
from emojigan.datasets.store.folder import open_folder
from emojigan.datasets.stream.order import Order
from emojigan.datasets.stream.split import Split
from emojigan.datasets.stream.stream import names, stream
from emojigan.launch.cli import main
from emojigan.trainer.model import sight
from emojigan.trainer.model.noise import uniform
from emojigan.trainer.training import step
from emojigan.trainer.training.guard import SCALE, Guard, backward

from ...conftest import TINY_NETWORKS

BATCH = 4
BAD = [float("nan"), float("inf"), -float("inf"), 1e30]  # the square of the last is no number in float32


# The guard alone.


def guarded(*, scaled: bool = False) -> tuple[torch.nn.Linear, torch.optim.Optimizer, Guard]:
    """A network after one update."""
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 1)
    optimizer = torch.optim.Adam(network.parameters(), torch.tensor(0.1), fused=True)
    guard = Guard(optimizer, torch.device("cpu"), batch=BATCH, scaled=scaled, compiled=False)
    update(network, optimizer, guard, 0)
    return network, optimizer, guard


def update(
    network: torch.nn.Linear,
    optimizer: torch.optim.Optimizer,
    guard: Guard,
    number: int,
    weight: torch.Tensor | float = 1.0,
    change: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> None:
    """One on batch `number`, maybe with changed gradients of the bias."""
    images = torch.randn(BATCH, 3, generator=torch.Generator().manual_seed(number))
    losses = weight * network(images)[:, 0]
    hook = network.bias.register_hook(change) if change else None
    backward([guard], [losses], 1)
    guard.step(torch.tensor(number), losses.detach())
    if hook:
        hook.remove()


def state(network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    moments = [tensor for slots in optimizer.state.values() for tensor in slots.values()]
    return [tensor.detach().clone() for tensor in [*network.parameters(), *moments]]


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("bad", BAD)
def test_an_update_with_one_bad_gradient_changes_neither_weights_nor_moments(bad: float):
    network, optimizer, guard = guarded()
    before = state(network, optimizer)
    update(network, optimizer, guard, 7, change=lambda gradient: torch.full_like(gradient, bad))
    assert equal(state(network, optimizer), before)
    assert guard.counts.tolist() == [1, 1, 7]
    assert not guard.rows.any()
    update(network, optimizer, guard, 8)
    assert not equal(state(network, optimizer), before)
    assert guard.counts.tolist() == [1, 0, 7]


@pytest.mark.parametrize("bad", BAD[:3])
def test_a_loss_that_is_not_finite_makes_no_update_and_its_row_is_known(bad: float):
    network, optimizer, guard = guarded()
    before = state(network, optimizer)
    update(network, optimizer, guard, 7, weight=torch.tensor([1, 1, bad, 1]))
    assert equal(state(network, optimizer), before)
    assert guard.rows.tolist() == [0, 0, 1, 0]


def test_a_guarded_update_is_that_of_adam_alone():
    network, optimizer, guard = guarded()
    alone = torch.nn.Linear(3, 1)
    torch.manual_seed(0)
    alone.reset_parameters()
    adam = torch.optim.Adam(alone.parameters(), torch.tensor(0.1), fused=True)
    for number in range(5):
        if number:
            update(network, optimizer, guard, number)
        adam.zero_grad()
        alone(torch.randn(BATCH, 3, generator=torch.Generator().manual_seed(number)))[:, 0].mean().backward()
        adam.step()
    assert equal(state(network, optimizer), state(alone, adam))


def test_scaled_updates_are_those_that_are_not_scaled():
    """In fp16 the trunks lose bits, the scale none: it is a power of two."""
    plain, scaled = guarded(), guarded(scaled=True)
    for number in range(1, 5):
        update(*plain, number)
        update(*scaled, number)
    assert equal(state(*plain[:2]), state(*scaled[:2]))


def test_a_scale_that_is_too_large_is_halved_and_only_without_one_it_is_a_fault():
    network, optimizer, guard = guarded(scaled=True)
    before = state(network, optimizer)
    numbers = range(1, 20)
    for number in numbers:
        update(network, optimizer, guard, number, change=lambda gradient: gradient * float("inf"))
    assert equal(state(network, optimizer), before)
    assert guard.state_dict()["scale"] == SCALE / 2 ** len(numbers)
    faults = len(numbers) - 16  # the scale began at 2**16
    assert guard.counts.tolist() == [faults, faults, numbers[-1]]


def test_the_numbers_of_a_guard_are_gone_on_with():
    network, optimizer, guard = guarded(scaled=True)
    update(network, optimizer, guard, 1, change=lambda gradient: gradient * float("nan"))
    guard.counts.copy_(torch.tensor([3, 2, 1]))
    other = guarded(scaled=True)[2]
    other.load_state_dict(guard.state_dict())
    assert other.state_dict() == guard.state_dict()
    assert other.counts.tolist() == [3, 2, 1]


# Whole trainings.

BRIGHTNESS = 3  # the column of the noise


@pytest.fixture
def train(
    shards: Path, vectors_file: Path, tmp_path: Path, environment: dict[str, str], monkeypatch
) -> Callable[..., Result]:
    """`train` to step 24 by two batches a step, in which an image of some batches is NaN."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", environment["MLFLOW_TRACKING_URI"])
    options = ["--precision", "float32", "--steps", "24", "--checkpoint-steps", "8", "--snapshot-steps", "24"]
    options += ["--num-critic-steps", "1", "--recipe", "tuples"]
    words = ["train", shards, "--vectors", vectors_file, "--out", tmp_path / "run", *TINY_NETWORKS, *options]

    def run(bad: Collection[int], *more: str) -> Result:
        def injected(seed: int, place: torch.Tensor, *more: int) -> torch.Tensor:
            drawn = uniform(seed, place, *more)
            if int(place[0]) in bad:
                drawn[3, BRIGHTNESS] = float("nan")
            return drawn

        monkeypatch.setattr(sight, "uniform", injected)
        return CliRunner().invoke(main, [*map(str, words), *more])

    return run


def lines(run: Path, key: str) -> dict[int, float]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line[key] for line in found if key in line}


def holds_only_numbers(run: Path) -> bool:
    files = sorted(run.rglob("*.safetensors"))
    assert files
    return all(tensor.isfinite().all() for path in files for tensor in load_file(path).values())


def of_steps(first: int, last: int) -> range:
    """Their batches."""
    return range(2 * (first - 1), 2 * last)


@pytest.mark.parametrize(("number", "network"), [(8, "critic"), (9, "generator")])
def test_one_bad_sample_is_named_and_its_update_left_out(
    train, shards: Path, tmp_path: Path, number: int, network: str
):
    result = train({number})
    assert result.exit_code == 0, result.output
    split = Split(open_folder(str(shards)), read_manifest(open_folder(str(shards))), "train")
    (name,) = names(split, Order(0, split.sizes, 64), 16, number, [3])
    told = f"Step 5: 1 update(s) of the {network} left out: not finite in batch {number}, in {name}."
    assert re.sub(r"\s+", " ", result.output).count(told) == 1
    counted = lines(tmp_path / "run", "train/updates_left_out")
    assert [counted[step] for step in (4, 5, 24)] == [0, 1, 1]
    assert holds_only_numbers(tmp_path / "run")


def test_after_three_steps_in_a_row_it_goes_back_and_on_with_other_data(train, tmp_path: Path):
    result = train(of_steps(10, 13))
    assert result.exit_code == 0, result.output
    assert result.output.count("Back to the weights of step 8, and on with other data.") == 1
    assert is_whole(tmp_path / "run/checkpoints/step-00000024")
    assert list(lines(tmp_path / "run", "train/updates_left_out").items())[-1] == (24, 4 * 2)
    content = (tmp_path / "run/metrics.jsonl").read_text()
    assert [content.count(f'"step": {step},') for step in range(1, 24)] == [
        1
    ] * 23  # the last has a score, too
    assert holds_only_numbers(tmp_path / "run")


def test_a_resumed_training_goes_back_as_the_uninterrupted_one_did(train, tmp_path: Path):
    assert train(of_steps(10, 13)).exit_code == 0
    path = tmp_path / "run/checkpoints/step-00000024"
    state = (path / "state.safetensors").read_bytes()
    path.rename(tmp_path / "uninterrupted")  # killed after step 16, amid what came of the faults
    result = train(of_steps(10, 13))
    assert "resumed at step 16" in result.output
    assert (path / "state.safetensors").read_bytes() == state


def test_when_going_back_does_not_help_it_ends_with_good_checkpoints_and_can_be_run_again(
    train, tmp_path: Path
):
    result = train(of_steps(10, 10**6))
    assert result.exit_code == 2
    (said,) = (line for line in result.output.splitlines() if line.startswith("Error: "))
    assert "not finite, also after 2 returns to the checkpoint of step 16, which is kept" in said
    assert "Train into another --out with a --learning-rate below 0.0005." in said
    assert holds_only_numbers(tmp_path / "run")
    assert train(()).exit_code == 0
    assert is_whole(tmp_path / "run/checkpoints/step-00000024")


def test_it_can_go_back_to_the_beginning(train, tmp_path: Path):
    result = train(of_steps(2, 5))
    assert result.exit_code == 0, result.output
    assert result.output.count("Back to the weights of step 0, and on with other data.") == 1
    assert holds_only_numbers(tmp_path / "run")


def test_metrics_of_updates_that_were_left_out_are_left_out_of_their_mean_and_of_files(train, tmp_path: Path):
    assert train(of_steps(16, 16), "--log-steps", "5").exit_code == 0
    assert (
        load_file(tmp_path / "run/checkpoints/step-00000016/state.safetensors")["unlogged"].isfinite().all()
    )
    assert 0 < lines(tmp_path / "run", "train/nll")[20] < 10
    assert holds_only_numbers(tmp_path / "run")


def poison(monkeypatch: pytest.MonkeyPatch, network: str) -> None:
    """Some weights of a network, behind the updates of step 10."""
    update_average = step.update_average

    def poisoning(training: step.Training, number: int) -> None:
        update_average(training, number)
        if number == 9:
            next(getattr(training, network).parameters()).data[0] = float("inf")

    monkeypatch.setattr("emojigan.trainer.training.loop.update_average", poisoning)


def test_a_weight_that_was_poisoned_is_gone_back_from(train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    poison(monkeypatch, "generator")  # and so the average
    result = train(())
    assert result.exit_code == 0, result.output
    assert result.output.count("Back to the weights of step 8, and on with other data.") == 1
    assert holds_only_numbers(tmp_path / "run")


def test_weights_that_are_not_finite_are_not_written(train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    poison(monkeypatch, "average")  # which no loss depends on
    result = train(())
    assert result.exit_code == 2
    assert "step-00000016 is not written: average.trunk.convolutions.0.weight holds NaN" in result.output
    assert sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir()) == [
        "step-00000000",
        "step-00000008",
    ]
    assert holds_only_numbers(tmp_path / "run")


@pytest.mark.parametrize(("rank", "world_size", "lanes"), [(0, 1, 1), (1, 2, 1), (1, 2, 2)])
def test_the_names_of_rows_are_those_of_the_samples_in_the_batch(shards: Path, rank, world_size, lanes):
    folder = open_folder(str(shards))
    split = Split(folder, read_manifest(folder), "train")
    number, per_rank = 40, 16 // world_size
    reading = stream(
        *(split,),
        seed=3,
        window=2,
        lanes=lanes,
        batch_size=16,
        start=number,
        rank=rank,
        world_size=world_size,
    )
    batch = next(reading)
    reading.close()
    rows = range(rank * per_rank, (rank + 1) * per_rank)
    for found, name in zip(
        batch.images, names(split, Order(3, split.sizes, 2, lanes), 16, number, rows), strict=True
    ):
        shard, key = name.split()
        position = [entry.name for entry in split.shards].index(shard)
        row = split.read_index(position).keys.index(key)
        pixels = split.open_shard(position).member(row)[-found.numel() :]
        assert pixels.tobytes() == found.permute(1, 2, 0).numpy().tobytes()


# Two ranks.

WORKER = '''
"""Updates in which one rank meets what is not finite; what both ranks have before and after."""

import json
import sys
from pathlib import Path

import torch

from emojigan.datasets.store.folder import open_folder
from emojigan.trainer.config import Config
from emojigan.trainer.inputs import read_inputs
from emojigan.trainer.runtime.ranks import start
from emojigan.trainer.model import sight
from emojigan.trainer.training import step
from emojigan.trainer.training.guard import Faults
from emojigan.trainer.model.noise import uniform

job = json.loads(Path(sys.argv[1]).read_text())
config = Config.model_validate(job["config"])
accelerator = start(config)
rank = accelerator.process_index
inputs = read_inputs(config, open_folder(job["shards"]), Path(job["vectors"]))
batches = inputs.stream(config, start=0, rank=rank, world_size=2)
training = step.build(config, inputs, accelerator)
bad_image, of_none = [False], [False]

def injected(seed, place, *more):
    drawn = uniform(seed, place, *more)
    if rank == 1 and bad_image[0]:
        drawn[2, 3] = float("nan")  # its brightness
    return drawn

sight.uniform = injected
see = sight.Sight.see

def weightless(shown, *batch):
    seen = see(shown, *batch)
    if of_none[0]:
        seen.weight[2] = 0
    return seen

sight.Sight.see = weightless
networks = {"critic": training.critic, "generator": training.generator}
told = []
guards = (training.critic_guard, training.generator_guard)
faults = Faults(config, accelerator, guards, lambda number, rows: [f"row {row}" for row in rows])

def weights(network):
    return torch.cat([p.detach().flatten() for p in networks[network].parameters()]).clone()

for network in networks:
    for case in ("image", "weight 0", "gradient", "none"):
        bad_image[0], of_none[0] = case in ("image", "weight 0"), case == "weight 0"
        bad = rank == 1 and case == "gradient"
        hook = next(networks[network].parameters()).register_hook(lambda g: g * float("nan")) if bad else None
        before, batch = weights(network), next(batches)
        update = training.critic_update if network == "critic" else training.generator_update
        update(batch.images, batch.emoji, torch.tensor([len(told), 8 * rank]))
        if hook:
            hook.remove()
        guard = training.critic_guard if network == "critic" else training.generator_guard
        after = weights(network)
        told.append([
            network, case, torch.equal(before, after), guard.counts.tolist(), guard.rows.nonzero().tolist(),
            after.double().sum().item(),
        ])
        faults.several(0)
        faults.several(1)
batches.close()
(Path(job["out"]) / f"{rank}.json").write_text(json.dumps(told))
'''


def test_what_one_rank_meets_changes_the_weights_of_none(
    shards: Path, vectors_file: Path, environment: dict[str, str], tmp_path: Path
):
    model = {"trunk_width": 4, "feature_dim": 8, "hidden_dim": 16, "latent_dim": 4}
    config = {"data": {"batch_size": 16}, "model": model, "run": {"precision": "float32"}}
    job = {"config": config, "shards": str(shards), "vectors": str(vectors_file), "out": str(tmp_path)}
    (tmp_path / "job.json").write_text(json.dumps(job), encoding="utf-8")
    (tmp_path / "worker.py").write_text(WORKER, encoding="utf-8")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*torchrun, tmp_path / "worker.py", tmp_path / "job.json"],
        env=environment,
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "left out" in line]
    where = ("row 10", "row 10", "the gradients alone")  # the third of rank 1, from 0 on
    assert lines == [
        f"Step 0: 1 update(s) of the {network} left out: not finite in batch {first + number}, in {each}."
        for network, first in (("critic", 0), ("generator", 4))
        for number, each in enumerate(where)
    ]
    mine, theirs = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    cases = ("image", "weight 0", "gradient", "none")
    for number, (one, other) in enumerate(zip(mine, theirs, strict=True)):
        network, case, unchanged, counts, rows, total = other
        assert unchanged == (case != "none"), other
        in_a_row = cases.index(case) + 1 if unchanged else 0
        last = number if unchanged else number - 1
        assert counts == [min(cases.index(case) + 1, 3), in_a_row, last], other
        assert one == [network, case, unchanged, counts, [], total]  # no row of its own, all else alike
        assert rows == ([] if case in ("gradient", "none") else [[2]]), other
