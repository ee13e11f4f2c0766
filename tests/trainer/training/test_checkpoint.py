"""A checkpoint gives back what was saved, and what is no such is told from what is damaged."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from emojigan.datasets.errors import InputError
from emojigan.datasets.store.atomic import creating_folder
from emojigan.trainer.config import Config
from emojigan.trainer.training.checkpoint import (
    Identity,
    TrainState,
    begin_to_copy,
    load_checkpoint,
    save_checkpoint,
)
from emojigan.trainer.training.guard import SCALE, Guard

BIAS = "network.0.bias"
IDENTITY = Identity.of(Config(), "dataset", "vectors")


def trained(updates: int) -> TrainState:
    """A network after some updates by Adam."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2), torch.nn.Flatten(), torch.nn.Linear(4, 1))
    optimizer = torch.optim.Adam(network.parameters(), 0.1)
    for _ in range(updates):
        optimizer.zero_grad()
        network(torch.randn(5, 3, 2, 2)).sum().backward()
        optimizer.step()
    return TrainState({"network": network}, {"adam": optimizer})


def copied(state: TrainState) -> dict[str, torch.Tensor]:
    return begin_to_copy(state)()


def tensors(state: TrainState) -> dict[str, torch.Tensor]:
    moments = state.optimizers["adam"].state_dict()["state"]
    return state.modules["network"].state_dict() | {
        f"{number}.{slot}": tensor for number, slots in moments.items() for slot, tensor in slots.items()
    }


def equal(one: TrainState, other: TrainState) -> bool:
    mine, theirs = tensors(one), tensors(other)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)


def test_a_checkpoint_gives_back_weights_and_moments(tmp_path: Path):
    save_checkpoint(tmp_path, 3, copied(trained(3)), IDENTITY, keep=2)
    state = trained(0)
    assert load_checkpoint(tmp_path, state, IDENTITY) == 3
    assert equal(state, trained(3))


def test_a_checkpoint_before_the_first_update_has_no_moments(tmp_path: Path):
    save_checkpoint(tmp_path, 0, copied(trained(0)), IDENTITY, keep=2)
    state = trained(0)
    assert load_checkpoint(tmp_path, state, IDENTITY) == 0
    assert equal(state, trained(0))


def test_a_checkpoint_holds_the_state_of_its_step_though_training_goes_on_before_it_is_written(
    tmp_path: Path,
):
    state = trained(3)
    there = copied(state)
    for tensor in tensors(state).values():
        tensor.zero_()
    save_checkpoint(tmp_path, 3, there, IDENTITY, keep=2)
    load_checkpoint(tmp_path, state, IDENTITY)
    assert equal(state, trained(3))


def test_without_a_checkpoint_training_starts_at_step_0(tmp_path: Path):
    assert load_checkpoint(tmp_path / "none", trained(0), IDENTITY) == 0


def test_the_newest_two_checkpoints_are_kept(tmp_path: Path):
    for number in (1, 2, 3):
        save_checkpoint(tmp_path, number, copied(trained(0)), IDENTITY, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("file", ["state.safetensors", "state.json", "SHA256SUMS"])
@pytest.mark.parametrize("damage", [flip_a_bit, Path.unlink, lambda path: os.truncate(path, 30)])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, damage: Callable[[Path], None]
):
    save_checkpoint(tmp_path, 1, copied(trained(1)), IDENTITY, keep=2)
    save_checkpoint(tmp_path, 2, copied(trained(2)), IDENTITY, keep=2)
    damage(tmp_path / "step-00000002" / file)
    state = trained(0)
    assert load_checkpoint(tmp_path, state, IDENTITY) == 1
    assert equal(state, trained(1))
    assert "step-00000002 is damaged" in capsys.readouterr().out


def test_when_every_checkpoint_is_damaged_nothing_is_begun_again(tmp_path: Path):
    save_checkpoint(tmp_path, 1, copied(trained(1)), IDENTITY, keep=2)
    flip_a_bit(tmp_path / "step-00000001" / "state.safetensors")
    with pytest.raises(InputError, match="Every checkpoint"):
        load_checkpoint(tmp_path, trained(0), IDENTITY)


def test_a_half_written_checkpoint_is_not_seen(tmp_path: Path):
    save_checkpoint(tmp_path, 1, copied(trained(1)), IDENTITY, keep=2)
    shutil.copytree(tmp_path / "step-00000001", tmp_path / ".step-00000002.123.tmp")
    assert load_checkpoint(tmp_path, trained(0), IDENTITY) == 1


