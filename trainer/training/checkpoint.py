"""The state to resume from, and how to find it: run the same command again.

    step-00000400/{state.safetensors, state.json, SHA256SUMS}

No pickle. A checkpoint takes its name only when every byte is on the disk; the newest whole one is used.
There is no random state in it: noise and order depend on the step alone.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError

from ...datasets.errors import InputError
from ...datasets.printable import printable
from ...datasets.store.atomic import creating_folder, is_whole, remove_folder, telling_where
from ...datasets.store.trouble import MISSING
from ..config import Config
from ..model.snapshot import GENERATOR
from ..model.tensors import read_tensors, refuse_not_finite, write_tensors
from ..run import CHECKPOINTS, step_name, steps_in
from ..runtime.background import all_later
from .guard import as_numbers

STATE, FACTS = "state.safetensors", "state.json"
UNLOGGED = "unlogged"


@dataclass(frozen=True)
class Identity:
    """What a checkpoint belongs to: resuming under anything else is refused."""

    config: dict  # without the section `run`
    dataset: str  # SHA-256 of the manifest
    vectors: str  # SHA-256 of the vector file

    @classmethod
    def of(cls, config: Config, dataset: str, vectors: str) -> "Identity":
        """The identity of a training."""
        return cls(config.model_dump(mode="json", exclude={"run"}), dataset, vectors)


class Numbers(Protocol):
    """What has some numbers to go on with."""

    def state_dict(self) -> dict[str, float]:
        """By their names."""
        ...

    def load_state_dict(self, numbers: Mapping[str, float]) -> None:
        """Go on with them."""
        ...


@dataclass(frozen=True)
class TrainState:
    """Everything that changes while training, besides the step."""

    modules: Mapping[str, torch.nn.Module]
    optimizers: Mapping[str, torch.optim.Optimizer]
    others: Mapping[str, Numbers] = field(default_factory=dict)
    unlogged: list[torch.Tensor] = field(default_factory=list)
    """Metrics of the steps since they were last logged, float32 [steps, metrics] each."""


def begin_to_copy(state: TrainState) -> Callable[[], dict[str, torch.Tensor]]:
    """Begin to copy the state to the host's memory, and go on; further steps do not change the copy.

    Returns:
        What waits for the copy, to be called before the next step: everything under flat names, such as
        critic.output.bias or critic_optimizer.3.exp_avg.
    """
    tensors = {
        f"{name}.{key}": tensor
        for name, module in state.modules.items()
        for key, tensor in module.state_dict().items()
    }
    if state.unlogged:
        tensors[UNLOGGED] = as_numbers(torch.cat(state.unlogged))
    for name, optimizer in state.optimizers.items():
        for parameter, slots in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}.{parameter}.{slot}": tensor for slot, tensor in slots.items()}
    read = all_later(tensors)

    def copied() -> dict[str, torch.Tensor]:
        return read() | {
            f"{name}.{key}": torch.tensor(number, dtype=torch.float64)
            for name, other in state.others.items()
            for key, number in other.state_dict().items()
        }

    return copied


def save_checkpoint(
    folder: Path, step: int, state: Mapping[str, torch.Tensor], identity: Identity, *, keep: int
) -> None:
    """Write the state after `step` steps, then remove all but it and those before, `keep` in all.

    Those of later steps go, too: training went on from the newest that was whole, so they are damaged.

    Args:
        state: what `begin_to_copy` copied.

    Raises:
        InputError: it holds NaN or infinity; nothing is written or removed.
    """
    refuse_not_finite(state, f"checkpoint {folder / step_name(step)}")
    path = folder / step_name(step)
    with creating_folder(path) as temporary:
        write_tensors(temporary / STATE, state)
        content = json.dumps({"step": step, "identity": asdict(identity)}, indent=1)
        (temporary / FACTS).write_text(content, encoding="utf-8")
    kept = [each for each in steps_in(folder) if each <= path][-keep:]
    for other in {*steps_in(folder), *folder.glob(".step-*.tmp")} - {*kept}:
        remove_folder(other)


def load_checkpoint(
    folder: Path, state: TrainState, identity: Identity, ancestors: Collection[str] = ()
) -> int:
    """Put the newest whole checkpoint into `state` and return its step; 0 when there is none.

    Args:
        ancestors: identities that the dataset had before accounts were forgotten; theirs is as good.

    Raises:
        InputError: the run was begun with another config, dataset or vectors; the first difference is named.
            Or what is in a checkpoint is not what this training has, or every checkpoint is damaged.
        OSError: one cannot be read: nothing is concluded from that.
    """
    paths = steps_in(folder)[::-1]
    for path in paths:
        if not is_whole(path):
            print(printable(f"{path} is damaged."))
            continue
        tensors, step, saved = _read(path)
        if not all(tensor.isfinite().all() for tensor in tensors.values()):
            print(printable(f"{path} holds numbers that are not finite."))
            continue
        _refuse_another(path, saved, identity, ancestors)
        if misfit := _misfit(tensors, state, step):
            raise _not_ours(path, misfit)
        _put(tensors, state)
        return step
    if paths:
        raise InputError(f"Every checkpoint in {folder} is damaged. Remove that folder to start again.")
    return 0


def check_resumable(folder: Path, identity: Identity, ancestors: Collection[str]) -> None:
    """Refuse what `load_checkpoint` would: a run that was begun with another config, dataset or vectors."""
    if path := _newest(folder):
        _, _, saved = _read(path)
        _refuse_another(path, saved, identity, ancestors)


def _refuse_another(path: Path, saved: dict, identity: Identity, ancestors: Collection[str]) -> None:
    if saved["dataset"] in ancestors:
        saved["dataset"] = identity.dataset
    _grow(saved["config"]["optimizer"], identity.config["optimizer"])
    if difference := _difference(saved, asdict(identity)):
        again = "that again"
        if difference.startswith("dataset "):  # never what is forgotten
            again = "that, as it is after every `emojigan shards forget`"
        raise InputError(f"{path} was made with another {difference}. Use {again}, or another --out.")


def warm_start(source: Path, state: TrainState) -> None:
    """Begin with networks of a training: those of a run's last checkpoint, or a snapshot's generator.

    Raises:
        InputError: there is none, or its networks have other sizes.
    """
    for name, parameters in read_networks(source, state.modules).items():
        try:
            state.modules[name].load_state_dict(parameters)
        except RuntimeError as error:
            wrong = str(error).splitlines()[-1].strip()
            raise InputError(f"--init-from {source}: its {name} has other sizes: {wrong}") from error


def read_networks(source: Path, names: Iterable[str]) -> dict[str, dict[str, torch.Tensor]]:
    """The networks of these names of a run's last checkpoint; of a snapshot its generator, and the average.

    Raises:
        InputError: there is none.
    """
    if (source / GENERATOR).exists():
        generator = read_tensors(source / GENERATOR)
        return {"generator": generator, "average": generator}
    path = _newest(source / CHECKPOINTS)
    if path is None:
        message = f"--init-from {source}: neither a run with a checkpoint nor a snapshot."
        raise InputError(message) from FileNotFoundError(source)
    tensors, _, _ = _read(path)
    return {name: _under(tensors, name) for name in names}


def _newest(folder: Path) -> Path | None:
    """The newest whole checkpoint."""
    return next((each for each in steps_in(folder)[::-1] if is_whole(each)), None)


def _read(path: Path) -> tuple[dict[str, torch.Tensor], int, dict]:
    """The tensors of a checkpoint, its step, and the identity of its training."""
    try:
        with telling_where(path / FACTS):
            content = json.loads((path / FACTS).read_text(encoding="utf-8"))
        tensors, saved = read_tensors(path / STATE), {**content["identity"]}
        if step_name(content["step"]) != path.name:
            raise ValueError(f"step {content['step']}")
        if not {"dataset", "config"} <= saved.keys() or "steps" not in saved["config"]["optimizer"]:
            raise ValueError(FACTS)
    except (*MISSING, SafetensorError, ValueError, TypeError, KeyError) as error:
        raise _not_ours(path, f"{type(error).__name__}: {error}") from error
    return tensors, content["step"], saved


def _not_ours(path: Path, what: str) -> InputError:
    return InputError(f"{path} was not written by this version for this training: {what}. Use another --out.")


def _grow(saved: dict, wanted: dict) -> None:
    """Let a training have more steps than it was begun with; its rates become those of the longer."""
    if saved["steps"] < wanted["steps"]:
        saved["steps"] = wanted["steps"]


def _misfit(tensors: Mapping[str, torch.Tensor], state: TrainState, step: int) -> str | None:
    """The first tensor that is missing in a checkpoint, is not known, or has another shape."""
    free = tuple(f"{name}." for name in state.others)  # another precision may be gone on with
    found = {key: tuple(tensor.shape) for key, tensor in tensors.items() if not key.startswith(free)}
    found.pop(UNLOGGED, None)
    wanted = _shapes(state, begun=step > 0)
    for key in sorted(found | wanted):
        if found.get(key) != wanted.get(key):
            return f"{key} is {found.get(key, 'missing')}, not {wanted.get(key, 'known')}"
    return None


def _shapes(state: TrainState, *, begun: bool) -> dict[str, tuple[int, ...]]:
    """What a checkpoint must hold; Adam has moments as soon as training has begun."""
    shapes = {
        f"{name}.{key}": tuple(tensor.shape)
        for name, module in state.modules.items()
        for key, tensor in module.state_dict().items()
    }
    for name, optimizer in state.optimizers.items() if begun else ():
        parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
        for number, parameter in enumerate(parameters):
            slots = {"step": (), "exp_avg": tuple(parameter.shape), "exp_avg_sq": tuple(parameter.shape)}
            shapes |= {f"{name}.{number}.{slot}": shape for slot, shape in slots.items()}
    return shapes


def _put(tensors: Mapping[str, torch.Tensor], state: TrainState) -> None:
    """Give the state what a checkpoint holds."""
    for name, module in state.modules.items():
        module.load_state_dict(_under(tensors, name))
    for name, other in state.others.items():
        if numbers := _under(tensors, name):  # versions before had some of them only in fp16
            other.load_state_dict({key: number.item() for key, number in numbers.items()})
    if UNLOGGED in tensors:
        state.unlogged.append(tensors[UNLOGGED])
    for name, optimizer in state.optimizers.items():
        slots: dict[int, dict[str, torch.Tensor]] = {}
        for key, tensor in _under(tensors, name).items():
            parameter, slot = key.split(".")
            slots.setdefault(int(parameter), {})[slot] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})
        for parameter, moments in optimizer.state.items():
            for slot, tensor in moments.items():
                if tensor.shape == parameter.shape:
                    # A fused Adam reads all of them in the parameter's layout.
                    moments[slot] = torch.empty_like(parameter).copy_(tensor)


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
