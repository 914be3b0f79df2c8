"""Durations and shares as people write them: `60d`, `8h`, `25%`."""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_LONGEST = timedelta(days=36_500)  # event time less a duration must still be a time
_EXPECTED = f"expected a duration from 0 to {_LONGEST.days}d"
_WRITTEN = re.compile(r"(\d+(?:\.\d+)?)\s*([dhms])")


def _duration(value: object) -> object:
    """Read `90m`; leave anything else (ISO 8601, timedelta) to pydantic.

    >>> _duration("8h")
    datetime.timedelta(seconds=28800)
    """
    match = _WRITTEN.fullmatch(value.strip()) if isinstance(value, str) else None
    bare = isinstance(value, (int, float)) and not isinstance(value, bool)
    if bare or (isinstance(value, str) and not match and not value.strip().lstrip("+-").startswith("P")):
        raise ValueError("expected a duration with its unit, such as 60d, 8h, 90m or 30s")
    try:
        return timedelta(**{_UNITS[match[2]]: float(match[1])}) if match else value
    except OverflowError:
        raise ValueError(_EXPECTED) from None


def _bounded(value: timedelta) -> timedelta:
    if not timedelta(0) <= value <= _LONGEST:
        raise ValueError(_EXPECTED)
    return value


def _share(value: object) -> object:
    """Read `25%` as 0.25; leave numbers as they are.

    >>> _share("25%")
    0.25
    """
    if isinstance(value, str) and value.strip().endswith("%"):
        return float(value.strip()[:-1]) / 100
    return value


Duration = Annotated[timedelta, BeforeValidator(_duration), AfterValidator(_bounded)]
Share = Annotated[float, BeforeValidator(_share), Field(ge=0, le=1)]
