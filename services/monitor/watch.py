"""The loop: read to a barrier, take it in, decide, and write state, offsets and events in one transaction."""

import asyncio
import gc
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import asyncpg

from schemas.events.monitor import DataQuarantined, TrainingRequested
from schemas.events.parts import Cut
from schemas.specs import StreamSpec
from schemas.topics import PREDICTIONS
from services.monitor import metrics
from services.monitor.domain import retraining
from services.monitor.domain.clock import Clock, length, micros, moment
from services.monitor.domain.facts import ModelFacts, Run, StreamFacts, TableVersion
from services.monitor.domain.sampling import Pace
from services.monitor.domain.state import StreamState, dump, load
from services.monitor.intake import Intake
from services.monitor.reference import Reference
from services.monitor.rounds import Engine
from services.monitor.settings import Settings
from services.monitor.store import Store
from services.monitor.stream import Reader, Where
from services.monitor.words import Word, event_id
from shared.errors import Fatal
from shared.memory import GIVE_BACK_SECONDS, give_back
from shared.objects import Objects
from shared.outbox import Work, unit_of_work
from shared.settings import KafkaSettings

_STUCK_SECONDS = 60.0
_BACKLOG_ROUNDS = 2
_LOOK_UP_SECONDS = 1.0  # in a backlog, until it looks again what has been declared and how much there is
_WRITES_REST = 20  # times as long as a write took passes until the next
_ALLOCATIONS = 100_000  # that are looked at for cycles at a time; a round of a backlog makes so many, and no cycle
Change = Callable[[Work], Awaitable[None]]
log = logging.getLogger(__name__)


class Watch:
    """Watches every declared stream."""

    def __init__(self, *, pool: asyncpg.Pool, kafka: KafkaSettings, objects: Objects, settings: Settings) -> None:
        self._pool = pool
        self._kafka = kafka
        self._objects = objects
        self._settings = settings
        self._streams: dict[str, StreamWatch] = {}
        self._beat = self._gave_back = time.monotonic()

    def moves(self) -> bool:
        """Whether a round has ended lately."""
        return time.monotonic() - self._beat < _STUCK_SECONDS

    async def run(self) -> None:
        """Rounds for ever; any error ends the process, and the last written state is where the next one starts."""
        gc.freeze()
        gc.set_threshold(_ALLOCATIONS)
        try:
            while True:
                started = time.monotonic()
                await self.round()
                if started > self._gave_back + GIVE_BACK_SECONDS:
                    self._gave_back = started
                    await asyncio.to_thread(give_back)
                behind = any(stream.behind() for stream in self._streams.values())
                rest = 0.0 if behind else self._settings.round_seconds - (self._beat - started)
                await asyncio.sleep(max(0.0, rest))
        finally:
            self.close()

    async def round(self) -> None:
        """One of every stream."""
        for declared in await self._declared():
            await (await self._watched(declared.spec)).round(declared)
        self._beat = time.monotonic()

    def close(self) -> None:
        for stream in self._streams.values():
            stream.reader.close()

    async def _declared(self) -> list[StreamFacts]:
        async with self._pool.acquire() as connection:
            return await Store(connection).streams()

    async def _watched(self, spec: StreamSpec) -> "StreamWatch":
        if spec.stream not in self._streams:
            async with self._pool.acquire() as connection:
                found = await Store(connection).load_state(spec.stream)
            revision, state = (found[0], _loaded(spec.stream, found[1])) if found else (0, None)
            self._streams[spec.stream] = StreamWatch(
                pool=self._pool,
                objects=self._objects,
                settings=self._settings,
                reader=Reader(self._kafka, f"monitor.{spec.stream}"),
                revision=revision,
                pace=Pace(backlog=_BACKLOG_ROUNDS * self._settings.round_records),
                engine=Engine(
                    state=state or StreamState(clock=Clock(leap=length(spec.lateness))),
                    limits=self._settings,
                    intake=Intake(spec=spec),
                ),
            )
        return self._streams[spec.stream]


