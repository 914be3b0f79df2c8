"""What good records lose of their rate when one in a hundred breaks the contract.

Two streams of the same kind, one of them spoilt, are fed turn by turn, and read by a scorer and an ingestor at once, as
anywhere: both begin when all is there, and what counts is when both are through. An ingestor alone reads two more.
Rates are of good records, and are compared within a turn: the machine's speed changes from one to the next. Each bad
record must then have its dead letter: byte for byte, for the right reason, and no good one may have any.
"""

import asyncio
import os
import signal
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from compose.embedded.stack import Stack
from schemas.specs import StreamSpec
from schemas.topics import DATA
from services.deployer.consuming import GROUP as SCORERS
from services.ingestor.messages import GROUP as INGESTORS
from shared.objects import Objects
from shared.settings import KafkaSettings, S3Settings
from tests.bench.figures import Figure, Say, middle_of
from tests.bench.ingest import ingested
from tests.bench.scorer import Bench, put
from tests.chaos import evidence
from tests.chaos.feed import BAD_SHARE, NUMBER, Event, events
from tests.chaos.judge import Evidence, parked_once
from tests.integration import ingestor_parts as parts
from tests.scoring_world import Offsets, scorers, stream_spec, trained, until

ROUNDS = 5
ENTITIES = 4000
FIRST = 1000  # events that show that both are at work
SHARES = {"clean": 0.0, "spoilt": BAD_SHARE}
ALONE = "-rows"  # what the streams that no model reads are called after
Rates = dict[str, list[float]]  # stream → of each turn


async def measure(arguments: Namespace, say: Say) -> list[Figure]:
    """Rates of good records beside those without bad ones; and how many bad ones were parked as they were."""
    with TemporaryDirectory(prefix="modelbus-bench-") as folder:
        async with Stack(Path(folder), parts=frozenset({"kafka", "postgres", "s3"}), busy=True) as stack:
            os.environ.update(stack.environment | {"OTEL_TRACES_EXPORTER": "none"})
            kafka, objects = KafkaSettings(), Objects(S3Settings())
            await objects.ensure_bucket()
            bench = Bench(folder=Path(folder), kafka=kafka, objects=objects, say=say)
            sent = {name: list(events(1, arguments.events // 2, ENTITIES, share)) for name, share in SHARES.items()}
            rates = await _rates(bench, sent)
            bad, parked = await asyncio.to_thread(_parked, sent["spoilt"])
    return [
        _figure("scorer and ingestor at once", rates, least=0.95),
        _figure("ingestor alone", rates, ALONE),
        Figure(what="bad records parked as they were", unit="records", ours=parked, ceiling=bad, least=1, most=1),
    ]


def _figure(who: str, rates: Rates, suffix: str = "", least: float | None = None) -> Figure:
    what = f"{who}, good records among {BAD_SHARE:.0%} bad ones against good ones alone"
    turns = zip(rates[f"spoilt{suffix}"], rates[f"clean{suffix}"], strict=True)
    ours, ceiling = middle_of(list(turns), lambda turn: turn[0] / turn[1])
    return Figure(what=what, unit="events/s", ours=ours, ceiling=ceiling, least=least)


async def _rates(bench: Bench, sent: dict[str, list[Event]]) -> Rates:
    streams = {name: await parts.apply(stream_spec(name)) for name in (*sent, *(each + ALONE for each in sent))}
    rates: Rates = {name: [] for name in streams}
    for name in sent:
        await bench.serve(streams[name], {f"{name}-model": trained(1)})
    for number in range(ROUNDS):
        for name, stream in [*streams.items()][:: -1 if number % 2 else 1]:
            fed = sent[name.removesuffix(ALONE)]
            good = sum(event.fate == "accepted" for event in fed)
            if name.endswith(ALONE):
                await asyncio.to_thread(_feed, bench, stream, fed)
                rate = await asyncio.to_thread(ingested, bench.folder, DATA.of(name), good, before=number * good)
            else:
                rate = good / await _both(bench, stream, fed)
            rates[name].append(rate)
            bench.say(f"turn {number + 1} of {ROUNDS}, {name}: {rate:,.0f} good events/s")
    return rates


async def _both(bench: Bench, stream: StreamSpec, sent: list[Event]) -> float:
    """Seconds that a scorer and an ingestor take, which stand still until all is there, until both are through."""
    offsets = [Offsets(bench.kafka, group, [stream]) for group in (SCORERS, INGESTORS)]

    def through() -> bool:
        return min(each.total() for each in offsets) == bench.fed[stream.stream]

    with (
        scorers(bench.folder) as [scorer],
        parts.ingestor(bench.folder / "ingestor.log", MODELBUS_INGESTOR_COMMIT_SECONDS="1") as ingestor,
    ):
        await asyncio.to_thread(_feed, bench, stream, sent[:FIRST])
        await until(through)  # so both are at work
        for process in (scorer.process, ingestor):
            process.send_signal(signal.SIGSTOP)
        await asyncio.to_thread(_feed, bench, stream, sent[FIRST:])
        began = time.perf_counter()
        for process in (scorer.process, ingestor):
            process.send_signal(signal.SIGCONT)
        await until(through, every=0.05)
        seconds = time.perf_counter() - began
        assert scorer.stop() == 0
    return seconds


def _feed(bench: Bench, stream: StreamSpec, sent: Sequence[Event]) -> None:
    writer = parts.producer(partitioner="murmur2_random")
    for event in sent:
        put(writer, DATA.of(stream.stream), event.value, event.entity, headers=[(NUMBER, b"%d" % event.number)])
    assert writer.flush(60) == 0
    bench.fed[stream.stream] = bench.fed.get(stream.stream, 0) + len(sent)


def _parked(sent: list[Event]) -> tuple[int, int]:
    """How many bad records were fed, and how many of them were parked as the law says."""
    found = Evidence(
        sent=sent, asked=evidence.asked("spoilt").numbers, letters=evidence.letters(DATA.of("spoilt")), models={}
    )
    bad = len(list(found.places(accepted=False)))
    return bad, bad - len({violation.place for violation in parked_once(found)})
