"""Work in the background: in turn, finished however the block ends, and no error of it is lost."""

import time
from functools import partial
from threading import Event, get_ident

import pytest

from emojigan.trainer.runtime.background import Background


class Full(OSError):
    pass


def fail() -> None:
    raise Full("no space")


def test_a_start_does_not_wait_for_the_work():
    go_on, done = Event(), []
    with Background() as background:
        background.start(lambda: done.append(go_on.wait(10)))
        assert not done
        go_on.set()
    assert done == [True]


def test_work_is_done_in_turn_by_another_thread():
    done: list[tuple[int, int]] = []
    with Background() as background:
        for pair in ((0, 1), (2, 3), (4, 5)):
            background.start(*(lambda each=each: done.append((each, get_ident())) for each in pair))
    assert [number for number, _ in done] == [0, 1, 2, 3, 4, 5]
    assert get_ident() not in {thread for _, thread in done}


def test_an_error_is_raised_by_the_next_start_and_nothing_is_done_after_it():
    done: list[int] = []
    with pytest.raises(Full), Background() as background:
        background.start(fail, partial(done.append, 1))
        background.start(partial(done.append, 2))
    assert done == []


def test_an_error_is_raised_by_a_look_at_work_that_has_ended():
    with pytest.raises(Full), Background() as background:
        background.look()
        background.start(fail)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            background.look()
    assert time.monotonic() < deadline


def test_a_look_does_not_wait_for_the_work():
    go_on = Event()
    with Background() as background:
        background.start(lambda: go_on.wait(10) and None)
        background.look()
        go_on.set()


def test_an_error_of_the_last_work_is_raised_at_the_end():
    with pytest.raises(Full), Background() as background:
        background.start(fail)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_was_begun_is_finished_when_the_training_is_interrupted(error: type[BaseException]):
    interrupted, done = Event(), []
    with pytest.raises(error), Background() as background:
        background.start(lambda: done.append(interrupted.wait(10)))
        interrupted.set()
        raise error
    assert done == [True]


def test_beside_another_error_one_of_the_work_is_told(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(KeyboardInterrupt), Background() as background:
        background.start(fail)
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "writing: no space. Mend that, and run the same command again.\n"
