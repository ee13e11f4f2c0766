"""No update is applied whose loss or gradients are not finite, on any rank.

losses of a part ─► backward ─► gradients, added up over the ranks ─► step ─► Adam's, or a count
counts ─► read a step later ─► told ─► several in a row: the last checkpoint, and after that the end

The mean loss lies behind the gradients: where it is not finite, their sum over the ranks, which is taken
anyway, carries that to all of them, so that all decide alike. The device decides by itself; nobody waits for
it.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from accelerate import Accelerator
from torch import nn
from tqdm import tqdm

from ...datasets.errors import InputError
from ..config import Config
from ..runtime.background import later
from ..runtime.compiled import Compiled
from ..runtime.ranks import precision

IN_A_ROW = 3  # steps without an update of one of the networks, after which training goes back
RETURNS = 2  # to the same checkpoint; when it fails once more behind it, training ends
NAMED = 8  # samples, in a line
NETWORKS = ("critic", "generator")
COUNTS = ("faults", "faults_in_a_row", "faulty_batch")  # the last: the number of the last one's batch
LARGEST = torch.finfo(torch.float32).max
SCALE, GROWTH, BACKOFF, GROWTH_INTERVAL = 2.0**16, 2.0, 0.5, 2000  # of losses in fp16, as torch has them


class Guard:
    """The step of one network's Adam, which must be fused.

    In fp16 the losses are scaled, and a scale that is too large for the gradients is halved: only where
    none is left is an update that is not applied a fault.

    Args:
        batch: rows of a batch on this rank.
        scaled: whether the trunks compute in fp16.
        compiled: whether what it computes is compiled.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        *,
        batch: int,
        scaled: bool,
        compiled: bool,
    ) -> None:
        self.optimizer, self._scaled = optimizer, scaled
        self.scale = torch.tensor(SCALE if scaled else 1.0, dtype=torch.float32, device=device)
        self._growth = torch.zeros((), dtype=torch.int32, device=device)
        self._found = torch.zeros((), dtype=torch.float32, device=device)
        # Both are looked for by a fused Adam: it divides by the one, and does nothing where the other is 1.
        optimizer.grad_scale = self.scale if scaled else None  # pyright: ignore[reportAttributeAccessIssue]
        optimizer.found_inf = self._found  # pyright: ignore[reportAttributeAccessIssue]
        self.parameters: list[nn.Parameter] = [
            each for group in optimizer.param_groups for each in group["params"]
        ]
        sizes = [each.numel() for each in self.parameters]
        self.gradients = torch.zeros(sum(sizes) + 1, device=device)
        """Of all parameters, one behind the other, and the mean loss: float32 [parameters + 1]."""
        *parts, self.loss = self.gradients.split([*sizes, 1])
        for each, part in zip(self.parameters, parts, strict=True):
            each.grad = part.as_strided(each.shape, each.stride())  # what Adam reads
        self.told = torch.zeros(len(COUNTS) + batch, dtype=torch.int64, device=device)
        """The counts; then which rows of that batch had a loss that was not finite, on this rank."""
        self.counts, self.rows = self.told.split([len(COUNTS), batch])
        self._judge = Compiled(_Verdict()) if compiled else _Verdict()
        self.returns = 0
        """How often training went back since the last update that was applied, or to the same checkpoint."""

    @torch.no_grad()
    def step(self, batch: torch.Tensor, losses: torch.Tensor) -> None:
        """Apply an update, or count that it is not.

        A gradient whose square is no number in float32 is one that Adam cannot take, too.

        Args:
            batch: its number, int64 [].
            losses: of all of this rank's rows, [batch].
        """
        self._judge(self._found, self.told, self.scale, batch, losses, self.gradients)
        self.optimizer.step()
        if self._scaled:
            torch._amp_update_scale_(self.scale, self._growth, self._found, GROWTH, BACKOFF, GROWTH_INTERVAL)  # pyright: ignore[reportPrivateImportUsage]

    def state_dict(self) -> dict[str, float]:
        """The numbers that a training goes on with."""
        numbers = {name: float(count) for name, count in zip(COUNTS, self.counts.tolist(), strict=True)}
        numbers["returns"] = float(self.returns) if numbers["faults_in_a_row"] else 0.0
        if self._scaled:
            numbers |= {"scale": float(self.scale), "_growth_tracker": float(self._growth)}
        return numbers

    def load_state_dict(self, numbers: Mapping[str, float]) -> None:
        """Go on with them. The scale is only in those that were saved in fp16."""
        self.counts.copy_(torch.tensor([int(numbers.get(name, 0)) for name in COUNTS]))
        self.returns = int(numbers.get("returns", 0))
        if self._scaled and "scale" in numbers:
            self.scale.fill_(numbers["scale"])
            self._growth.fill_(int(numbers["_growth_tracker"]))


@torch.enable_grad()
def backward(
    guards: Sequence[Guard], losses: Sequence[torch.Tensor], share: float, *, more: bool = False
) -> None:
    """Put into the guards what a part of a batch adds to the gradients of the mean losses.

    Args:
        losses: of the rows, [rows], for each guard; by the parameters of its own network alone.
        share: of the part in all ranks' batch.
        more: add it to what is there.
    """
    means = [each.mean() for each in losses]
    parameters = [each for guard in guards for each in guard.parameters]
    seeds = [guard.scale * share for guard in guards]
    found = torch.autograd.grad(means, parameters, seeds, materialize_grads=True)
    there = [*(each.grad for each in parameters), *(guard.loss for guard in guards)]
    new = [*found, *(mean.detach()[None] * share for mean in means)]
    with torch.no_grad():
        (torch._foreach_add_ if more else torch._foreach_copy_)(there, new)  # pyright: ignore[reportPrivateImportUsage, reportArgumentType]