@dataclass(kw_only=True)
class StreamWatch:
    """One stream's rounds."""

    pool: asyncpg.Pool
    objects: Objects
    settings: Settings
    reader: Reader
    engine: Engine
    revision: int
    pace: Pace
    facts: StreamFacts | None = None
    written: float = field(default_factory=time.monotonic)
    writing: float = 0.0  # seconds that it took
    moved: bool = False  # since it was written
    moves: bool = False  # in the last round
    held: list[Word] = field(default_factory=list)  # of rounds that are not written yet

    async def round(self, declared: StreamFacts) -> None:
        started, spec = time.monotonic(), declared.spec
        facts = self.facts = await self._refresh(declared)
        metrics.wanted(facts.models)
        self._declare(spec)
        await self._load_references(facts)
        self.held += await asyncio.to_thread(self._take, facts)
        changes = [*map(_saying, self.held), *self._trainings(facts)]
        due = started - self.written >= max(self.settings.snapshot_seconds, _WRITES_REST * self.writing)
        if (due and self.moved) or (changes and (due or not self.behind())):
            await self._write(changes)
            metrics.said(self.held)
            self.held = []
        metrics.ROUND.labels(spec.stream).observe(time.monotonic() - started)

    def _keep_up(self, facts: StreamFacts, ends: Mapping[Where, int]) -> None:
        """Measure a sample where more predictions come than can be read."""
        state, topics = self.engine.state, {PREDICTIONS.of(model) for model in facts.models}
        written = sum(end for (topic, _), end in ends.items() if topic in topics)
        taken = sum(sum(state.positions.get(topic, {}).values()) for topic in topics)
        level = self.pace.level(state.sampling, time.monotonic(), written, taken)
        if level != state.sampling:
            log.warning("stream %s: 1 in %d predictions is measured from now on", facts.spec.stream, 1 << level)
        state.sampling = level

    def behind(self) -> bool:
        """Whether rounds follow each other: then a state of many megabytes is written now and then, words and all.

        Not where what waits can not be taken yet, as answers under a revision that was not heard of.
        """
        return self.moves and sum(self.reader.waiting().values()) > self.settings.round_records

    def _declare(self, spec: StreamSpec) -> None:
        if spec != self.engine.intake.spec:
            self.engine.intake, self.engine.references = Intake(spec=spec), {}
            self.engine.state.clock.leap = length(spec.lateness)

    async def _load_references(self, facts: StreamFacts) -> None:
        """Of the versions that the newest revisions name; answers of older ones are joined, but fill no windows."""
        for name, model in facts.models.items():
            for version in model.recent - {known for owner, known in self.engine.references if owner == name}:
                candidate = model.releases[version]
                document = json.loads(await self.objects.get(candidate.reference.digest))
                self.engine.references[name, version] = Reference.of(document, candidate, facts.spec)

    async def _refresh(self, declared: StreamFacts) -> StreamFacts:
        known = self.facts.models if self.facts else {}
        async with self.pool.acquire() as connection:
            store = Store(connection)
            models = await store.models_of(declared.spec.stream, known)
            return replace(declared, models=models, tables=await store.tables_of(declared.spec.stream))

    def _take(self, facts: StreamFacts) -> list[Word]:
        """In a thread: the consumer waits and the decoders work there. With a backlog, as often as the time allows."""
        ends, said, until = self.reader.ends(facts), list[Word](), time.monotonic() + _LOOK_UP_SECONDS
        self.moves = False
        if not ends:
            return said
        self._keep_up(facts, ends)
        while True:
            lanes = self.reader.read(ends, self.engine.state.positions, self.settings.round_records)
            said += self.engine.take(lanes, facts)
            self.reader.taken(lanes)
            self.moves = any(lane.taken for lane in lanes.values())
            self.moved = self.moved or self.moves
            metrics.show(facts.spec.stream, self.engine.state, self.reader.waiting())
            if not self.behind() or time.monotonic() > until:
                return said

    async def _write(self, changes: Sequence[Change]) -> None:
        started = time.monotonic()
        snapshot = await asyncio.to_thread(dump, self.engine.state)
        async with unit_of_work(self.pool, "monitor") as work:
            store = Store(work.connection)
            self.revision = await store.move_state(self.engine.intake.spec.stream, self.revision, snapshot)
            for change in changes:
                await change(work)
        self.moved, self.written = False, time.monotonic()
        self.writing = self.written - started

    def _trainings(self, facts: StreamFacts) -> list[Change]:
        return [change for model in facts.models.values() if (change := self._training(model, facts))]

    def _training(self, model: ModelFacts, facts: StreamFacts) -> Change | None:
        state, run = self.engine.state, model.run
        if state.matured_until is None:
            return None
        clock = moment(state.matured_until)
        if run is not None and run.state == "wanted":
            tables = retraining.covering(run, facts.tables)
            return _request(run, model, facts.spec, list(tables.values())) if tables else None
        if run is not None and retraining.abandoned(model, clock):
            return _abandon(run)
        alerts = self.engine.measuring(model.spec.model, facts).open_alerts() if model.rollouts else {}
        wish = retraining.wish(model, clock=clock, matured=self._matured, alerts=alerts)
        return self._want(model, wish) if wish else None

    def _matured(self, since: datetime) -> int:
        state = self.engine.state
        return state.matured.within(micros(since), state.matured_until or 0)

    def _want(self, model: ModelFacts, wish: retraining.Wish) -> Change:
        state = self.engine.state
        assert state.matured_until is not None
        number = model.run.number + 1 if model.run else 1
        run = Run(
            run_id=f"{model.spec.model}-{number}",
            number=number,
            state="wanted",
            reason=wish.reason,
            explanation=wish.explanation,
            cut_time=moment(state.matured_until),
            data_offsets=dict(state.data),
            labels_offsets=dict(state.labels),
            since=wish.since,
        )

        async def change(work: Work) -> None:
            await Store(work.connection).want(model.spec, run, model.orders)

        return change


