"""What is cast in a step is read in the next."""

from types import SimpleNamespace

import pytest
import torch

from emojigan.trainer.runtime.votes import Votes


@pytest.fixture
def votes() -> Votes:
    return Votes(SimpleNamespace(device=torch.device("cpu"), num_processes=1))  # pyright: ignore


def test_a_flag_is_read_by_the_call_after(votes: Votes):
    assert [votes(flag) for flag in (False, True, False, False)] == [False, False, True, False]


def test_the_first_call_reads_its_own(votes: Votes):
    assert votes(True)
