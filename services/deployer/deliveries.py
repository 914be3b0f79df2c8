"""At least once: outputs are delivered first, then their offsets are committed, seldom; no transaction, less delay.

To commit offsets takes longer than to deliver a batch, so they are committed ten times a second, and when nothing comes
or partitions go. A scorer that dies in between leaves answers that its successor gives again: consumers drop a repeated
prediction id. What remains of the fence: a switch is said, and its revision committed with the partition's place,
before anything is answered under it, so no successor serves anything older. What is lost: a scorer that was given up
for dead and is not may still deliver answers of the revision before; its offsets are refused.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from services.deployer import metrics
from services.deployer.committing import Commits, Package
from services.deployer.places import Where
from shared.errors import Fatal
from shared.settings import KafkaSettings

OFFSETS_EVERY_SECONDS = 0.1
_STALE_SECONDS, _STALE_PAUSE_SECONDS = 1.0, 0.02
_SETTINGS = {
    "enable.idempotence": True,
    # no record is given up silently: what the broker refuses is fatal, what it does not answer is waited for
    "enable.gapless.guarantee": True,
    "message.timeout.ms": 0,
}
log = logging.getLogger(__name__)


class Deliveries(Commits):
    """One flush a package; `consumer` owns the partitions."""

    def __init__(self, kafka: KafkaSettings, *, consumer: Consumer, timeout_seconds: int) -> None:
        super().__init__(kafka, _SETTINGS, timeout_seconds=timeout_seconds)
        self._consumer = consumer
        self._delivered: dict[Where, TopicPartition] = {}  # places whose offsets are not committed yet
        self._committed_at = 0.0

    def open(self) -> None:
        """Nothing has to be settled: a former process left no more than repeats."""

    def commit(self, package: Package) -> bool:
        """Deliver, and commit offsets when it is time; False when they are refused: the partitions have moved.

        Where partitions switch, that is said and fenced before anything is answered.

        Raises:
            Fatal: a record was not delivered.
        """
        if package.envelopes:
            self._put(lambda: self.put_envelopes(package.envelopes))
            self._flush()
        self._note(package.fence)
        if package.fence and not self._commit_offsets():
            return False
        self._put(lambda: package.take(self.put_outputs))
        self._flush()
        self._note(package.offsets)
        if time.monotonic() - self._committed_at > OFFSETS_EVERY_SECONDS and not self._commit_offsets():
            return False
        metrics.TRANSACTION_SECONDS.observe(time.perf_counter() - package.answered_at)
        return True

    def drain(self) -> bool:
        """Commit the offsets of all that was delivered; False when they are refused."""
        return self.awaited(self._thread.submit(self._commit_offsets))

    def forget(self, wheres: Iterable[Where]) -> None:
        """Commit no offsets of these any more: they would take back what their new owner has committed."""
        for where in wheres:
            self._delivered.pop(where, None)

    def _note(self, places: Sequence[TopicPartition]) -> None:
        self._delivered |= {(place.topic, place.partition): place for place in places}

    def _commit_offsets(self) -> bool:
        self._committed_at = time.monotonic()
        if not self._delivered:
            return True
        places, self._delivered = list(self._delivered.values()), {}
        try:
            self._have_committed(places)
        except KafkaException as error:
            if error.args[0].fatal():
                raise Fatal(f"commit offsets: {error}") from error
            log.warning("offsets refused, to be answered again: %s", error)
            metrics.ABORTED.inc()
            return False
        return True

    def _have_committed(self, places: list[TopicPartition]) -> None:
        """A member whose epoch moves on meanwhile soon hears of the new one; no partition goes before this ends."""
        until = time.monotonic() + _STALE_SECONDS
        while True:
            try:
                asked = self._consumer.commit(offsets=places, asynchronous=False)
                if refused := [each.error for each in asked if each.error]:
                    raise KafkaException(refused[0])
            except KafkaException as error:
                if error.args[0].code() != KafkaError.STALE_MEMBER_EPOCH or time.monotonic() > until:
                    raise
                time.sleep(_STALE_PAUSE_SECONDS)
            else:
                return

    def _put(self, put: Callable[[], object]) -> None:
        try:
            put()
        except KafkaException as error:
            raise Fatal(f"produce: {error}") from error

    def _flush(self) -> None:
        try:
            left = self.producer.flush(self.timeout_seconds)
        except KafkaException as error:  # what the broker refuses for good is a gap, and so fatal
            raise Fatal(f"flush: {error}") from error
        if left:
            raise Fatal(f"{left} records were not delivered in {self.timeout_seconds} s")
