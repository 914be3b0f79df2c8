"""The data plane of one stream: reads its topics up to a barrier, a bounded round at a time. Belongs to one thread.

The ends of the predictions are asked for first, then those of the data, then those of the labels: so each answer's
input lies below the data's end, and labels are at least as fresh as the data that moves the clock.

Memory: a partition that holds _SHARES_HELD shares is paused until less than one is left, and no more than a share is
fetched at a time. So a partition holds less than _SHARES_HELD + 1 shares, and all of them less than so many times the
budget of a round in records (a share is _LEAST_SHARE at least); the clients' own queues are bounded by
`queued.max.messages.kbytes` each. Some shares, and not one, because a client forgets what it fetched ahead at a pause;
and a client a kind of topic, because a fetch brings as many bytes of each partition, whatever a record takes: beside
predictions there would always be too many labels.
"""

import logging
import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from schemas.topics import DATA, LABELS, PREDICTIONS, SHADOW
from services.monitor.domain.facts import StreamFacts
from services.monitor.domain.state import Vector
from services.monitor.intake import Lane, Record
from shared.errors import Fatal
from shared.reading import take
from shared.settings import KafkaSettings

Where = tuple[str, int]  # topic, partition
_ASK_SECONDS = 10.0
_POLL_SECONDS = 0.005
_STALL_SECONDS = 5.0  # a round ends without the partitions that bring nothing for so long
_LEAST_SHARE = 200
_SHARES_HELD = 4
_TOGETHER = ((DATA,), (LABELS,), (PREDICTIONS, SHADOW))  # of these come as many records each, of some size
_UNKNOWN = {
    *(KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION),  # noqa: SLF001
    *(KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE),
}
log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class _Buffer:
    """What was fetched of a partition and not yet taken, and the offset up to which it was fetched."""

    fetched: int
    records: list[Record] = field(default_factory=list)
    paused: bool = False


class _Feed:
    """A consumer with manual assignment, and what it brought of its partitions.

    Topics of one kind share one: of these as many records come as are taken, so that few have to be paused.
    """

    def __init__(self, kafka: KafkaSettings, name: str) -> None:
        self._consumer = Consumer(
            kafka.librdkafka()
            | {
                "group.id": f"modelbus.{name}",  # asked for by the library; nothing is joined or committed
                "client.id": f"modelbus-{name}",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 100,
                "fetch.queue.backoff.ms": 5,  # the usual second is how long a reader that is ahead would wait
                "fetch.message.max.bytes": 524_288,  # small, so that partitions come in turns
                "queued.min.messages": 5_000,  # few: a pause forgets them, and they are fetched again
                "queued.max.messages.kbytes": 21_845,
            }
        )
        self._buffers: dict[Where, _Buffer] = {}

    def close(self) -> None:
        self._consumer.close()

    def assign(self, starts: Mapping[Where, int]) -> dict[Where, _Buffer]:
        self._consumer.incremental_assign([TopicPartition(*where, start) for where, start in starts.items()])
        fresh = {where: _Buffer(fetched=start) for where, start in starts.items()}
        self._buffers |= fresh
        return fresh

    def fetch(self, wanted: Mapping[Where, int], share: int, seconds: float) -> int:
        """Take what has come, no more than a share, or wait so long for something; how much that was."""
        missing = sum(max(0, target - self._buffers[where].fetched) for where, target in wanted.items())
        if not missing:
            return 0
        self._pause(share)
        messages = take(self._consumer, min(share, missing + len(wanted)), seconds)
        self._keep(messages)
        return len(messages)

    def _pause(self, share: int) -> None:
        """Ask for no more where several shares are held, and for more where less than one is left."""
        for where, buffer in self._buffers.items():
            held = len(buffer.records)
            if not buffer.paused and held >= _SHARES_HELD * share:
                self._consumer.pause([TopicPartition(*where)])
                buffer.paused = True
            elif buffer.paused and held < share:
                self._consumer.resume([TopicPartition(*where)])
                buffer.paused = False

    def _keep(self, messages: Sequence[Message]) -> None:
        """Records first: the end of a partition lies behind those that came before it."""
        told = [message for message in messages if message.error()] if any(map(Message.error, messages)) else []
        sound = [message for message in messages if not message.error()] if told else messages
        places = zip(map(Message.topic, sound), map(Message.partition, sound), strict=True)
        records: list[Any] = list(zip(map(Message.offset, sound), map(Message.value, sound), strict=True))
        start = 0
        for (topic, partition), found in groupby(places):
            assert topic is not None
            assert partition is not None
            end = start + len(list(found))
            self._append((topic, partition), records[start:end])
            start = end
        for message in told:
            self._told(message)

    def _append(self, where: Where, records: list[Any]) -> None:
        buffer = self._buffers[where]
        if records[0][0] < buffer.fetched:  # fetched again after a pause
            records = [record for record in records if record[0] >= buffer.fetched]
        if records:
            buffer.records += records
            buffer.fetched = records[-1][0] + 1

    def _told(self, message: Message) -> None:
        topic, partition, offset, error = message.topic(), message.partition(), message.offset(), message.error()
        if error is None or topic is None or partition is None or offset is None:
            raise Fatal(f"the consumer: {error}")
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
            buffer = self._buffers[topic, partition]
            buffer.fetched = max(buffer.fetched, offset)
        elif error.fatal() or (not error.retriable() and error.code() not in _UNKNOWN):
            raise Fatal(f"{topic}[{partition}]: {error}")


