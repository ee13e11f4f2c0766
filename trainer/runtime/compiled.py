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
        _keep_with_autocast()
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


def _keep_with_autocast() -> None:
    """Let torch keep on disk, for the next start, also what was compiled of a graph with autocast in it.

    It finds what it kept by the text of the graph, in which what autocast was given stands; only, its list of
    functions that it does so for lacks these two. Without them a start traces and partitions all anew.
    """
    from torch._inductor import config  # takes a second; who compiles needs it anyway

    for name in ("_enter_autocast", "_exit_autocast"):
        config.unsafe_marked_cacheable_functions[f"torch.amp.autocast_mode.{name}"] = torch.__version__
