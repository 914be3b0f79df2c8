"""The whole stack as `modelbus up` runs it, fed for long at half of what it can take: which process grows?

Events of 12 floats, each with its label half a minute later, so that the model is trained, served and watched by the
services themselves; from 3,300 a second on more wait than the monitor holds, so that it keeps a sample. Saturation is
the rate of whichever of scorer, ingestor and monitor is last through a backlog with labels. Where the machine becomes
slower than it was then, half of that is no longer half: feeding waits until whoever has fallen behind is near again.
The gateway is asked meanwhile, one row after the other.
"""

import asyncio
import json
import os
import random
import resource
import threading
import time
from argparse import Namespace
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np
from confluent_kafka import Producer
from scipy.stats import theilslopes

from cli.client import Registry
from cli.demonstration.lags import Lags, Monitor
from compose.embedded.services import processes
from compose.embedded.stack import Stack
from schemas.topics import DATA, LABELS
from shared.settings import KafkaSettings
from tests.bench.figures import Figure, Say
from tests.bench.scorer import FEATURES, put
from tests.scoring_world import until

NAME, PARTITIONS, ENTITIES = "soak", 4, 4000
LABEL_SECONDS = 30
BEHIND_SECONDS = 6.0  # more than a commit's two seconds, its writing, and a compaction
NEAR_SECONDS = 3.0
BACKLOG = 1_000_000  # as many rows as an epoch of a table may have (shared/tables.py)
WARM_SHARE = 0.25  # of the time: five minutes of twenty
_SAMPLE_SECONDS = 2.0
_TICK_SECONDS = 0.01
_ASK_SECONDS = 0.1
_LIMIT_SECONDS = 300
_CONSUMERS = 3
_CHUNK = 1000
_FEATURES = ", ".join(f"{name}: {{type: float}}" for name in FEATURES)
DECLARED = f"""
stream: {NAME}
entity: machine
partitions: {PARTITIONS}
features: {{{_FEATURES}}}
label: {{type: bool, delay: {LABEL_SECONDS}s}}
lateness: 5s
---
model: {NAME}
stream: {NAME}
owner: bench
task: binary
features: [{", ".join(FEATURES)}]
training: {{window: 1d, min_rows: 5000, estimators: [hist_gradient_boosting], trials: 1}}
monitoring: {{window: 50000}}
"""


def _rows() -> list[tuple[str, float]]:
    """Features as JSON, and how far they lean towards `true`."""
    rows = np.random.default_rng(1).normal(size=(5000, len(FEATURES))).round(4)
    leanings = rows[:, 0] + rows[:, 1] * rows[:, 2]
    return [
        (json.dumps(dict(zip(FEATURES, row, strict=True))), leaning)
        for row, leaning in zip(rows.tolist(), leanings, strict=True)
    ]


ROWS = _rows()
Samples = dict[str, list[tuple[float, float]]]  # process → seconds since the start, MB


async def measure(arguments: Namespace, say: Say) -> list[Figure]:
    """Resident memory of each process at the end, beside that after a quarter of the time."""
    seconds = arguments.minutes * 60
    with TemporaryDirectory(prefix="modelbus-bench-") as folder:
        async with Stack(Path(folder)) as stack:
            os.environ.update(stack.environment)
            runs = processes(stack.environment)
            await stack.supervisor.start(*(replace(each, ready_within_seconds=_LIMIT_SECONDS) for each in runs))
            feed = await asyncio.to_thread(_declared)
            lags = _lags(stack)
            rate = await _saturation(lags, feed, say) / 2
            say(f"feeds {rate:,.0f} events/s and their labels for {arguments.minutes:g} minutes")
            with feed.going(rate):
                await _calm(lags, feed)
                sent, waited = feed.sent, feed.waited
                async with _asking(stack.environment) as asked:
                    samples = await _watched(stack, seconds, feed, lambda: _behind(lags, lags.monitor()), say)
            restarts = {each.name: each.restarts for each in stack.supervisor.status() if each.restarts}
    own = {each.name for each in runs}
    say(f"fed {feed.sent - sent:,} events, waited {feed.waited - waited:.0f} s; restarts: {restarts or 'none'}")
    say(f"the gateway answered {asked[httpx.codes.OK]:,} of {asked.total():,} requests")
    return [
        *(_figure(name, found, seconds, own=name in own) for name, found in samples.items()),
        Figure(what="processes begun anew", unit="times", ours=sum(restarts.values()), most=0),
        Figure(what="answered over HTTP", unit="requests", ours=asked[httpx.codes.OK], ceiling=asked.total(), least=1),
    ]


