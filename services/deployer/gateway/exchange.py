"""Events out, and the predictions that scorers commit for them back.

One consumer reads committed predictions of the models that are asked, from their topics' ends on, in no group. A
prediction belongs to a request by the place of its event, partition and offset: ids may come again.
"""

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from schemas.topics import DATA, MAX_RECORD_BYTES, PREDICTIONS
from services.deployer.gateway.errors import Busy, Late, Unavailable
from services.deployer.gateway.events import Event
from services.deployer.places import Record
from services.deployer.settings import GatewaySettings
from shared import records, telemetry
from shared.errors import Fatal
from shared.reading import take
from shared.records import Prediction
from shared.settings import KafkaSettings

_POLL_SECONDS = 0.05
_REQUEST_SECONDS = 10.0
_IDLE_SECONDS = 60.0
_CLOSING_SECONDS = 5.0
log = logging.getLogger(__name__)
Key = tuple[str, bytes]  # predictions topic, entity
Place = tuple[int, int]  # partition, offset


@dataclass(eq=False, kw_only=True)
class Waiting:
    """An event on its way: answered when it is known where it stands and a prediction names that place."""

    event: Event
    answer: asyncio.Future[Prediction]
    place: Place | None = None
    heard: dict[Place, Prediction] = field(default_factory=dict)

    def settle(self) -> None:
        if self.place in self.heard and not self.answer.done():
            self.answer.set_result(self.heard[self.place])


class Exchange:
    """`ask` belongs to the event loop that made it, `run` to one thread."""

    def __init__(self, kafka: KafkaSettings, settings: GatewaySettings) -> None:
        self.beat = time.monotonic()
        self.in_flight = 0
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._producer = _producer(kafka, settings, self._break)
        self._consumer = _consumer(kafka)
        self._broken: KafkaError | None = None
        self._orders: SimpleQueue[tuple[str, asyncio.Future[None] | None]] = SimpleQueue()
        self._idle_seconds = settings.deadline_seconds + _IDLE_SECONDS
        self._followed: dict[str, asyncio.Future[None]] = {}
        self._asked_at: dict[str, float] = {}
        self._keys: Counter[Key] = Counter()  # the thread looks whether a key is in it, and no more
        self._waiting: defaultdict[tuple[str, str], list[Waiting]] = defaultdict(list)

    # -- in the event loop

    async def ask(self, stream: str, model: str, events: Sequence[Event]) -> list[Prediction]:
        """Publish events and wait for their predictions by this model, in order.

        Raises:
            Busy: too many rows are in flight; nothing was published.
            Unavailable: an event was not published.
            Late: no prediction in time, though there will be one.
        """
        if self.in_flight + len(events) > self._settings.max_in_flight:
            raise Busy(f"expected at most {self._settings.max_in_flight} rows in flight, got {len(events)} more")
        topic = PREDICTIONS.of(model)
        with self._expecting(topic, events) as waiting:
            try:
                async with asyncio.timeout(self._settings.deadline_seconds):
                    await self._follow(topic)
                    for each in waiting:
                        self._publish(DATA.of(stream), each)
                    return await asyncio.gather(*(each.answer for each in waiting))
            except TimeoutError:
                raise self._late(stream, model, waiting) from None

    def _late(self, stream: str, model: str, waiting: Sequence[Waiting]) -> Late | Unavailable:
        published = [each.event.id for each in waiting if each.place is not None]
        seconds = self._settings.deadline_seconds
        if not published:
            return Unavailable(f"{DATA.of(stream)}: no event is known to be published in {seconds} s")
        return Late(
            f"no prediction in {seconds} s; {len(published)} of {len(waiting)} events stand in {DATA.of(stream)} "
            f"and will have theirs in {PREDICTIONS.of(model)}: event ids {published[0]} … {published[-1]}"
        )

    @contextmanager
    def _expecting(self, topic: str, events: Sequence[Event]) -> Iterator[list[Waiting]]:
        """Listen for these events while the block runs."""
        waiting = [Waiting(event=event, answer=self._loop.create_future()) for event in events]
        self.in_flight += len(waiting)
        for each in waiting:
            self._keys[topic, each.event.entity.encode()] += 1
            self._waiting[topic, each.event.id].append(each)
        try:
            yield waiting
        finally:
            self.in_flight -= len(waiting)
            for each in waiting:
                self._forget(topic, each)

    def _forget(self, topic: str, waiting: Waiting) -> None:
        key, named = (topic, waiting.event.entity.encode()), (topic, waiting.event.id)
        self._keys[key] -= 1
        if not self._keys[key]:
            del self._keys[key]
        self._waiting[named].remove(waiting)
        if not self._waiting[named]:
            del self._waiting[named]
        waiting.answer.cancel()

    async def _follow(self, topic: str) -> None:
        """Until the consumer stands at the topic's end."""
        if topic not in self._followed:
            self._followed[topic] = self._loop.create_future()
            self._orders.put((topic, self._followed[topic]))
            self._loop.call_later(self._idle_seconds, self._let_go, topic)
        self._asked_at[topic] = self._loop.time()
        await asyncio.shield(self._followed[topic])

    def _let_go(self, topic: str) -> None:
        """Stop listening to a model that nobody asks any more, or look again later."""
        remaining = self._asked_at[topic] + self._idle_seconds - self._loop.time()
        if remaining > 0:
            self._loop.call_later(remaining, self._let_go, topic)
        elif self._followed.pop(topic, None):
            self._orders.put((topic, None))

    def _publish(self, topic: str, waiting: Waiting) -> None:
        traceparent = telemetry.current_traceparent()
        event = waiting.event

        def delivered(error: KafkaError | None, message: Record) -> None:
            self._loop.call_soon_threadsafe(self._stands, waiting, error, (message.partition(), message.offset()))

        headers: list[tuple[str, str | bytes | None]] = [("content-type", b"application/json")]
        if traceparent:
            headers.append(("traceparent", traceparent.encode()))
        try:
            self._producer.produce(topic, event.value, event.entity.encode(), headers=headers, on_delivery=delivered)
        except (BufferError, KafkaException) as error:
            raise Unavailable(f"{topic}: {error}") from error

    def _stands(self, waiting: Waiting, error: KafkaError | None, place: Place) -> None:
        if error is None:
            waiting.place = place
            waiting.settle()
        elif not waiting.answer.done():
            waiting.answer.set_exception(Unavailable(f"not published: {error}"))

    def _heard(self, topic: str, prediction: Prediction) -> None:
        for each in self._waiting.get((topic, prediction.event_id), ()):
            each.heard[prediction.partition, prediction.offset] = prediction
            each.settle()

    # -- in the thread

    def run(self, stopped: Callable[[], bool]) -> None:
        """Publish and listen until told to stop.

        Raises:
            Fatal: a client is broken.
        """
        while not stopped():
            self.beat = time.monotonic()
            self._obey()
            messages = take(self._consumer, 1000, _POLL_SECONDS)
            self._producer.poll(0)  # where events stand, before what answers them
            for message in messages:
                self._hear(message)
            if self._broken is not None:
                raise Fatal(f"kafka: {self._broken}")
        self._producer.flush(_CLOSING_SECONDS)
        self._consumer.close()

    def _obey(self) -> None:
        """Listen to what is asked, and no longer to what nobody asks; an order that was taken back is passed over."""
        for _ in range(self._orders.qsize()):
            topic, following = self._orders.get()
            if following is None:
                self._consumer.incremental_unassign(
                    [each for each in self._consumer.assignment() if each.topic == topic]
                )
            elif following is self._followed.get(topic):
                self._assign(topic, following)

    def _assign(self, topic: str, following: asyncio.Future[None]) -> None:
        """Go to the topic's end; tried until it works, as a topic made just now has no leader yet."""
        try:
            self._consumer.incremental_assign(_ends(self._consumer, topic))
        except KafkaException as error:
            log.warning("%s: %s; trying again", topic, error)
            self._orders.put((topic, following))
            return
        self._loop.call_soon_threadsafe(following.set_result, None)

    def _hear(self, message: Record) -> None:
        if (error := message.error()) is not None:
            if error.fatal():
                self._break(error)
            log.warning("%s: %s", message.topic(), error)
        elif (message.topic(), message.key()) in self._keys:
            try:
                prediction = records.PREDICTIONS.decode(message.value())
            except (msgspec.MsgspecError, *records.UNREADABLE) as unreadable:
                log.warning("%s[%s]@%s: %s", message.topic(), message.partition(), message.offset(), unreadable)
                return
            self._loop.call_soon_threadsafe(self._heard, message.topic(), prediction)

    def _break(self, error: KafkaError) -> None:
        if error.fatal():
            self._broken = error


