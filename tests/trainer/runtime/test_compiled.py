"""A compiled module computes what it computed, and one that cannot be compiled says so."""

import pytest
import torch
from torch import nn

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


def test_its_parameters_are_those_of_the_module_under_one_name(monkeypatch):
    monkeypatch.setattr(compiled.torch, "compile", lambda module, **_: module)
    module = nn.Linear(2, 3)
    assert dict(Compiled(module).named_parameters()).keys() == {"module.weight", "module.bias"}