def _figure(name: str, found: list[tuple[float, float]], seconds: float, *, own: bool) -> Figure:
    """Ends of the line through all samples in between: what is held more, not which minute a compaction fell into.

    The parts are as others made them. Source: Theil-Sen, the median of the slopes of all pairs, which a peak does not
    move; the line goes through the medians.
    """
    warm = seconds * WARM_SHARE
    times, sizes = zip(*((at, size) for at, size in found if at >= warm), strict=True)
    slope, level, *_ = theilslopes(sizes, times)
    early, late = (float(level + slope * at) for at in (warm, seconds))
    what = f"{name}, resident, minute {seconds / 60:.0f} against minute {warm / 60:.1f}"
    return Figure(what=what, unit="MB", ours=late, ceiling=early, most=1.05 if own else None)


def _lags(stack: Stack) -> Lags:
    return Lags(
        kafka=KafkaSettings(), stream=NAME, models=[NAME], partitions=PARTITIONS,
        port=int(stack.environment["MODELBUS_MONITOR_HTTP_PORT"]),
    )  # fmt: skip


async def _saturation(lags: Lags, feed: "Feed", say: Say) -> float:
    """Events a second, once a version serves; with labels beside."""
    with feed.going(500):
        await until(_serves, _LIMIT_SECONDS)
    await until(lambda: len(_through(lags)) == _CONSUMERS, _LIMIT_SECONDS)
    say("a version serves")
    began, spent = time.perf_counter(), dict[str, float]()
    await asyncio.to_thread(feed.burst, BACKLOG)

    def all_through() -> bool:
        for name in _through(lags):
            spent.setdefault(name, time.perf_counter() - began)
        return len(spent) == _CONSUMERS

    await until(all_through, _LIMIT_SECONDS)
    rates = {name: BACKLOG / each for name, each in spent.items()}
    say("saturated at " + ", ".join(f"{name} {rate:,.0f}" for name, rate in rates.items()) + " events/s")
    return min(rates.values())


async def _calm(lags: Lags, feed: "Feed") -> None:
    """Until the monitor measures all again, and no longer the sample that it took of the backlog."""

    def measures_all() -> bool:
        monitor = lags.monitor()
        feed.wait_or_go(_behind(lags, monitor))
        return monitor is not None and monitor.sampling == 1

    await until(measures_all, 2 * _LIMIT_SECONDS, every=_SAMPLE_SECONDS)


