"""A compiled module computes what it computed, is kept for the next start, and one that cannot be says so."""

import shutil

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from emojigan.trainer.runtime import compiled
from emojigan.trainer.runtime.compiled import Compiled


def test_a_module_that_cannot_be_compiled_works_as_it_is_and_says_so_once(monkeypatch, capsys):
    def refuse(*_: object) -> None:
        raise RuntimeError("no compiler here\nand much more")

    monkeypatch.setattr(compiled.torch, "compile", lambda *_, **__: refuse)
    module = nn.Linear(2, 3)
    wrapped, inputs = Compiled(module), torch.ones(1, 2)
    assert torch.equal(wrapped(inputs), module(inputs)) and torch.equal(wrapped(inputs), module(inputs))
    assert (
        capsys.readouterr().err == "Not compiled, so slower: no compiler here. --compile off asks for it.\n"
    )


def test_an_error_of_a_module_that_was_compiled_is_its_own(monkeypatch):
    outcomes = iter([torch.ones(1), RuntimeError("out of memory")])

    def run(*_: object) -> torch.Tensor:
        outcome = next(outcomes)
        if isinstance(outcome, RuntimeError):
            raise outcome
        return outcome

    monkeypatch.setattr(compiled.torch, "compile", lambda *_, **__: run)
    wrapped = Compiled(nn.Linear(2, 3))
    wrapped(torch.ones(1, 2))
    with pytest.raises(RuntimeError, match="out of memory"):
        wrapped(torch.ones(1, 2))


class Halved(nn.Module):
    """A product in half precision, whichever."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, matrix: torch.Tensor) -> tuple[torch.Tensor]:
        with torch.autocast("cpu", self.dtype):
            return (matrix @ matrix,)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, as it compiles
@pytest.mark.skipif(not shutil.which("g++"), reason="needs a compiler (g++)")
def test_what_was_compiled_with_autocast_is_found_again_by_its_precision(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    found, types = [], (torch.bfloat16, torch.float16, torch.bfloat16)
    for dtype in types:
        torch._dynamo.reset()  # forgets all but what is on the disk
        before = counters["aot_autograd"]["autograd_cache_hit"]
        (product,) = Compiled(Halved(dtype))(torch.ones(4, 4))
        assert product.dtype == dtype
        found.append(counters["aot_autograd"]["autograd_cache_hit"] - before)
    assert found == [0, 0, 1]


def test_its_parameters_are_those_of_the_module_under_one_name(monkeypatch):
    monkeypatch.setattr(compiled.torch, "compile", lambda module, **_: module)
    module = nn.Linear(2, 3)
    assert dict(Compiled(module).named_parameters()).keys() == {"module.weight", "module.bias"}
