"""One scorer process against a bare exactly-once loop that writes constant records of the same size, turn by turn."""

import asyncio
from argparse import Namespace
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import cycle, islice

import numpy as np

from examples.flights.departures import timeline
from schemas.declarations import parse
from schemas.specs import StreamSpec
from shared.records import ENCODER, Prediction, StreamDecoder
from tests.bench.bare import HEADERS, Bare
from tests.bench.figures import Figure, Say, middle_of
from tests.bench.scorer import FEATURES, STREAM, Bench, Event, boosted, events_of, graph_on, running_bench
from tests.scoring_world import ROOT

ROUNDS = 5  # that count, after one in which the broker still compiles what it will run
CANARY_SHARE = 0.1
Events = Callable[[int], Iterator[Event]]
Rates = dict[str, list[float]]


async def measure(arguments: Namespace, say: Say) -> list[Figure]:
    """Floats, one process and two, and beside a canary; and the flights with their categories."""
    count = arguments.events
    flights, departures = _flights()
    async with running_bench(say) as bench:
        graph = boosted(STREAM)
        await bench.serve(STREAM, {"bench": graph})
        await bench.serve(flights, {"flight-delay": _boosted_flights(flights, departures)})
        floats = await _alternate(bench, STREAM, lambda first: events_of(STREAM, first, count), processes=(1, 2))
        delays = await _alternate(bench, flights, lambda first: islice(cycle(departures), count), processes=(1,))
        bench.try_beside(STREAM, "bench", graph, boosted(STREAM, seed=1), CANARY_SHARE)
        canary = await _alternate(bench, STREAM, lambda first: events_of(STREAM, first, count), processes=(1,))
        await bench.all_predicted()
    peak = max(each.peak_mb for each in bench.took)
    return [
        _figure(f"exactly once, one process, {len(FEATURES)} floats", floats, "1", "bare", least=0.75),
        _figure("two processes against one", floats, "2", "1", least=1),
        _figure("exactly once, one process, the flights", delays, "1", "bare", least=0.5),
        _figure(f"the same floats, a canary of {CANARY_SHARE:.0%}, both versions score all", canary, "1", "bare"),
        Figure(what="resident at most, one process with a backlog", unit="MB", ours=peak),
    ]


def _figure(what: str, rates: Rates, ours: str, ceiling: str, *, least: float | None = None) -> Figure:
    turns = list(zip(rates[ours], rates[ceiling], strict=True))
    one, other = middle_of(turns, lambda turn: turn[0] / turn[1])
    return Figure(what=what, unit="events/s", ours=one, ceiling=other, least=least)


async def _alternate(bench: Bench, stream: StreamSpec, events: Events, *, processes: tuple[int, ...]) -> Rates:
    """Rates of the bare loop and of so many scorer processes, in turns."""
    rates: Rates = {"bare": [], **{str(count): [] for count in processes}}
    size = record_bytes(stream, list(islice(events(0), 1000)))
    for number in range(ROUNDS + 1):
        await bench.feed(stream, events(bench.fed.get(stream.stream, 0)))
        bare = Bare(stream.stream, value_bytes=size)
        rates["bare"].append(await asyncio.to_thread(bench.rate, bare.group, stream))
        bare.stop()
        for count in processes:
            if count == 1:
                rates["1"].append(await bench.scored(stream))
            else:
                rates[str(count)].append(await bench.shared(stream, events(bench.fed[stream.stream]), count))
        last = ", ".join(f"{name} {each[-1]:,.0f}" for name, each in rates.items())
        bench.say(f"{stream.stream}, turn {number} of {ROUNDS}: {last} events/s")
    return {name: each[1:] for name, each in rates.items()}


def record_bytes(stream: StreamSpec, events: list[Event]) -> int:
    """Bytes of a bare record's value that make it as large, headers and all, as predictions of these events."""
    records = StreamDecoder(stream).decode([value for _, value in events]).records
    predictions = [
        Prediction(
            id=f"{each.id}@{stream.stream}:1",
            event_id=each.id,
            entity=each.entity,
            model=stream.stream,
            version=1,
            arm="champion",
            revision=1,
            partition=0,
            offset=100_000,
            score=0.1234567890123456,
            label=True,
            time=each.time,
        )
        for each in records
    ]
    values = sum(len(ENCODER.encode(each)) for each in predictions)
    named = sum(len(each.id) + len(each.entity.encode()) for each in predictions)
    headers = dict(HEADERS)
    usual = sum(len(headers[name] or "") for name in ("ce_id", "ce_subject"))
    return (values + named) // len(predictions) - usual


def _flights() -> tuple[StreamSpec, list[Event]]:
    """The declared stream, and its departures of January."""
    text = (ROOT / "examples/flights/flights.yaml").read_text()
    stream = next(each for each in parse(text) if isinstance(each, StreamSpec))
    records = timeline(datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 2, 1, tzinfo=UTC))
    return stream, [(each.key, each.value) for each in records if each.kind == "data"]


def _boosted_flights(stream: StreamSpec, departures: list[Event]) -> bytes:
    """The usual model on all features, of a label that they decide."""
    inputs = StreamDecoder(stream).decode([value for _, value in departures[:10_000]]).matrix.astype(np.float32)
    labels = np.nan_to_num(inputs).sum(axis=1) + np.random.default_rng(0).normal(size=len(inputs)) > 2500
    return graph_on(stream, inputs, labels)
