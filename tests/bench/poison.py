"""What good records lose of their rate when one in a hundred breaks the contract.

Two streams of the same kind, one of them spoilt, are read by a scorer and an ingestor at once, as anywhere. They stand
still while a piece is fed to one of the streams, then begin together; what counts is when both are through: the scorer
is last, so that no commit's timer is part of it. Pieces of both streams take turns, and are compared within a turn.
Each bad record must then have its dead letter: byte for byte, for the right reason, and no good one may have any.
"""

import asyncio
import os
import signal
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import Popen
from tempfile import TemporaryDirectory

from compose.embedded.stack import Stack
from schemas.specs import StreamSpec
from schemas.topics import DATA
from services.deployer.consuming import GROUP as SCORERS
from services.ingestor.messages import GROUP as INGESTORS
from shared.objects import Objects
from shared.settings import KafkaSettings, S3Settings
from tests.bench.figures import Figure, Say, middle_of
from tests.bench.scorer import Bench, put
from tests.chaos import evidence
from tests.chaos.feed import BAD_SHARE, NUMBER, Event, events
from tests.chaos.judge import Evidence, parked_once
from tests.integration import ingestor_parts as parts
from tests.scoring_world import Offsets, scorers, stream_spec, trained, until

TURNS = 9
ENTITIES = 4000
FIRST = 1000  # events that show that both are at work
SHARES = {"clean": 0.0, "spoilt": BAD_SHARE}


async def measure(arguments: Namespace, say: Say) -> list[Figure]:
    """Rates of good records beside those without bad ones; and how many bad ones were parked as they were."""
    with TemporaryDirectory(prefix="modelbus-bench-") as folder:
        async with Stack(Path(folder), parts=frozenset({"kafka", "postgres", "s3"}), busy=True) as stack:
            os.environ.update(stack.environment | {"OTEL_TRACES_EXPORTER": "none"})
            kafka, objects = KafkaSettings(), Objects(S3Settings())
            await objects.ensure_bucket()
            bench = Bench(folder=Path(folder), kafka=kafka, objects=objects, say=say)
            pieces = {name: list(events(1, arguments.events, ENTITIES, each)) for name, each in SHARES.items()}
            rates = await _rates(bench, pieces)
            bad, parked = await asyncio.to_thread(_parked, pieces["spoilt"])
    ours, ceiling = middle_of(list(zip(rates["spoilt"], rates["clean"], strict=True)), lambda turn: turn[0] / turn[1])
    what = f"scorer and ingestor at once, good records among {BAD_SHARE:.0%} bad ones against good ones alone"
    return [
        Figure(what=what, unit="events/s", ours=ours, ceiling=ceiling, least=0.95),
        Figure(what="bad records parked as they were", unit="records", ours=parked, ceiling=bad, least=1, most=1),
    ]


async def _rates(bench: Bench, pieces: dict[str, list[Event]]) -> dict[str, list[float]]:
    """Good records a second of each turn."""
    streams = {name: await parts.apply(stream_spec(name)) for name in pieces}
    for name, stream in streams.items():
        await bench.serve(stream, {f"{name}-model": trained(1)})
        await asyncio.to_thread(_feed, bench, stream, pieces[name][:FIRST])
    rates: dict[str, list[float]] = {name: [] for name in pieces}
    log = bench.folder / "ingestor.log"
    with scorers(bench.folder) as [scorer], parts.ingestor(log, **parts.AS_SHIPPED) as ingestor:
        for stream in streams.values():
            await until(_through(bench, stream))
        for turn in range(TURNS):
            for name in [*pieces][:: -1 if turn % 2 else 1]:
                good = sum(event.fate == "accepted" for event in pieces[name])
                rates[name].append(good / await _seconds(bench, streams[name], pieces[name], scorer.process, ingestor))
            told = ", ".join(f"{name} {rates[name][-1]:,.0f}" for name in pieces)
            bench.say(f"turn {turn + 1} of {TURNS}, good events/s: {told}")
        assert scorer.stop() == 0
    return rates


async def _seconds(bench: Bench, stream: StreamSpec, piece: list[Event], *readers: Popen[bytes]) -> float:
    """That readers, who stand still until a piece is there, take until all are through."""
    for reader in readers:
        reader.send_signal(signal.SIGSTOP)
    await asyncio.to_thread(_feed, bench, stream, piece)
    through, began = _through(bench, stream), time.perf_counter()
    for reader in readers:
        reader.send_signal(signal.SIGCONT)
    await until(through, every=0.02)
    return time.perf_counter() - began


def _through(bench: Bench, stream: StreamSpec) -> Callable[[], bool]:
    offsets = [Offsets(bench.kafka, group, [stream]) for group in (SCORERS, INGESTORS)]
    return lambda: min(each.total() for each in offsets) == bench.fed[stream.stream]


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
