"""A function of tensors as a CUDA graph: one launch, where each of its kernels would be one.

calls 1 … WARM_UP ─► run as they are ─► captured once ─► each further call: inputs copied in, replayed
"""

from collections.abc import Callable

import torch

from ...datasets.errors import InputError

WARM_UP = 3
"""Calls, in which libraries choose their kernels and optimizers make their state."""


class Captured:
    """The function, which must work on the same memory each time it is called, and ask the device nothing.

    What it returns is overwritten by the next call.
    """

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        self._function = function
        self._calls = 0
        self._stream = torch.cuda.Stream()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[torch.Tensor, ...] = ()
        self._output = torch.empty(0)

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        if self._calls < WARM_UP:
            self._calls += 1
            return self._run(inputs)
        if self._graph is None:
            self._capture(inputs)
        for static, given in zip(self._inputs, inputs, strict=True):
            static.copy_(given, non_blocking=True)
        assert self._graph is not None
        self._graph.replay()
        return self._output

    def release(self) -> None:
        """Forget the graph. The process group whose collectives are in it cannot be left before.

        The next call runs as it is, for what it works on may have been replaced; then it is captured anew.
        """
        self._calls = min(self._calls, WARM_UP - 1)
        if self._graph:
            self._graph.reset()
            self._graph = None

    def _run(self, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """As it is, but on the stream of the capture: what it allocates must not be another's."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            output = self._function(*(given.cuda(non_blocking=True) for given in inputs))
        torch.cuda.current_stream().wait_stream(self._stream)
        return output

    def _capture(self, inputs: tuple[torch.Tensor, ...]) -> None:
        # Of its own: what is given may be memory into which the next batch is copied meanwhile.
        self._inputs = tuple(given.cuda().clone() for given in inputs)
        self._graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        try:
            with torch.cuda.graph(self._graph, stream=self._stream):
                self._output = self._function(*self._inputs)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            first = str(error).partition("\n")[0]
            raise InputError(f"The updates cannot be captured here: {first}. Use --graphs off.") from error
