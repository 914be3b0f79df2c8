"""One ingestor process against a bare consume of the same topic by the same client settings, in one run.

The workload: 12 floats, JSON events, 4 partitions; validated, profiled, committed to a Delta table on S3 exactly once
and announced, with `modelbus up`'s settings of allocators and threads. The bare consumer is a script that imports
nothing but confluent-kafka, takes 1,000 messages at a time and only counts them, before the ingestor and after it; the
round in the middle counts. What one record in a hundred that is cut off costs the good ones is said, too. Each is
measured while it is under way: the consumer from the first message it is given, the ingestor from its first commit to
the last but one.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from compose.embedded.services import FRUGAL
from compose.embedded.stack import Stack
from schemas.events.ingestor import DatasetCommitted
from schemas.topics import DATA, INGESTOR
from services.ingestor.messages import client_settings
from shared.reading import envelope_of
from shared.settings import KafkaSettings
from tests.bench.figures import Figure, Say, middle_of
from tests.bench.scorer import FEATURES, STREAM, put
from tests.integration import ingestor_parts as parts

REPEATS = 3
SPOILT_EVERY = 100
_MANY = 3  # times the events of other benchmarks: of some seconds the first commits would be a third
_BARE_BATCH = 1_000  # of 1,000, 5,000, 10,000 and 20,000 that at which the script is fastest
_LIMIT_SECONDS = 240


async def measure(arguments: Namespace, say: Say) -> list[Figure]:
    """Rows committed and announced a second, beside messages that the client hands over a second."""
    with TemporaryDirectory(prefix="modelbus-bench-") as folder:
        async with Stack(Path(folder), parts=frozenset({"kafka", "postgres", "s3"})) as stack:
            os.environ.update(stack.environment)
            rounds, events = list[_Round](), _MANY * arguments.events
            for turn in range(REPEATS):
                say(f"round {turn + 1} of {REPEATS}, {events:,} events")
                topic = await _fed(f"bench{turn}", events)
                before = await asyncio.to_thread(_bare, topic, events)
                ours = await asyncio.to_thread(_ingested, Path(folder), topic, events)
                after = await asyncio.to_thread(_bare, topic, events)
                spoilt, good = await _fed(f"spoilt{turn}", events, spoilt=True), events - events // SPOILT_EVERY
                rounds.append(
                    _Round(
                        ours=ours,
                        bare=fmean((before, after)),
                        spoilt=await asyncio.to_thread(_ingested, Path(folder), spoilt, good),
                    )
                )
                say(", ".join(f"{name} {rate:,.0f}" for name, rate in rounds[-1]._asdict().items()) + " a second")
    found = middle_of(rounds, lambda each: each.ours / each.bare)
    spoilt_round = middle_of(rounds, lambda each: each.spoilt / each.ours)
    what = f"ingest into a table, one process, {len(FEATURES)} floats, against a bare consume"
    return [
        Figure(what=what, unit="events/s", ours=found.ours, ceiling=found.bare, least=0.5),
        Figure(
            what=f"ingest of good ones beside one bad one in {SPOILT_EVERY}, against good ones alone",
            unit="events/s",
            ours=spoilt_round.spoilt,
            ceiling=spoilt_round.ours,
        ),
    ]


class _Round(NamedTuple):
    """Rows a second, and messages a second of the bare consumer."""

    ours: float
    bare: float
    spoilt: float


async def _fed(stream: str, events: int, *, spoilt: bool = False) -> str:
    spec = await parts.apply(STREAM.model_copy(update={"stream": stream}))
    topic = DATA.of(spec.stream)
    await asyncio.to_thread(_feed, topic, events, spoilt=spoilt)
    return topic


def _feed(topic: str, events: int, *, spoilt: bool) -> None:
    """Rows of numbers that come again, as readings do; some of what is spoilt lacks its end."""
    rng = np.random.default_rng(1)
    names = ",".join(f'"{name}":%.4f' for name in FEATURES)
    said = [names % tuple(row) for row in rng.normal(size=(1000, len(FEATURES))).tolist()]
    writer = parts.producer(**{"queue.buffering.max.messages": 2_000_000, "partitioner": "murmur2_random"})
    for number in range(events):
        entity = f"machine-{number % 4000}"
        features = said[number % len(said)]
        value = f'{{"id":"e{number}","entity":"{entity}","time":"2013-01-01T00:00:00Z","features":{{{features}}}}}'
        bad = spoilt and number % SPOILT_EVERY == SPOILT_EVERY - 1
        put(writer, topic, value.encode()[: -1 if bad else None], entity)
    assert writer.flush(120) == 0


def _bare(topic: str, events: int) -> float:
    """Messages a second of a process that does nothing with them."""
    settings = json.dumps(client_settings(KafkaSettings()))
    asked = ["--settings", settings, "--batch", str(_BARE_BATCH), "--topic", topic, "--events", str(events)]
    command = [sys.executable, "-m", "tests.bench.consuming", *asked]
    return float(subprocess.run(command, cwd=parts.ROOT, check=True, capture_output=True, text=True).stdout)


def _ingested(folder: Path, topic: str, events: int) -> float:
    """Rows a second of one ingestor that takes so many events, from its first commit to the last but one: the last may
    not be full, and wait.
    """
    said = Consumer(KafkaSettings().librdkafka() | {"group.id": f"bench-{time.monotonic_ns()}"})
    said.assign([TopicPartition(INGESTOR.name, number, OFFSET_BEGINNING) for number in range(INGESTOR.partitions)])
    commits: list[tuple[float, int]] = []
    deadline = time.monotonic() + _LIMIT_SECONDS
    with parts.ingestor(folder / f"{topic}.log", **FRUGAL, **parts.AS_SHIPPED):
        while not commits or commits[-1][1] < events:
            assert time.monotonic() < deadline, f"{commits[-1:]} of {events}"
            if rows := _committed(said, topic.replace(".", "/")):
                commits.append((time.perf_counter(), rows))
    said.close()
    assert len(commits) > 2, f"{events} events are {len(commits)} commits; expected more"
    (began, first), *_, (ended, last), _ = commits
    return (last - first) / (ended - began)


def _committed(said: Consumer, table: str) -> int:
    """Rows of a table, when some are announced. To ask for metrics would take its time."""
    message: Any = said.poll(1.0)
    if message is None or message.error():
        return 0
    heard = envelope_of(message)
    event = heard and heard.event
    return event.rows_total if isinstance(event, DatasetCommitted) and event.table == table else 0


if __name__ == "__main__":
    parser = ArgumentParser(prog="python -m tests.bench.ingest", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    print(asyncio.run(measure(parser.parse_args(), print)))  # noqa: T201  # the result
