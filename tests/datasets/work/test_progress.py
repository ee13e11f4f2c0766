"""What a progress bar says reads well, and so does a time."""

import pytest

from emojigan.datasets.work.progress import Bar, duration, progress


@pytest.mark.parametrize(
    ("elapsed", "rate"), [(116, ", 1.16 s/step]"), (10, "10.00 steps/s]"), (1, "100.00 steps/s]")]
)
def test_a_slow_rate_is_told_in_seconds_and_a_fast_one_in_steps(elapsed: float, rate: str):
    text = Bar.format_meter(n=100, total=200, elapsed=elapsed, unit="steps")
    assert text.replace("  ", " ").endswith(rate)


def test_a_bar_without_an_end_tells_its_rate_as_well():
    assert Bar.format_meter(n=5, total=None, elapsed=10, unit="posts") == "5 posts [00:10,  2.00 s/post]"


@pytest.mark.parametrize("patience", [0, 1000])
def test_work_that_is_done_soon_shows_no_bar_where_it_need_not(patience: float, capsys):
    with progress(3, "reading", "images", patience=patience) as bar:
        bar.update(3)
    assert ("reading" in capsys.readouterr().err) == (not patience)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "0 s"),
        (40, "40 s"),
        (59.7, "1 min"),
        (725, "12 min"),
        (12000, "3 h 20 min"),
        (3599, "1 h 0 min"),
    ],
)
def test_a_duration_is_said_as_people_say_it(seconds: float, said: str):
    assert duration(seconds) == said
