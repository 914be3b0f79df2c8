"""What good records lose of their rate when one in a hundred breaks the contract, in a scorer and in an ingestor.

Two streams of the same kind, one of them spoilt, are fed, scored and ingested turn by turn; rates are of good records.
Each bad one must then have its dead letter: byte for byte, for the right reason, and no good one may have any.
"""

import asyncio
import os
import re
import time
from argparse import Namespace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import httpx

from compose.embedded.stack import Stack
from schemas.specs import StreamSpec
from schemas.topics import DATA
from shared.objects import Objects
from shared.settings import KafkaSettings, S3Settings
from tests.bench.figures import Figure, Say
from tests.bench.scorer import LIMIT_SECONDS, Bench
from tests.chaos import evidence
from tests.chaos.feed import BAD_SHARE, NUMBER, Event, events
from tests.chaos.judge import Evidence, parked_once
from tests.integration import ingestor_parts as parts
from tests.scoring_world import free_port, stream_spec, trained

ROUNDS = 3
ENTITIES = 4000
SHARES = {"clean": 0.0, "spoilt": BAD_SHARE}
Rates = dict[tuple[str, str], list[float]]  # stream, process


async def measure(arguments: Namespace, say: Say) -> list[Figure]:
    """Rates of good records beside those without bad ones; and how many bad ones were parked as they were."""
    with TemporaryDirectory(prefix="modelbus-bench-") as folder:
        async with Stack(Path(folder), parts=frozenset({"kafka", "postgres", "s3"})) as stack:
            os.environ.update(stack.environment | {"OTEL_TRACES_EXPORTER": "none"})
            kafka, objects = KafkaSettings(), Objects(S3Settings())
            await objects.ensure_bucket()
            bench = Bench(folder=Path(folder), kafka=kafka, objects=objects, say=say)
            sent = {name: list(events(1, arguments.events // 5, ENTITIES, share)) for name, share in SHARES.items()}
            rates = await _rates(bench, sent)
            bad, parked = await asyncio.to_thread(_parked, sent["spoilt"])
    return [
        *(_figure(process, rates) for process in ("scorer", "ingestor")),
        Figure(what="bad records parked as they were", unit="records", ours=parked, ceiling=bad, least=1, most=1),
    ]


def _figure(process: str, rates: Rates) -> Figure:
    what = f"{process}, good records among {BAD_SHARE:.0%} bad ones against good ones alone"
    ours, ceiling = median(rates["spoilt", process]), median(rates["clean", process])
    return Figure(what=what, unit="events/s", ours=ours, ceiling=ceiling, least=0.95)


async def _rates(bench: Bench, sent: dict[str, list[Event]]) -> Rates:
    streams = {name: await parts.apply(stream_spec(name)) for name in sent}
    rates: Rates = {(name, process): [] for name in sent for process in ("scorer", "ingestor")}
    for name, stream in streams.items():
        await bench.serve(stream, {f"{name}-model": trained(1)})
    for number in range(ROUNDS):
        for name, stream in streams.items():
            good = sum(event.fate == "accepted" for event in sent[name])
            await asyncio.to_thread(_feed, bench, stream, sent[name])
            scored = await bench.scored(stream) * good / len(sent[name])
            rows = await asyncio.to_thread(_ingested, bench.folder / f"{name}-{number}.log", stream, good)
            rates[name, "scorer"].append(scored)
            rates[name, "ingestor"].append(rows)
            bench.say(
                f"turn {number + 1} of {ROUNDS}, {name}: scored {scored:,.0f}, ingested {rows:,.0f} good events/s"
            )
    return rates


def _feed(bench: Bench, stream: StreamSpec, sent: list[Event]) -> None:
    writer = parts.producer(**{"queue.buffering.max.messages": 2_000_000, "partitioner": "murmur2_random"})
    for event in sent:
        number = b"%d" % event.number
        writer.produce(DATA.of(stream.stream), event.value, event.entity, headers=[(NUMBER, number)])
    assert writer.flush(60) == 0
    bench.fed[stream.stream] = bench.fed.get(stream.stream, 0) + len(sent)


def _ingested(log: Path, stream: StreamSpec, good: int) -> float:
    """Rows a second that an ingestor commits, from its partitions' assignment to the last row."""
    topic, port = DATA.of(stream.stream), free_port()
    with parts.ingestor(log, MODELBUS_INGESTOR_HTTP_PORT=str(port)):
        parts.until(lambda: re.search(rf"assigned: .*{topic}/", log.read_text()))
        began = time.perf_counter()
        parts.until(lambda: _rows(port, stream) >= good, LIMIT_SECONDS)
        return good / (time.perf_counter() - began)


def _rows(port: int, stream: StreamSpec) -> float:
    name = re.escape('modelbus_ingestor_rows_total{table="data/' + stream.stream + '"} ')
    found = re.search(name + r"([0-9.e+]+)", httpx.get(f"http://127.0.0.1:{port}/metrics").text)
    return float(found[1]) if found else 0.0


def _parked(sent: list[Event]) -> tuple[int, int]:
    """How many bad records were fed, and how many of them were parked as the law says."""
    found = Evidence(
        sent=sent, asked=evidence.asked("spoilt").numbers, letters=evidence.letters(DATA.of("spoilt")), models={}
    )
    bad = len(list(found.places(accepted=False)))
    return bad, bad - len({violation.place for violation in parked_once(found)})
