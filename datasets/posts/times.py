"""When a post was made, as platforms and tables write it.

a number or a text ─► to_seconds ─► seconds since 1970, UTC
"""

import math
from datetime import date, datetime, time, timedelta, timezone
from typing import Any

_START = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MOST = 1 << 53  # seconds, beyond all dates: up to here a float is exact


def to_seconds(value: Any) -> int | None:
    """The seconds of a moment; None for what tells none.

    Args:
        value: seconds since 1970, as a number or a text; an ISO 8601 text; or a date, as Parquet gives it.
            Without a zone it is taken as UTC.
    """
    if isinstance(value, str):
        value = _from_text(value.strip())
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if isinstance(value, datetime):
        zoned = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
        return (zoned - _START) // timedelta(seconds=1)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _MOST:
        return None
    return math.floor(value)


def _from_text(text: str) -> float | datetime | None:
    for read in (float, lambda moment: datetime.fromisoformat(moment.replace("Z", "+00:00"))):
        try:
            return read(text)
        except ValueError:
            continue
    return None
