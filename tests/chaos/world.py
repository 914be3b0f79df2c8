"""The stack behind proxies, and scorers and ingestors on it under the supervisor of every day."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from confluent_kafka import Producer

from compose.embedded.folder import LOOPBACK
from compose.embedded.services import processes
from compose.embedded.stack import Stack
from compose.embedded.supervisor import Process, State, Supervisor
from schemas.events.base import Event as Said
from schemas.events.parts import Release
from schemas.events.registry import StreamApplied
from schemas.topics import TOPIC_OF
from shared.settings import KafkaSettings
from tests import scoring_world
from tests.chaos.judge import Rollout
from tests.chaos.plan import TRANSACTION_SECONDS, Crew
from tests.chaos.proxy import KafkaRequests, Proxy, Spotter, delta_commits, postgres_commits
from tests.scoring_world import changed, free_port, trained, until, wrapped

STREAM = "chaos"
START_SECONDS = 120.0
SETTINGS = {
    "OTEL_TRACES_EXPORTER": "none",
    "MODELBUS_SCORER_TRANSACTION_TIMEOUT_SECONDS": str(TRANSACTION_SECONDS),
    "MODELBUS_SCORER_BATCH_RECORDS": "1000",
    "MODELBUS_INGESTOR_COMMIT_SECONDS": "0.5",
}
SPOTTERS: Mapping[str, Callable[[], Spotter]] = {
    "kafka": KafkaRequests,
    "s3": lambda: delta_commits,
    "postgres": lambda: postgres_commits,
}


@dataclass(kw_only=True)
class World:
    """`lines` are the proxies by "<process>/<part>"; `declared` the streams and topics, seen past the proxies."""

    crew: Crew
    folder: Path
    stack: Stack
    supervisor: Supervisor
    lines: Mapping[str, Proxy]
    declared: scoring_world.World
    producer: Producer
    graphs: Sequence[bytes]  # versions take turns with them
    releases: dict[tuple[int, int], Release] = field(default_factory=dict)  # by model and version
    said: int = 0

    def process(self, name: str, **settings: str) -> Process:
        """What runs a scorer or an ingestor; one that has no lines of its own reaches the parts directly."""
        kind, _, number = name.partition("-")
        ways = {part: self.lines[f"{name}/{part}"].port for part in SPOTTERS if f"{name}/{part}" in self.lines}
        environment = self.stack.environment | _ways(self.stack.environment, ways) | SETTINGS | settings
        if kind == "ingestor":
            environment |= {"MODELBUS_INGESTOR_HTTP_PORT": str(free_port()), "MODELBUS_KAFKA_REPLICA": name}
        runs = {each.name: each for each in processes(environment, scorers=int(number) + 1)}
        run = runs["ingestor" if kind == "ingestor" else name]
        return replace(run, name=name, ready_within_seconds=START_SECONDS)

    async def ready(self, name: str) -> int | None:
        """The pid of a process or a part, once it does its work; None when it does not come to that."""
        with suppress(AssertionError):
            await until(lambda: self._state(name).ready, START_SECONDS, every=0.05)
            return self._state(name).pid
        return None

    def _state(self, name: str) -> State:
        return next(state for state in self._states() if state.name == name)

    def _states(self) -> list[State]:
        return [*self.supervisor.status(), *self.stack.supervisor.status()]

    def restarts(self) -> dict[str, int]:
        return {state.name: state.restarts for state in self._states() if state.restarts}

    def say(self, event: Said) -> None:
        """Publish a lifecycle event, however long it takes; the producer keeps the order."""
        self.said += 1
        said = wrapped(event, f"chaos-said-{self.said}")
        topic = TOPIC_OF[type(event)].name
        self.producer.produce(topic, event.encode(), event.key.encode(), headers=list(said.headers()))
        self.producer.poll(0)

    def switch(self, model: int, revision: int, rollout: Rollout) -> None:
        """Let this revision of a model serve."""
        challenger = None if rollout.challenger is None else self._release(model, rollout.challenger)
        self.say(changed(revision, self._release(model, rollout.champion), challenger, share=rollout.share))

    def _release(self, model: int, version: int) -> Release:
        if (model, version) not in self.releases:
            self.releases[model, version] = self.declared.release(
                version, model, self.graphs[version % len(self.graphs)]
            )
        return self.releases[model, version]


@asynccontextmanager
async def opened(crew: Crew, folder: Path) -> AsyncIterator[World]:
    """Everything up, nothing declared to be served yet."""
    lines = {f"{name}/{part}": Proxy(spotter=SPOTTERS[part]) for name, part in _wanted(crew)}
    for proxy in lines.values():
        await proxy.start()
    kafka_proxies = [proxy.port for name, proxy in lines.items() if name.endswith("/kafka")]
    parts = frozenset({"kafka", "postgres", "s3"})
    try:
        async with Stack(folder / "stack", parts, kafka_proxies=kafka_proxies) as stack:
            for name, proxy in lines.items():
                proxy.target = stack.behind_proxies.get(proxy.port) or _port_of(stack, name)
            with _environment(stack.environment | SETTINGS):
                world = await _declared(crew, folder, stack, lines)
                try:
                    yield world
                finally:
                    await world.supervisor.stop()
    finally:
        for proxy in lines.values():
            proxy.stop()


async def _declared(crew: Crew, folder: Path, stack: Stack, lines: Mapping[str, Proxy]) -> World:
    declared = await scoring_world.World.made(STREAM, crew.models, crew.partitions)
    producer = Producer(
        KafkaSettings().librdkafka()
        | {
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            "queue.buffering.max.messages": 1_000_000,
            "linger.ms": 5,
            "log_level": 0,  # that brokers go is known
        }
    )
    (folder / "services").mkdir(exist_ok=True)
    world = World(
        crew=crew,
        folder=folder,
        stack=stack,
        supervisor=Supervisor(folder / "services"),
        lines=lines,
        declared=declared,
        producer=producer,
        graphs=[trained(seed) for seed in (1, 2, 3)],
    )
    world.say(StreamApplied(stream=STREAM, revision=1, spec=declared.stream, actor="chaos", reason="chaos"))
    return world


@asynccontextmanager
async def aside(folder: Path, process: Process) -> AsyncIterator[asyncio.Task[None]]:
    """One more process while the block runs; the task is done when it is ready."""
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    supervisor = Supervisor(folder)
    starting = asyncio.create_task(supervisor.start(process))
    try:
        yield starting
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await supervisor.stop()


@contextmanager
def _environment(news: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(news)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _wanted(crew: Crew) -> Iterator[tuple[str, str]]:
    yield from ((name, part) for name in crew.scorer_names for part in ("kafka", "s3"))
    yield from ((name, part) for name in crew.ingestor_names for part in ("kafka", "s3", "postgres"))


def _port_of(stack: Stack, line: str) -> int:
    if line.endswith("/s3"):
        return int(stack.environment["MODELBUS_S3_ENDPOINT"].rpartition(":")[2])
    return urlsplit(stack.environment["MODELBUS_POSTGRES_DSN"]).port or 0


def _ways(environment: Mapping[str, str], ports: Mapping[str, int]) -> dict[str, str]:
    """The settings of a process that goes by these ports."""
    dsn = environment["MODELBUS_POSTGRES_DSN"]
    by_part = {
        "kafka": ("MODELBUS_KAFKA_BOOTSTRAP_SERVERS", "{}"),
        "s3": ("MODELBUS_S3_ENDPOINT", "{}"),
        "postgres": ("MODELBUS_POSTGRES_DSN", dsn.replace(urlsplit(dsn).netloc.rpartition("@")[2], "{}")),
    }
    return {by_part[part][0]: by_part[part][1].format(f"{LOOPBACK}:{port}") for part, port in ports.items()}
