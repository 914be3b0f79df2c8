"""The flights example: what its feeder publishes is real, in order, and what its specs declare."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from examples.flights.departures import Features, Record, departures, timeline
from schemas.declarations import parse
from schemas.specs import CategoryFeature, FloatFeature, ModelSpec, StreamSpec

FLIGHTS = Path(__file__).parents[2] / "examples" / "flights"
NEW_YEAR, NOON, SECOND = (datetime(2013, 1, day, hour, tzinfo=UTC) for day, hour in [(1, 0), (1, 12), (2, 12)])


@pytest.fixture(scope="module")
def year() -> pd.DataFrame:
    return departures()


@pytest.fixture(scope="module")
def day() -> list[Record]:
    return list(timeline(NEW_YEAR, SECOND))


def documents(name: str) -> tuple[StreamSpec, list[ModelSpec]]:
    specs = parse((FLIGHTS / name).read_text(), name)
    (stream,) = [spec for spec in specs if isinstance(spec, StreamSpec)]
    return stream, [spec for spec in specs if isinstance(spec, ModelSpec)]


def test_every_flight_that_left_is_one_event_with_an_entity(year: pd.DataFrame) -> None:
    assert len(year) == 328_521
    assert year["id"].is_unique
    assert year["entity"].notna().all()


def test_departures_are_in_event_time_order(year: pd.DataFrame) -> None:
    assert year["time"].is_monotonic_increasing
    assert str(year["time"].min()) == "2013-01-01 10:17:00+00:00"


def test_a_flight_lands_after_its_departure_and_within_the_declared_label_delay(year: pd.DataFrame) -> None:
    stream, _ = documents("demo.yaml")

    flown = (year["landed"] - year["time"]).dropna()

    assert flown.min() > pd.Timedelta(0)
    assert flown.max() <= stream.label.delay


def test_diverted_flights_have_no_landing(year: pd.DataFrame) -> None:
    assert int(year["landed"].isna().sum()) == 1175


def test_the_timetable_of_a_flight_over_time_zones_is_told_in_minutes_from_gate_to_gate(year: pd.DataFrame) -> None:
    first = year.iloc[0]  # UA 1545, 5:15 in Newark to 8:19 in Houston, which is an hour behind; 11 minutes late

    assert first["id"] == "UA1545-2013-01-01T10:15Z-EWR"
    assert first["scheduled_block"] == 244
    assert str(first["landed"]) == "2013-01-01 14:30:00+00:00"
    assert not first["late"]


def test_a_label_says_true_only_beyond_fifteen_minutes(year: pd.DataFrame) -> None:
    arrived = year[year["landed"].notna()]
    delay = arrived["landed"] - arrived["time"] + pd.to_timedelta(arrived["departure_delay"], unit="min")

    minutes = delay.dt.total_seconds() / 60 - arrived["scheduled_block"]

    assert minutes[arrived["late"]].min() == 16
    assert minutes[~arrived["late"]].max() == 15


def test_the_timeline_merges_events_and_labels_in_event_time_order(day: list[Record]) -> None:
    times = [record.time for record in day]

    assert times == sorted(times)
    assert {record.kind for record in day} == {"data", "label"}
    assert NEW_YEAR <= times[0] <= times[-1] < SECOND


def test_a_record_is_the_json_of_its_event(day: list[Record]) -> None:
    first = next(record for record in day if record.kind == "data")

    event = json.loads(first.value)

    assert list(event) == ["id", "entity", "time", "features"]
    assert (event["entity"], event["time"]) == (first.key, "2013-01-01T10:17:00Z")
    assert event["features"]["departure_delay"] == 2
    assert event["features"]["wind_gust"] is None


def test_a_label_names_an_event_that_was_published_before_it(day: list[Record]) -> None:
    seen: dict[str, str] = {}

    for record in day:
        content = json.loads(record.value)
        if record.kind == "data":
            seen[content["id"]] = record.key
        else:
            assert seen[content["id"]] == record.key == content["entity"]
            assert isinstance(content["label"], bool)


def test_adjoining_timelines_add_up_to_the_whole(day: list[Record]) -> None:
    assert [*timeline(NEW_YEAR, NOON), *timeline(NOON, SECOND)] == day


def test_a_naive_bound_is_refused() -> None:
    with pytest.raises(TypeError):
        next(timeline(datetime(2013, 1, 1), SECOND))  # noqa: DTZ001 - what is refused


@pytest.mark.parametrize("name", ["flights.yaml", "demo.yaml"])
def test_the_specs_fit_each_other_and_the_events(name: str) -> None:
    stream, models = documents(name)

    assert list(stream.features) == list(Features.__struct_fields__)
    assert [model.model for model in models] == ["flight-delay", "flight-risk"]
    assert [model.problems_on(stream) for model in models] == [[], []]
    assert {*models[0].features} - {*models[1].features} == {"departure_delay"}


@pytest.mark.parametrize("name", ["flights.yaml", "demo.yaml"])
def test_no_departure_of_the_year_breaks_the_declared_features(name: str, year: pd.DataFrame) -> None:
    stream, _ = documents(name)

    for feature, declared in stream.features.items():
        values = year[feature].dropna()
        match declared:
            case CategoryFeature():
                assert set(values) == set(declared.values), feature
            case FloatFeature(min=float(low), max=float(high)):
                assert values.between(low, high).all(), feature
            case _:
                pytest.fail(f"{feature} is declared as {declared}, expected a category or a bounded float")