class Reader:
    """Reads partitions side by side; offsets live in the stream's state, not in the broker."""

    def __init__(self, kafka: KafkaSettings, name: str) -> None:
        self._admin = AdminClient(kafka.librdkafka())
        self._buffers: dict[Where, _Buffer] = {}
        self._feeds = {families: _Feed(kafka, f"{name}.{families[0].name}") for families in _TOGETHER}
        self._ends_seen: dict[Where, int] = {}
        self._away: set[Where] = set()  # of the stream's own partitions, when their ends were asked for last

    def close(self) -> None:
        for feed in self._feeds.values():
            feed.close()

    def read(self, ends: Mapping[Where, int], positions: Mapping[str, Vector], budget: int) -> dict[Where, Lane]:
        """Read on to these ends, or a fair share of the budget each; what is at its end takes none.

        Raises:
            Fatal: the broker says something that a reader cannot mend.
        """
        self._ends_seen = dict(ends)
        self._assign(ends, positions)
        some = sum(end > self._start(where, positions) for where, end in ends.items())
        share = max(_LEAST_SHARE, budget // max(1, some))
        wanted = {where: self._target(where, end, positions, share) for where, end in ends.items()}
        self._fetch(wanted, share)
        return {where: self._lane(where, target, ends[where]) for where, target in wanted.items()}

    def waiting(self) -> dict[str, int]:
        """By topic: records below the ends of the last round that were not taken."""
        behind: dict[str, int] = {}
        for where, end in self._ends_seen.items():
            buffer = self._buffers[where]
            at = buffer.records[0][0] if buffer.records else buffer.fetched
            behind[where[0]] = behind.get(where[0], 0) + max(0, end - at)
        return behind

    def held(self) -> int:
        """Records in memory."""
        return sum(len(buffer.records) for buffer in self._buffers.values())

    def taken(self, lanes: Mapping[Where, Lane]) -> None:
        """Let go of what a round took."""
        for where, lane in lanes.items():
            del self._buffers[where].records[: lane.taken]

    def ends(self, facts: StreamFacts) -> dict[Where, int]:
        """Where the topics of a stream and its models end now; none while some of the stream's own are away.

        A round without a partition of them would take it for idle.

        Raises:
            Fatal: the broker says something that a reader cannot mend.
        """
        outputs = [family.of(model) for model in facts.models for family in (PREDICTIONS, SHADOW)]
        stream = facts.spec.stream
        ends: dict[Where, int] = {}
        for topics in (outputs, [DATA.of(stream)], [LABELS.of(stream)]):
            ends |= self._ends_of([(topic, p) for topic in topics for p in range(facts.spec.partitions)])
        own = {(family.of(stream), p) for family in (DATA, LABELS) for p in range(facts.spec.partitions)}
        away = own - ends.keys()
        if away != self._away:
            log.warning("stream %s waits for %s", stream, sorted(away) or "nothing any more")
        self._away = away
        return {} if away else ends

    def _ends_of(self, places: list[Where]) -> dict[Where, int]:
        if not places:
            return {}
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # it has no annotations
        asked = {TopicPartition(*where): latest for where in places}
        found = self._admin.list_offsets(
            asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=_ASK_SECONDS
        )
        ends = {}
        for place, future in found.items():
            try:
                ends[place.topic, place.partition] = future.result(_ASK_SECONDS).offset
            except KafkaException as error:
                if error.args[0].code() not in _UNKNOWN:  # a new topic is not everywhere at once
                    raise Fatal(f"ends of {place.topic}[{place.partition}]: {error}") from error
        return ends

    def _assign(self, places: Iterable[Where], positions: Mapping[str, Vector]) -> None:
        fresh = {where: positions.get(where[0], {}).get(where[1], 0) for where in places if where not in self._buffers}
        for feed, starts in self._by_feed(fresh):
            self._buffers |= feed.assign(starts)

    def _by_feed(self, places: Mapping[Where, int]) -> list[tuple[_Feed, dict[Where, int]]]:
        """Those that have some of the places, with theirs."""
        found = [
            (feed, {(topic, p): at for (topic, p), at in places.items() if any(each.owner(topic) for each in families)})
            for families, feed in self._feeds.items()
        ]
        return [(feed, mine) for feed, mine in found if mine]

    def _target(self, where: Where, end: int, positions: Mapping[str, Vector], share: int) -> int:
        return min(end, self._start(where, positions) + share)

    def _start(self, where: Where, positions: Mapping[str, Vector]) -> int:
        records = self._buffers[where].records
        return records[0][0] if records else max(positions.get(where[0], {}).get(where[1], 0), 0)

    def _fetch(self, wanted: Mapping[Where, int], share: int) -> None:
        """A partition that is wanted holds less than its share, and so is never paused."""
        feeds, last, seconds = self._by_feed(wanted), time.monotonic(), 0.0
        while self._behind(wanted):
            came = sum(feed.fetch(mine, share, seconds) for feed, mine in feeds)
            seconds, now = 0.0 if came else _POLL_SECONDS, time.monotonic()
            last = now if came else last
            if now - last > _STALL_SECONDS:
                log.warning("nothing came for %s s from %s", _STALL_SECONDS, self._behind(wanted))
                return

    def _behind(self, wanted: Mapping[Where, int]) -> list[Where]:
        return [where for where, target in wanted.items() if self._buffers[where].fetched < target]

    def _lane(self, where: Where, target: int, end: int) -> Lane:
        buffer = self._buffers[where]
        records = buffer.records[: bisect_left(buffer.records, target, key=itemgetter(0))]
        reached = target == end and buffer.fetched >= end
        return Lane(records=records, at_end=reached)
