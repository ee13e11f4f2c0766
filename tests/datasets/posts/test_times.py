"""A moment is the same second however it is written, and nothing else is one."""

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emojigan.datasets.posts.times import to_seconds

ZONES = st.timedeltas(timedelta(hours=-14), timedelta(hours=14)).map(
    lambda offset: timezone(timedelta(minutes=offset // timedelta(minutes=1)))
)


@given(st.datetimes(timezones=ZONES, min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 29)))
def test_a_moment_is_the_same_in_every_zone_and_writing(moment):
    utc = moment.astimezone(timezone.utc)
    seconds = to_seconds(moment)
    assert seconds is not None
    assert timedelta(0) <= utc - datetime(1970, 1, 1, tzinfo=timezone.utc) - timedelta(seconds=seconds)
    for other in (utc, moment.isoformat(), utc.isoformat().replace("+00:00", "Z"), utc.replace(tzinfo=None)):
        assert to_seconds(other) == seconds
    assert to_seconds(seconds) == to_seconds(str(seconds)) == to_seconds(float(seconds)) == seconds


@given(
    st.one_of(st.text(), st.floats(), st.integers(), st.booleans(), st.none(), st.binary(), st.datetimes())
)
def test_anything_gives_seconds_or_none(value):
    seconds = to_seconds(value)
    assert seconds is None or abs(seconds) < 2**53


@pytest.mark.parametrize("value", ["", "now", "nan", "inf", "12:30", True, [], {}, 1e300, "2023-13-01"])
def test_what_tells_no_moment_is_none(value):
    assert to_seconds(value) is None


@pytest.mark.parametrize(
    "value", ["2023-02-22T10:00:00", "2023-02-22 10:00:00+00:00", " 1677060000.75 ", 1677060000.75]
)
def test_a_moment_without_a_zone_is_utc_and_fractions_are_dropped(value):
    assert to_seconds(value) == 1677060000