def _loaded(stream: str, snapshot: bytes) -> StreamState:
    try:
        return load(snapshot)
    except Fatal as error:
        raise Fatal(f"stream {stream}: {error}") from error


def _saying(word: Word) -> Change:
    async def change(work: Work) -> None:
        if isinstance(word.event, DataQuarantined):
            await Store(work.connection).quarantine(word.event.stream, word.event.span, word.event.features)
        await word.say(work)

    return change


def _abandon(run: Run) -> Change:
    async def change(work: Work) -> None:
        await Store(work.connection).close_run(run.run_id, "abandoned")

    return change


def _request(run: Run, model: ModelFacts, spec: StreamSpec, tables: Sequence[TableVersion]) -> Change:
    """Say the run, in the trace of the table version that was waited for."""
    versions = {table.kind: table.version for table in tables}

    async def change(work: Work) -> None:
        store = Store(work.connection)
        if not await store.requested(run.run_id):
            return
        requested = TrainingRequested(
            model=model.spec.model,
            run_id=run.run_id,
            reason=run.reason,
            explanation=run.explanation,
            spec=model.spec,
            stream_spec=spec,
            cut=Cut(
                time=run.cut_time,
                data_version=versions["data"],
                labels_version=versions["labels"],
                data_offsets=run.data_offsets,
                labels_offsets=run.labels_offsets,
            ),
            quarantined=await store.quarantined(spec.stream, run.cut_time - model.spec.training.window),
            since=run.since,
        )
        name = event_id(requested.event, run.run_id)
        await Word(event=requested, id=name, correlation_id=run.run_id, after=tables[-1].said).say(work)

    return change
