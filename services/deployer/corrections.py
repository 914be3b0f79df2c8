"""Publishes corrections: reads `predictions.<model>` and writes one record a withdrawn prediction, exactly once.

Corrections, the offset that they were read up to and the number written so far commit in one transaction, under an id
of the withdrawal's own: a process that is killed goes on where it stood, and one that was frozen is fenced. It begins
when no partition is served by the version any more, so what is read up to then is all there will be.

With `guarantee: at_least_once` an answer that was given twice is withdrawn twice, and one that a scorer given up for
dead delivers later still is not withdrawn.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import asyncpg
from confluent_kafka import KafkaException, Producer, TopicPartition

from schemas.events.deployer import CorrectionsPublished
from schemas.topics import CORRECTIONS, PREDICTIONS
from services.deployer import metrics
from services.deployer.domain.corrections import Correction, Withdrawal
from services.deployer.serving import SOURCE
from services.deployer.store import Store
from shared import telemetry
from shared.errors import Fault
from shared.kafka import ensure_topics, model_topics
from shared.outbox import unit_of_work
from shared.postgres import AWAY, Connection
from shared.reading import Message, Reader, prediction_of
from shared.records import ENCODER
from shared.settings import KafkaSettings

_BATCH_RECORDS = 2000
_TRANSACTION_SECONDS = 10
_OPENING_SECONDS = 30.0
_POLL_SECONDS = 1.0
log = logging.getLogger(__name__)


async def correct(pool: asyncpg.Pool, kafka: KafkaSettings) -> None:
    """Publish what is withdrawn, for ever; one deployer at a time, by an advisory lock on its connection."""
    while True:
        try:
            async with pool.acquire() as connection:
                if await Store(connection).leads_corrections():
                    await _lead(connection, pool, kafka)
        except (*AWAY, asyncpg.PostgresError) as error:
            log.warning("corrections: %r; trying again", error)
        await asyncio.sleep(_POLL_SECONDS)


async def _lead(connection: Connection, pool: asyncpg.Pool, kafka: KafkaSettings) -> None:
    """In turns, so that one that cannot be published holds up no other."""
    while True:
        done = [await _corrected(each, pool, kafka) for each in await Store(connection).due_corrections()]
        if not done or not all(done):
            await asyncio.sleep(_POLL_SECONDS)


async def _corrected(withdrawal: Withdrawal, pool: asyncpg.Pool, kafka: KafkaSettings) -> bool:
    try:
        with telemetry.span("publish corrections", parent=withdrawal.traceparent, attributes=_about(withdrawal)):
            await _correct(withdrawal, pool, kafka)
    except (KafkaException, Fault) as error:
        log.warning("corrections of %s at revision %s: %r; later again", withdrawal.model, withdrawal.revision, error)
        return False
    return True


async def _correct(withdrawal: Withdrawal, pool: asyncpg.Pool, kafka: KafkaSettings) -> None:
    """All its corrections, and the event that says so; done again after a crash, it says the same."""
    await ensure_topics(kafka, model_topics(kafka, withdrawal.model, withdrawal.partitions))
    stopped = threading.Event()
    try:
        written = await asyncio.to_thread(Publication(kafka, withdrawal).run, stopped.is_set)
    finally:
        stopped.set()
    event = CorrectionsPublished(
        model=withdrawal.model,
        version=withdrawal.version,
        revision=withdrawal.revision,
        count=sum(written.values()),
        partitions=dict(written),
    )
    async with unit_of_work(pool, "deployer") as work:
        await Store(work.connection).corrected(withdrawal)
        await work.emit(
            event,
            id=f"corrected/{withdrawal.model}/{withdrawal.revision}",
            correlation_id=withdrawal.correlation_id,
            causation_id=withdrawal.event_id,
        )


class _Progress(NamedTuple):
    """Of a partition: the next offset to read, and how many corrections stand."""

    offset: int
    written: int


class Publication:
    """The corrections of one withdrawal.

    Raises:
        KafkaException, Fault: from `run`; run a new one, it goes on where this one stood.
    """

    def __init__(self, kafka: KafkaSettings, withdrawal: Withdrawal) -> None:
        self._kafka = kafka
        self._withdrawal = withdrawal
        self._source, self._target = PREDICTIONS.of(withdrawal.model), CORRECTIONS.of(withdrawal.model)
        self._name = f"modelbus.correcting.{withdrawal.model}.{withdrawal.revision}"
        self._headers = _headers(withdrawal)
        self._producer = Producer(
            kafka.librdkafka()
            | {
                "transactional.id": self._name,
                "transaction.timeout.ms": _TRANSACTION_SECONDS * 1000,
                "compression.type": "none",
                "linger.ms": 5,
            }
        )

    def run(self, stopped: Callable[[], bool]) -> Mapping[int, int]:
        """Corrections by partition, those of earlier lives included.

        Raises:
            Fault: also when told to stop.
        """
        self._producer.init_transactions(_OPENING_SECONDS)
        with Reader(self._kafka, self._name, _BATCH_RECORDS) as reader:
            spans = reader.spans(self._source)
            return {partition: self._correct(reader, partition, span, stopped) for partition, span in spans.items()}

    def _correct(self, reader: Reader, partition: int, span: tuple[int, int], stopped: Callable[[], bool]) -> int:
        offset, written = self._progress(reader, partition, span)
        for batch in reader.read(self._source, partition, offset, span[1]):
            if stopped():
                raise Fault("told to stop")
            if corrections := self._withdrawn(batch):
                written += len(corrections)
                self._write(reader, partition, corrections, _Progress(batch[-1].offset() + 1, written))
        return written

    def _progress(self, reader: Reader, partition: int, span: tuple[int, int]) -> _Progress:
        """As committed; at first, where the version's first revision begins: revisions only rise."""
        asked = TopicPartition(self._source, partition)
        [committed] = reader.consumer.committed([asked], timeout=_OPENING_SECONDS)
        if committed.error:
            raise KafkaException(committed.error)
        if committed.offset >= 0:
            return _Progress(max(committed.offset, span[0]), int(committed.metadata or 0))
        return _Progress(reader.first(self._source, partition, span, self._has_begun), 0)

    def _has_begun(self, record: Message) -> bool | None:
        prediction = prediction_of(record)
        return None if prediction is None else prediction.revision >= self._withdrawal.from_revision

    def _withdrawn(self, batch: Sequence[Message]) -> list[Correction]:
        withdrawal = self._withdrawal
        predictions = map(prediction_of, batch)
        return [withdrawal.correction_of(each) for each in predictions if each and withdrawal.covers(each)]

    def _write(self, reader: Reader, partition: int, corrections: Sequence[Correction], progress: _Progress) -> None:
        place = TopicPartition(self._source, partition, progress.offset, metadata=str(progress.written))
        group = reader.consumer.consumer_group_metadata()
        self._producer.begin_transaction()
        for correction in corrections:
            self._put(partition, correction)
        self._producer.send_offsets_to_transaction([place], group, _TRANSACTION_SECONDS)
        self._producer.commit_transaction(_TRANSACTION_SECONDS)
        metrics.CORRECTIONS.labels(self._withdrawal.model).inc(len(corrections))

    def _put(self, partition: int, correction: Correction) -> None:
        key = correction.entity.encode()
        said = [
            ("ce_id", correction.id.encode()),
            ("ce_subject", key),
            ("ce_time", ENCODER.encode(correction.time).strip(b'"')),
        ]
        while True:
            try:
                self._producer.produce(
                    self._target, ENCODER.encode(correction), key, partition, headers=[*self._headers, *said]
                )
                return
            except BufferError:
                self._producer.poll(0.1)


def _headers(withdrawal: Withdrawal) -> list[tuple[str, Any]]:
    said = {
        "ce_specversion": "1.0",
        "ce_type": "modelbus.record.correction.v1",
        "ce_dataschema": "modelbus:schemas/record.correction/v1.0.json",
        "ce_source": SOURCE,
        "content-type": "application/json",
        "ce_correlationid": withdrawal.correlation_id,
        "ce_causationid": withdrawal.event_id,
    }
    return [(name, value.encode()) for name, value in said.items()]


def _about(withdrawal: Withdrawal) -> dict[str, str | int]:
    return {
        "modelbus.model": withdrawal.model,
        "modelbus.version": withdrawal.version,
        "modelbus.revision": withdrawal.revision,
    }
