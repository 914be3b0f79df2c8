"""The 1,797 handwritten digits that scikit-learn ships, as data events, and what was written as labels.

They have no times of their own: they come a minute apart from the start of 2024 on, in the order of the set, each with
its label five minutes later. A scan is 8 × 8 pixels of 0 (white) to 16 (black).

Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from heapq import merge
from operator import attrgetter
from typing import Any, Literal

import msgspec
from sklearn.datasets import load_digits

from examples.flights.departures import Record

BEGINNING, APART, READ_AFTER = datetime(2024, 1, 1, tzinfo=UTC), timedelta(minutes=1), timedelta(minutes=5)
PIXELS = [f"p{row}{column}" for row in range(8) for column in range(8)]


def timeline() -> Iterator[Record]:
    """Scans and their labels, merged in event-time order."""
    digits = load_digits()
    times = [BEGINNING + APART * number for number in range(len(digits.target))]
    data = (
        _record("data", number, times[number], features=dict(zip(PIXELS, pixels, strict=True)))
        for number, pixels in enumerate(digits.data.tolist())
    )
    labels = (
        _record("label", number, times[number] + READ_AFTER, label=str(written))
        for number, written in enumerate(digits.target.tolist())
    )
    yield from merge(data, labels, key=attrgetter("time"))


def _record(kind: Literal["data", "label"], number: int, time: datetime, **said: Any) -> Record:
    name = f"scan-{number:04}"
    value = {"id": name, "entity": name, "time": time} | said
    return Record(kind, name, time, msgspec.json.encode(value))