def _ends(consumer: Consumer, topic: str) -> list[TopicPartition]:
    """The topic's partitions at what is committed of them now.

    Raises:
        KafkaException: the broker does not know it, or does not answer.
    """
    found = consumer.list_topics(topic, timeout=_REQUEST_SECONDS).topics[topic]
    if found.error:
        raise KafkaException(found.error)
    wheres = [TopicPartition(topic, partition) for partition in found.partitions]
    return [
        TopicPartition(topic, each.partition, consumer.get_watermark_offsets(each, timeout=_REQUEST_SECONDS)[1])
        for each in wheres
    ]


def _producer(kafka: KafkaSettings, settings: GatewaySettings, broken: Callable[[KafkaError], None]) -> Producer:
    properties: dict[str, Any] = kafka.librdkafka() | {
        "client.id": "modelbus-gateway",
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": "murmur2_random",
        "linger.ms": 0,
        "message.timeout.ms": int(settings.deadline_seconds * 500),  # so that its error is told within the deadline
        "message.max.bytes": MAX_RECORD_BYTES,
        "error_cb": broken,
    }
    return Producer(properties)


def _consumer(kafka: KafkaSettings) -> Consumer:
    return Consumer(
        kafka.librdkafka()
        | {
            "group.id": "modelbus.gateway",  # asked for by the client; never joined
            "client.id": "modelbus-gateway",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "latest",
            "fetch.wait.max.ms": 50,
            "queued.max.messages.kbytes": 16 * 1024,
        }
    )
