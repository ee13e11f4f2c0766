"""A module compiled, or as it is where the device cannot compile it."""

import warnings

import torch
from torch import nn

from ...datasets.printable import printable
from ...datasets.store.trouble import tell

# What is float32 here is meant to be, and not TensorFloat32: torch advises that once a process.
warnings.filterwarnings("ignore", "TensorFloat32 tensor cores", UserWarning)


class Compiled(nn.Module):
    """The module under torch.compile; the first call that cannot be compiled says so in one line."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self._compiled = [torch.compile(module, dynamic=False)]  # in a list: it has the same parameters
        self._works = False

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if self._compiled:
            try:
                outputs = self._compiled[0](*inputs)
                self._works = True
                return outputs
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                if self._works:
                    raise
                self._compiled.clear()
                first = str(error).strip().partition("\n")[0]
                tell(f"Not compiled, so slower: {printable(first)}. --compile off asks for it.")
        return self.module(*inputs)
