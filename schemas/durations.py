"""Durations and shares as people write them: `60d`, `8h`, `25%`."""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_WRITTEN = re.compile(r"(\d+(?:\.\d+)?)\s*([dhms])")


def _duration(value: object) -> object:
    """Read `90m`; leave anything else (ISO 8601, timedelta) to pydantic.

    >>> _duration("8h")
    datetime.timedelta(seconds=28800)
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise ValueError("expected a duration with its unit, such as 60d, 8h, 90m or 30s")
    match = _WRITTEN.fullmatch(value.strip()) if isinstance(value, str) else None
    return timedelta(**{_UNITS[match[2]]: float(match[1])}) if match else value


def _not_negative(value: timedelta) -> timedelta:
    if value < timedelta(0):
        raise ValueError("expected a duration of zero or more")
    return value


def _share(value: object) -> object:
    """Read `25%` as 0.25; leave numbers as they are.

    >>> _share("25%")
    0.25
    """
    if isinstance(value, str) and value.strip().endswith("%"):
        return float(value.strip()[:-1]) / 100
    return value


Duration = Annotated[timedelta, BeforeValidator(_duration), AfterValidator(_not_negative)]
Share = Annotated[float, BeforeValidator(_share), Field(ge=0, le=1)]
