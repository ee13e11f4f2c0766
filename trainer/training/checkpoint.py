"""The state to resume from, and how to find it: run the same command again.

    step-00000400/{state.safetensors, state.json, SHA256SUMS}

No pickle. A checkpoint takes its name only when every byte is on the disk; the newest whole one is used.
There is no random state in it: noise and order depend on the step alone.
"""

import json
import shutil
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.amp.grad_scaler import GradScaler

from ...datasets.errors import InputError
from ...datasets.printable import printable
from ...datasets.store.atomic import creating_folder, is_whole
from ..config import Config
from ..run import step_name, steps_in

KEEP = 2


@dataclass(frozen=True)
class Identity:
    """What a checkpoint belongs to: resuming under anything else is refused."""

    config: dict  # without the section `run`
    dataset: str  # SHA-256 of the manifest
    vectors: str  # SHA-256 of the vector file

    @classmethod
    def of(cls, config: Config, dataset: str, vectors: str) -> "Identity":
        """The identity of a training."""
        return cls(config.model_dump(exclude={"run"}), dataset, vectors)


@dataclass(frozen=True)
class TrainState:
    """Everything that changes while training, besides the step."""

    modules: Mapping[str, torch.nn.Module]
    optimizers: Mapping[str, torch.optim.Optimizer]
    scalers: Mapping[str, GradScaler] = field(default_factory=dict)


def copied(state: TrainState) -> dict[str, torch.Tensor]:
    """A copy in the host's memory, which further steps do not change.

    Everything under flat names, such as critic.output.bias or critic_optimizer.3.exp_avg.
    """
    tensors = {
        f"{name}.{key}": tensor
        for name, module in state.modules.items()
        for key, tensor in module.state_dict().items()
    }
    tensors |= {
        f"{name}.{key}": torch.tensor(number, dtype=torch.float64)
        for name, scaler in state.scalers.items()
        for key, number in scaler.state_dict().items()
    }
    for name, optimizer in state.optimizers.items():
        for parameter, slots in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}.{parameter}.{slot}": tensor for slot, tensor in slots.items()}
    return {name: _here(tensor) for name, tensor in tensors.items()}


def _here(tensor: torch.Tensor) -> torch.Tensor:
    # Pinned memory takes what a GPU has at the speed of the bus, and torch keeps it for the next copy.
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda).copy_(tensor.detach())


def save_checkpoint(folder: Path, step: int, state: Mapping[str, torch.Tensor], identity: Identity) -> None:
    """Write the state after `step` steps, then remove all but it and the one before.

    Those of later steps go, too: training went on from the newest that was whole, so they are damaged.

    Args:
        state: as `copied` gives it.
    """
    path = folder / step_name(step)
    with creating_folder(path) as temporary:
        save_file(dict(state), temporary / "state.safetensors")
        content = json.dumps({"step": step, "identity": asdict(identity)}, indent=1)
        (temporary / "state.json").write_text(content, encoding="utf-8")
    kept = [each for each in steps_in(folder) if each <= path][-KEEP:]
    for other in {*steps_in(folder), *folder.glob(".step-*.tmp")} - {*kept}:
        shutil.rmtree(other)


def load_checkpoint(
    folder: Path, state: TrainState, identity: Identity, ancestors: Collection[str] = ()
) -> int:
    """Put the newest whole checkpoint into `state` and return its step; 0 when there is none.

    Args:
        ancestors: identities that the dataset had before accounts were forgotten; theirs is as good.

    Raises:
        InputError: the run was begun with another config, dataset or vectors; the first difference is named.
            Or every checkpoint is damaged.
    """
    paths = steps_in(folder)[::-1]
    if not paths:
        return 0
    path = next((each for each in paths if is_whole(each)), None)
    if path is None:
        raise InputError(f"Every checkpoint in {folder} is damaged. Remove that folder to start again.")
    for damaged in paths[: paths.index(path)]:
        print(printable(f"{damaged} is damaged; trying the one before."))
    content = json.loads((path / "state.json").read_text(encoding="utf-8"))
    saved = content["identity"]
    if saved["dataset"] in ancestors:
        saved["dataset"] = identity.dataset
    if difference := _difference(saved, asdict(identity)):
        again = "that again"
        if difference.startswith("dataset "):  # never what is forgotten
            again = "that, as it is after every `emojigan shards forget`"
        raise InputError(f"{path} was made with another {difference}. Use {again}, or another --out.")
    tensors = load_file(path / "state.safetensors")
    for name, module in state.modules.items():
        module.load_state_dict(_under(tensors, name))
    for name, scaler in state.scalers.items():
        if numbers := _under(tensors, name):  # it was saved in fp16
            scaler.load_state_dict({key: number.item() for key, number in numbers.items()})
    for name, optimizer in state.optimizers.items():
        slots: dict[int, dict[str, torch.Tensor]] = {}
        for key, tensor in _under(tensors, name).items():
            parameter, slot = key.split(".")
            slots.setdefault(int(parameter), {})[slot] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})
        for parameter, moments in optimizer.state.items():
            for slot, tensor in moments.items():
                if (
                    tensor.shape == parameter.shape
                ):  # a fused Adam reads all of them in the parameter's layout
                    moments[slot] = torch.empty_like(parameter).copy_(tensor)
    return content["step"]


def _under(tensors: Mapping[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {
        key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")
    }


def _difference(saved: dict, wanted: dict, path: str = "") -> str | None:
    """Where two nested dicts first differ, with both values."""
    for key in {**saved, **wanted}:
        old, new = saved.get(key), wanted.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            if inner := _difference(old, new, f"{path}{key}."):
                return inner
        elif old != new:
            return f"{path.removeprefix('config.')}{key} ({old}, now {new})"
    return None