def _behind(lags: Lags, monitor: Monitor | None) -> int:
    """Events that the last of the consumers has before it; the monitor counts data, labels and predictions."""
    return max(records // (3 if name == "monitor" else 1) for name, records in lags.behind(monitor).items())


def _through(lags: Lags) -> set[str]:
    """Consumers that have nothing before them but the ends of the last transactions, which are no records."""
    return {name for name, records in lags.behind(lags.monitor()).items() if records <= 2 * PARTITIONS}


def _serves() -> bool:
    with Registry("viewer") as registry:
        return registry.get(f"/models/{NAME}")["serving"]["champion"] is not None


def _declared() -> "Feed":
    with Registry("operator") as registry:
        registry.apply(DECLARED, source="soak", reason="the soak")
    return Feed(KafkaSettings())


async def _watched(stack: Stack, seconds: float, feed: "Feed", behind: Callable[[], int], say: Say) -> Samples:
    """Sizes of all processes, every two seconds; the feed waits for whoever has fallen behind."""
    samples: Samples = defaultdict(list)
    began, said = time.monotonic(), 0
    while (at := time.monotonic() - began) < seconds:
        for each in stack.supervisor.status():
            if each.pid is not None:
                samples[each.name].append((at, _resident_mb(each.pid)))
        feed.wait_or_go(await asyncio.to_thread(behind))
        if at // 60 > said:
            said = int(at // 60)
            say(f"minute {said}: " + ", ".join(f"{name} {found[-1][1]:.0f}" for name, found in samples.items()) + " MB")
        await asyncio.sleep(_SAMPLE_SECONDS)
    return samples


@asynccontextmanager
async def _asking(environment: Mapping[str, str]) -> AsyncIterator[Counter[int]]:
    """One row a request, beside what is fed; counts the answers by their status, 0 where there is none."""
    url = f"http://127.0.0.1:{environment['MODELBUS_GATEWAY_HTTP_PORT']}/v2/models/{NAME}/infer"
    said, answered = {"Authorization": f"Bearer {environment['MODELBUS_GATEWAY_CALLER_TOKEN']}"}, Counter[int]()
    inputs = [{"name": name, "shape": [1], "datatype": "FP64", "data": [0.5]} for name in FEATURES]

    async def ask(client: httpx.AsyncClient) -> None:
        while True:
            entity = f"machine-{answered.total() % ENTITIES}"
            try:
                answer = await client.post(url, json={"parameters": {"entity": entity}, "inputs": inputs})
                answered[answer.status_code] += 1
            except httpx.HTTPError:
                answered[0] += 1
            await asyncio.sleep(_ASK_SECONDS)

    async with httpx.AsyncClient(headers=said, timeout=_LIMIT_SECONDS) as client:
        asking = asyncio.create_task(ask(client))
        try:
            yield answered
        finally:
            asking.cancel()
            with suppress(asyncio.CancelledError):
                await asking


def _resident_mb(pid: int) -> float:
    """Source: proc(5), statm."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


class Feed:
    """Events of a stationary world, dated now, and what came of them."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self.sent = 0
        self._rate = 0.0  # events a second
        self._waits = False  # whether nothing is sent for now
        self.waited = 0.0  # seconds
        self._random = random.Random(1)
        self._labels = deque[tuple[float, str, bytes]]()  # due, entity, label
        self._producer = Producer(
            kafka.librdkafka()
            | {"partitioner": "murmur2_random", "linger.ms": 20, "queue.buffering.max.messages": 1_000_000}
        )

    @contextmanager
    def going(self, rate: float) -> Iterator[None]:
        """In a thread: so many events a second while the block runs."""
        self._rate, done = rate, threading.Event()
        thread = threading.Thread(target=self._go, args=(done,))
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self._producer.flush(60)

    def wait_or_go(self, behind: int) -> None:
        """By how many events the last of the consumers is behind."""
        self._waits = behind > self._rate * (NEAR_SECONDS if self._waits else BEHIND_SECONDS)

    def _go(self, done: threading.Event) -> None:
        due, since = float(self.sent), time.perf_counter()
        while not done.wait(_TICK_SECONDS):
            now = time.perf_counter()
            spent, since = now - since, now
            if self._waits:
                self.waited += spent
            else:
                due += spent * self._rate
            self._send(int(due) - self.sent)

    def burst(self, count: int) -> None:
        """As fast as it goes, each with its label at once."""
        for _ in range(0, count, _CHUNK):
            self._send(_CHUNK, labelled=True)
        assert self._producer.flush(60) == 0

    def _send(self, count: int, *, labelled: bool = False) -> None:
        """So many events, with their labels or with these to come, and the labels whose time has come."""
        moment, due = datetime.now(UTC).isoformat(), time.monotonic() + LABEL_SECONDS
        for number in range(self.sent, self.sent + count):
            entity, (features, leaning) = f"machine-{number % ENTITIES}", ROWS[number % len(ROWS)]
            head = f'{{"id":"e{number}","entity":"{entity}","time":"{moment}",'
            put(self._producer, DATA.of(NAME), f'{head}"features":{features}}}'.encode(), entity)
            label = "true" if leaning + self._random.gauss(0, 1) > 0 else "false"
            said = f'{head}"label":{label}}}'.encode()
            if labelled:
                put(self._producer, LABELS.of(NAME), said, entity)
            else:
                self._labels.append((due, entity, said))
        self.sent += count
        while self._labels and self._labels[0][0] <= time.monotonic():
            _, entity, said = self._labels.popleft()
            put(self._producer, LABELS.of(NAME), said, entity)
        self._producer.poll(0)