def test_half_written_checkpoints_are_removed_with_the_next_save(tmp_path: Path):
    (tmp_path / ".step-00000002.123.tmp").mkdir()
    save_checkpoint(tmp_path, 3, copied(trained(1)), IDENTITY, keep=2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]


def test_a_checkpoint_saved_after_falling_back_stays_though_a_damaged_one_has_a_later_step(tmp_path: Path):
    for number in (4, 8):
        save_checkpoint(tmp_path, number, copied(trained(number)), IDENTITY, keep=2)
    flip_a_bit(tmp_path / "step-00000008" / "state.safetensors")
    assert load_checkpoint(tmp_path, trained(0), IDENTITY) == 4
    save_checkpoint(tmp_path, 6, copied(trained(2)), IDENTITY, keep=2)
    assert load_checkpoint(tmp_path, trained(0), IDENTITY) == 6


@pytest.mark.parametrize("key", ["dataset", "vectors"])
def test_a_checkpoint_of_other_inputs_is_refused_by_name(tmp_path: Path, key: str):
    save_checkpoint(tmp_path, 1, copied(trained(1)), IDENTITY, keep=2)
    with pytest.raises(InputError, match=rf"another {key} \({key}, now other\)"):
        load_checkpoint(tmp_path, trained(0), replace(IDENTITY, **{key: "other"}))


def test_a_checkpoint_holds_no_pickle(tmp_path: Path):
    save_checkpoint(tmp_path, 1, copied(trained(1)), IDENTITY, keep=2)
    names = {path.name for path in (tmp_path / "step-00000001").iterdir()}
    assert names == {"state.safetensors", "state.json", "SHA256SUMS"}


# What is no checkpoint of this training.


def altered(folder: Path, step: int, alter: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """A checkpoint with right sums whose tensors were altered."""
    save_checkpoint(folder, step, copied(trained(step)), IDENTITY, keep=9)
    path = folder / f"step-{step:08d}"
    tensors = load_file(path / "state.safetensors")
    facts = (path / "state.json").read_text()
    alter(tensors)
    shutil.rmtree(path)
    with creating_folder(path) as temporary:
        save_file(tensors, temporary / "state.safetensors")
        (temporary / "state.json").write_text(facts)


@pytest.mark.parametrize(
    ("alter", "said"),
    [
        (lambda tensors: tensors.pop("adam.1.exp_avg"), "adam.1.exp_avg is missing, not (4,)"),
        (
            lambda tensors: tensors.update({"network.0.bias": torch.ones(9)}),
            "network.0.bias is (9,), not (4,)",
        ),
        (lambda tensors: tensors.update({"more.weight": torch.ones(2)}), "more.weight is (2,), not known"),
    ],
    ids=["missing", "shape", "more"],
)
def test_a_checkpoint_of_another_layout_is_refused_by_the_name_of_the_tensor(
    tmp_path: Path, alter: Callable, said: str
):
    save_checkpoint(tmp_path, 1, copied(trained(1)), IDENTITY, keep=9)
    altered(tmp_path, 2, alter)
    state = trained(0)
    with pytest.raises(InputError) as raised:
        load_checkpoint(tmp_path, state, IDENTITY)
    assert said in str(raised.value) and "Use another --out." in str(raised.value)
    assert equal(state, trained(0))


def test_a_checkpoint_that_holds_numbers_that_are_not_finite_is_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    save_checkpoint(tmp_path, 1, copied(trained(1)), IDENTITY, keep=9)
    altered(tmp_path, 2, lambda tensors: tensors["network.0.bias"].fill_(float("nan")))
    state = trained(0)
    assert load_checkpoint(tmp_path, state, IDENTITY) == 1
    assert equal(state, trained(1))
    assert "step-00000002 holds numbers that are not finite" in capsys.readouterr().out


def test_a_checkpoint_under_the_name_of_another_step_is_refused(tmp_path: Path):
    save_checkpoint(tmp_path, 1, copied(trained(1)), IDENTITY, keep=9)
    (tmp_path / "step-00000001").rename(tmp_path / "step-00000005")
    with pytest.raises(InputError, match=r"was not written by this version for this training: .*step 1"):
        load_checkpoint(tmp_path, trained(0), IDENTITY)


@pytest.mark.parametrize(
    "content", ["[]", "{", '{"step": 1}', '{"step": 1, "identity": {"dataset": "dataset"}}']
)
def test_a_checkpoint_that_says_something_else_of_itself_is_refused(tmp_path: Path, content: str):
    path = tmp_path / "step-00000001"
    with creating_folder(path) as temporary:
        save_file(copied(trained(1)), temporary / "state.safetensors")
        (temporary / "state.json").write_text(content)
    with pytest.raises(InputError, match="was not written by this version for this training"):
        load_checkpoint(tmp_path, trained(0), IDENTITY)


def test_a_checkpoint_that_cannot_be_read_is_not_taken_for_a_damaged_one(tmp_path: Path):
    """Else it would be trained again, and removed."""
    for step in (1, 2):
        save_checkpoint(tmp_path, step, copied(trained(step)), IDENTITY, keep=2)
    file = tmp_path / "step-00000002" / "state.safetensors"
    file.unlink()
    file.symlink_to(file)  # an error that root meets, too
    with pytest.raises(OSError, match="Too many levels") as raised:
        load_checkpoint(tmp_path, trained(0), IDENTITY)
    assert raised.value.filename == str(file)


# What is beside it.


def test_what_others_put_beside_checkpoints_stays(tmp_path: Path):
    mine, there = tmp_path / "checkpoints", tmp_path / "elsewhere"
    there.mkdir()
    (mine / "step-best").mkdir(parents=True)
    (mine / "step-00000009").symlink_to(there)
    for step in (1, 2, 3):
        save_checkpoint(mine, step, copied(trained(step)), IDENTITY, keep=1)
    names = sorted(path.name for path in mine.iterdir())
    assert names == ["step-00000003", "step-00000009", "step-best"]
    assert load_checkpoint(mine, trained(0), IDENTITY) == 3


def test_whoever_the_umask_lets_may_read_a_checkpoint(tmp_path: Path):
    before = os.umask(0o027)
    try:
        save_checkpoint(tmp_path, 1, copied(trained(1)), IDENTITY, keep=1)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "step-00000001").iterdir()}
    assert modes == {"SHA256SUMS": 0o640, "state.json": 0o640, "state.safetensors": 0o640}


