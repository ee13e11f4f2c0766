"""A training tells how long it will be, in lines that stay in a log."""

import pytest

from emojigan.trainer.training.pace import Pace


def told(steps: int, times: list[float], capsys: pytest.CaptureFixture[str], *, shown: bool = True) -> str:
    """What is printed in the course of steps that end at some times."""
    now = [0.0]
    pace = Pace(steps, shown=shown, clock=lambda: now[0])
    for now[0] in times:
        pace.step()
    return capsys.readouterr().out


def test_the_time_is_told_once_after_three_steps_and_the_first_does_not_count(capsys):
    assert told(1203, [60, 70, 80, 95, 120], capsys) == "1,200 steps left: about 3 h 20 min on this machine\n"


def test_a_training_that_ends_before_tells_nothing(capsys):
    assert told(3, [60, 70, 80], capsys) == ""


def test_other_ranks_than_the_first_tell_nothing(capsys):
    assert told(1203, [60, 70, 80], capsys, shown=False) == ""
