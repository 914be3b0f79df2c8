"""The data-plane loop: Kafka → batches in one thread, → rows in another, → Delta tables in a third."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import asyncpg
from confluent_kafka import OFFSET_BEGINNING, KafkaException, TopicPartition

from services.ingestor import metrics
from services.ingestor.announcements import Announcer
from services.ingestor.domain.patience import Patience
from services.ingestor.domain.sources import Source
from services.ingestor.intake import Intake
from services.ingestor.isolation import Isolation
from services.ingestor.messages import BATCH, block_from, client_settings
from services.ingestor.parking import Parking
from services.ingestor.settings import Settings
from services.ingestor.store import Store
from shared import telemetry
from shared.errors import Fatal
from shared.fetching import ColumnConsumer, Fetched
from shared.memory import GIVE_BACK_SECONDS, give_back
from shared.postgres import AWAY
from shared.settings import KafkaSettings
from shared.tables import Tables

_TAKE_SECONDS = 0.2
_LOOK_UP_SECONDS = 1.0
_PLACE_ATTEMPTS = 20
Result = TypeVar("Result")
log = logging.getLogger(__name__)


class Stream:
    """Reads every declared topic. Where to read from is what the tables say; the group's offsets only show the lag.

    While a table is committed, announced or compacted, the next commit's records are taken; when these are there first,
    nothing is taken of any table until that is done. A table that cannot be committed keeps its records, has its
    partitions paused and is tried again with back-off; the others go on.
    """

    def __init__(self, *, kafka: KafkaSettings, pool: asyncpg.Pool, tables: Tables, settings: Settings) -> None:
        self._pool = pool
        self._tables = tables
        self._settings = settings
        self._announcer = Announcer(pool)
        self._isolation = Isolation(pool)
        self._parking = Parking(kafka)
        self._consumer = ColumnConsumer(client_settings(kafka), log)
        self._intakes: dict[str, Intake] = {}
        self._sources: dict[str, Source] = {}
        self._shown: dict[str, Mapping[int, int]] = {}
        self._looked_up = self._turned = time.monotonic() - _LOOK_UP_SECONDS
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="stream")
        self._reads = ThreadPoolExecutor(1, thread_name_prefix="reads")
        self._reading: Future[None] | None = None  # no partition comes or goes meanwhile
        self._commits = ThreadPoolExecutor(1, thread_name_prefix="commits")
        self._work: dict[str, asyncio.Task[None]] = {}  # by topic, while its table is written or announced
        self._worked = self._gave_back = self._turned

    def alive(self) -> bool:
        """Whether the loop still turns, and what it waits for still ends."""
        since = min(self._turned, self._worked) if self._work else self._turned
        return time.monotonic() - since < self._settings.stalled_after_seconds

    async def run(self) -> None:
        """Until cancelled.

        Raises:
            Fatal: a guarantee could be broken by going on.
            KafkaException: the consumer is beyond repair.
        """
        try:
            while True:
                await self._turn()
        finally:
            for work in self._work.values():
                work.cancel()
            await asyncio.gather(*self._work.values(), return_exceptions=True)
            await self._in_thread(self._consumer.close)
            self._thread.shutdown()
            self._reads.shutdown()
            self._commits.shutdown()

    async def _in_thread(self, call: Callable[..., Result], *arguments: Any) -> Result:
        """Kafka is touched by one thread only, one call after the other, also while stopping."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)

    async def _in_commits(self, call: Callable[..., Result], *arguments: Any) -> Result:
        """So are the tables, except when a partition is taken over."""
        return await asyncio.get_running_loop().run_in_executor(self._commits, call, *arguments)

    async def _turn(self) -> None:
        self._turned = time.monotonic()
        if self._turned >= self._looked_up + _LOOK_UP_SECONDS:
            await self._look_up()
        if self._turned >= self._gave_back + GIVE_BACK_SECONDS:
            self._gave_back = self._turned
            self._commits.submit(give_back)  # in turn with what is written
        if not self._sources:
            await asyncio.sleep(_TAKE_SECONDS)
            return
        if busy := self._at_their_limit():
            await asyncio.wait(busy, timeout=_TAKE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        else:
            await self._in_thread(self._take)
        for topic, intake in self._intakes.items():
            await self._serve(topic, intake)

    def _at_their_limit(self) -> list[asyncio.Task[None]]:
        """The work of tables that can take no more until it is done."""
        return [work for topic, work in self._work.items() if self._intakes[topic].at_limit()]

    async def _look_up(self) -> None:
        """Learn what has been declared since; while Postgres is away, what is known goes on."""
        self._looked_up = time.monotonic()
        try:
            async with self._pool.acquire() as connection:
                sources = await Store(connection).sources()
        except (*AWAY, asyncpg.PostgresError) as error:
            log.warning("declarations cannot be looked up: %r", error)
            return
        if sources != self._sources:
            await self._in_thread(self._learn, sources)

    def _learn(self, sources: dict[str, Source]) -> None:
        fresh = sources.keys() - self._sources.keys()
        self._sources = sources
        for topic in self._intakes.keys() & sources.keys():
            self._intakes[topic].learn(sources[topic])
        if fresh:
            self._consumer.subscribe(sorted(sources), on_assign=self._assigned, on_revoke=self._revoked)

    def _take(self) -> None:
        """Batch after batch while they come full: to be asked anew may take as long as a batch.

        One is read while the next is fetched.
        """
        self._show_progress()
        now, most = time.monotonic(), min(BATCH, self._settings.commit_rows)
        until, coming = now + _TAKE_SECONDS, 0
        try:
            while now < until and not any(each.at_limit(coming) for each in self._intakes.values()):
                fetched = self._consumer.fetch(most, _TAKE_SECONDS)
                self._have_read()
                self._reading = self._reads.submit(self._add, fetched, now)
                now, coming = time.monotonic(), sum(map(len, fetched))
                if coming < most:
                    return
        finally:
            self._have_read()

    def _add(self, fetched: list[Fetched], now: float) -> None:
        for each in fetched:
            if intake := self._intakes.get(each.topic):
                intake.add(block_from(each), now)

    def _have_read(self) -> None:
        """Wait for the batch that is being read, and raise what that raised."""
        if reading := self._reading:
            self._reading = None
            reading.result()

    async def _serve(self, topic: str, intake: Intake) -> None:
        """Start what is due, and see how it ended; raises what nobody may outlive."""
        self._turned = now = time.monotonic()
        if (work := self._work.get(topic)) and work.done():
            self._work.pop(topic).result()
            self._worked = now
        if topic not in self._work:
            if intake.due(now):
                await self._in_thread(intake.cut)
                self._start(topic, self._patiently(intake, intake.committing, self._commit(intake)))
            elif not intake.announced and intake.announcing.ready(now):
                self._start(topic, self._patiently(intake, intake.announcing, self._announce(intake)))
        if intake.held != (hold := intake.enough() and intake.committing.failing):
            await self._in_thread(self._hold_or_release, intake, hold)

    def _start(self, topic: str, work: Coroutine[Any, Any, None]) -> None:
        if not self._work:
            self._worked = time.monotonic()
        self._work[topic] = asyncio.create_task(work, name=topic)

    async def _patiently(self, intake: Intake, patience: Patience, work: Coroutine[Any, Any, None]) -> None:
        """Whatever fails, this table waits and the others go on."""
        try:
            await work
            patience.succeeded()
        except Fatal:
            raise
        except Exception as error:
            seconds = patience.failed(time.monotonic())
            metrics.COMMIT_FAILURES.labels(intake.source.table).inc()
            log.warning("%s: trying again in %.1f s: %r", intake.source.table, seconds, error, exc_info=seconds < 1)

    async def _commit(self, intake: Intake) -> None:
        with telemetry.span(f"commit {intake.source.table}"):
            await self._isolate(intake)
            with metrics.COMMIT_SECONDS.labels(intake.source.table).time():
                try:
                    moved = await self._in_commits(intake.commit)
                except Exception:
                    await self._isolation.survived(intake.source)
                    raise
            if moved:
                log.warning("%s: partitions %s had moved, reading them again", intake.source.table, sorted(moved))
                await self._in_thread(self._read_again, intake, moved)
                return
            await self._patiently(intake, intake.announcing, self._say(intake))
        await self._in_commits(intake.tidy)

    async def _isolate(self, intake: Intake) -> None:
        """Take out what ended earlier processes; what is sifted already is not sifted again."""
        if (batch := intake.leaving()) is None or batch.sifted or not batch.unread:
            return
        if (killers := await self._isolation.killers(intake.source, batch)) is not None:
            await self._in_commits(intake.isolate, killers)

    async def _announce(self, intake: Intake) -> None:
        with telemetry.span(f"announce {intake.source.table}"):
            await self._say(intake)

    async def _say(self, intake: Intake) -> None:
        table = await self._in_commits(intake.table)
        await self._announcer.announce(intake.source.table, table)
        intake.announced = True

    def _assigned(self, partitions: list[TopicPartition]) -> None:
        self._have_read()
        for topic in {partition.topic for partition in partitions}:
            if topic not in self._intakes:
                self._intakes[topic] = Intake(
                    self._sources[topic], tables=self._tables, parking=self._parking, settings=self._settings
                )
        placed = self._placed(partitions)
        self._consumer.incremental_assign(placed)
        log.info("assigned: %s", _named(placed))

    def _revoked(self, partitions: list[TopicPartition]) -> None:
        log.info("revoked: %s", _named(partitions))
        try:
            self._have_read()
        finally:
            for partition in partitions:
                if intake := self._intakes.get(partition.topic):
                    intake.drop(partition.partition)

    def _read_again(self, intake: Intake, partitions: Collection[int]) -> None:
        """Not by a seek: a new assignment also forgets what was fetched ahead."""
        again = [TopicPartition(intake.source.topic, partition) for partition in partitions]
        self._consumer.incremental_unassign(again)
        self._consumer.incremental_assign(self._placed(again))

    def _placed(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """The partitions with the offsets where their tables end."""
        placed = []
        for topic in {partition.topic for partition in partitions}:
            wanted = [partition.partition for partition in partitions if partition.topic == topic]
            for partition, offset in _insistently(self._intakes[topic].place, wanted).items():
                placed.append(TopicPartition(topic, partition, offset or OFFSET_BEGINNING))
        return placed

    def _hold_or_release(self, intake: Intake, hold: bool) -> None:
        """What cannot be committed must not grow."""
        intake.held = hold
        mine = [TopicPartition(intake.source.topic, partition) for partition in intake.ends]
        (self._consumer.pause if intake.held else self._consumer.resume)(mine)

    def _show_progress(self) -> None:
        """So that every Kafka tool shows how far the tables are; nobody reads from these offsets."""
        for topic, intake in self._intakes.items():
            if (ends := intake.ends) and self._shown.get(topic) != ends:
                places = [TopicPartition(topic, partition, offset) for partition, offset in ends.items()]
                with suppress(KafkaException):
                    self._consumer.commit(places)
                    self._shown[topic] = ends


def _named(partitions: list[TopicPartition]) -> str:
    return ", ".join(f"{each.topic}/{each.partition}@{max(each.offset, 0)}" for each in partitions)


def _insistently(place: Callable[[list[int]], dict[int, int]], partitions: list[int]) -> dict[int, int]:
    """A partition must not be read before its place is known; heartbeats go on meanwhile.

    Raises:
        Fatal: S3 stayed away.
    """
    patience = Patience()
    for _ in range(_PLACE_ATTEMPTS):
        try:
            return place(partitions)
        except Exception as error:
            log.warning("places cannot be looked up: %r", error)
            time.sleep(patience.failed(0))
    raise Fatal("the tables cannot be read, so nobody knows where to go on")