# What else is in it.


def test_a_checkpoint_gives_back_metrics_that_were_not_logged_yet(tmp_path: Path):
    state = trained(1)
    state.unlogged.extend([torch.ones(2, 6), torch.zeros(1, 6)])
    save_checkpoint(tmp_path, 1, copied(state), IDENTITY, keep=1)
    again = trained(0)
    load_checkpoint(tmp_path, again, IDENTITY)
    assert torch.equal(torch.cat(again.unlogged), torch.cat(state.unlogged))


def scaled(precision: str) -> TrainState:
    """A state with a guard, which scales losses in fp16 alone."""
    state = trained(1)
    guard = Guard(
        state.optimizers["adam"], torch.device("cpu"), batch=1, scaled=precision == "fp16", compiled=False
    )
    return replace(state, others={"guard": guard})


@pytest.mark.parametrize("saved", ["fp16", "bf16"])
@pytest.mark.parametrize("loaded", ["fp16", "bf16"])
def test_a_checkpoint_gives_back_scales_and_may_be_gone_on_from_in_another_precision(
    tmp_path: Path, saved: str, loaded: str
):
    state = scaled(saved)
    if saved == "fp16":
        state.others["guard"].load_state_dict({"scale": 2.0, "_growth_tracker": 1})
    save_checkpoint(tmp_path, 1, copied(state), IDENTITY, keep=1)
    again = scaled(loaded)
    assert load_checkpoint(tmp_path, again, IDENTITY) == 1
    if loaded == "fp16":
        assert again.others["guard"].state_dict()["scale"] == (2 if saved == "fp16" else SCALE)


def of_steps(steps: int) -> Identity:
    return Identity.of(Config.model_validate({"optimizer": {"steps": steps}}), "dataset", "vectors")


def test_a_training_may_get_more_steps_than_it_was_begun_with_but_not_fewer(tmp_path: Path):
    save_checkpoint(tmp_path, 1, copied(trained(1)), of_steps(10), keep=1)
    assert load_checkpoint(tmp_path, trained(0), of_steps(20)) == 1
    with pytest.raises(InputError, match=r"another optimizer.steps \(10, now 5\)"):
        load_checkpoint(tmp_path, trained(0), of_steps(5))