class _Verdict(nn.Module):
    """Whether gradients are not finite, and what is told then, in place: a module, for it is compiled."""

    def forward(
        self,
        found: torch.Tensor,  # float32 []
        told: torch.Tensor,  # int64 [3 + batch]
        scale: torch.Tensor,  # float32 []
        batch: torch.Tensor,  # its number, int64 []
        losses: torch.Tensor,  # [batch]
        gradients: torch.Tensor,  # float32 [parameters + 1]
    ) -> tuple[()]:
        infinite = ~torch.linalg.vector_norm(gradients).square().isfinite()
        bad = infinite & (scale <= 1)  # a larger one is to be halved
        count, in_a_row, last = told[: len(COUNTS)].unbind()
        counts = torch.stack([count + bad, (in_a_row + 1) * bad, torch.where(bad, batch, last)])
        rows = torch.where(bad, ~losses.isfinite(), told[len(COUNTS) :])
        found.copy_(infinite)
        told.copy_(torch.cat([counts, rows]))
        return ()


class Faults:
    """What the guards counted, the same on all ranks. It is read a step later: no step is waited for.

    Args:
        name: what the samples of some rows of a batch are called, by its number.
    """

    def __init__(
        self,
        config: Config,
        accelerator: Accelerator,
        guards: tuple[Guard, Guard],
        name: Callable[[int, list[int]], list[str]],
    ) -> None:
        settings = config.optimizer
        self._config, self._accelerator, self._guards, self._name = config, accelerator, guards, name
        self._updates = (settings.num_critic_steps, config.generator_updates)
        self._read = self._begin_to_read()
        self._counts = [count for count, *_ in self._read().tolist()]
        self._back_at = -1

    def several(self, step: int) -> bool:
        """Tell of the faults of the step before; whether `IN_A_ROW` steps were without an update."""
        read = self._read().tolist()
        self._read = self._begin_to_read()
        for network, told, before in zip(NETWORKS, read, self._counts, strict=True):
            if told[0] > before:
                self._tell(step - 1, network, told[0] - before, told[2], told[3:])
        self._counts = [count for count, *_ in read]
        return any(told[1] >= IN_A_ROW * each for told, each in zip(read, self._updates, strict=True))

    def back(self, load: Callable[[], int], step: int) -> None:
        """Go on at `step` with the state of the newest checkpoint, which `load` puts in place.

        Raises:
            InputError: it was gone back to before, or is of a step within such a row, and training failed
                again.
        """
        before = [(guard.counts.clone(), guard.returns) for guard in self._guards]
        found = load()
        again = found == self._back_at or any(int(guard.counts[1]) for guard in self._guards)
        self._back_at = found
        for guard, (counts, returns) in zip(self._guards, before, strict=True):
            guard.counts.copy_(counts)
            guard.counts[1] = 0
            guard.returns = returns + 1 if again else 1
        self._read = self._begin_to_read()
        seen = f"Step {step:,}: {IN_A_ROW} steps in a row had losses or gradients that are not finite"
        if self._guards[0].returns > RETURNS:
            raise InputError(
                f"{seen}, also after {RETURNS} returns to the checkpoint of step {found:,}, which is kept. "
                f"{self._advice()}"
            )
        if self._accelerator.is_main_process:
            tqdm.write(f"{seen}. Back to the weights of step {found:,}, and on with other data.")

    def count(self) -> torch.Tensor:
        """All faults until now, on the device, int64 []."""
        first, second = self._guards
        return first.counts[0] + second.counts[0]

    def _begin_to_read(self) -> Callable[[], torch.Tensor]:
        return later(torch.stack([guard.told for guard in self._guards]))

    def _tell(self, step: int, network: str, number: int, batch: int, rows: list[int]) -> None:
        """One line of rank 0 that names the samples of all ranks."""
        of_all = self._accelerator.gather(torch.tensor(rows, device=self._accelerator.device))
        assert isinstance(of_all, torch.Tensor)
        if not self._accelerator.is_main_process:
            return
        bad = of_all.nonzero().flatten().tolist()
        if not bad:
            where = "in the gradients alone"
        elif len(bad) == len(of_all):
            where = "in all of its samples"
        else:
            where = "in " + ", ".join(self._name(batch, bad[:NAMED])) + (", …" if len(bad) > NAMED else "")
        tqdm.write(
            f"Step {step:,}: {number} update(s) of the {network} left out: not finite in batch {batch:,}, "
            f"{where}."
        )

    def _advice(self) -> str:
        rate = self._config.optimizer.learning_rate
        other = f"Train into another --out with a --learning-rate below {rate:g}."
        if precision(self._config) != torch.float32:
            return f"Go on with --precision float32. If it comes again: {other[0].lower()}{other[1:]}"
        return other


def as_numbers(metrics: torch.Tensor) -> torch.Tensor:
    """The same with the largest numbers where they are not finite: so files hold numbers alone."""
    return metrics.nan_to_num(LARGEST, LARGEST, -LARGEST)


def finite_mean(metrics: torch.Tensor) -> torch.Tensor:
    """The mean of what is finite in each column, [n, k] → [k]; NaN where nothing is."""
    return torch.where(metrics.abs() < LARGEST, metrics, math.nan).nanmean(dim=0)
