"""At least once: outputs are delivered first, then their offsets are committed; no transaction, less delay.

A scorer that dies between the two leaves answers that its successor gives again: consumers drop a repeated prediction
id. What remains of the fence: a switch is said, and its revision committed with the partition's place, before
anything is answered under it, so no successor serves anything older. What is lost: a scorer that was given up for
dead and is not may still deliver answers of the revision before; its offsets are refused.
"""

import time
from collections.abc import Sequence

from confluent_kafka import Consumer, KafkaException, TopicPartition

from services.deployer import metrics
from services.deployer.committing import Commits, Package
from shared.errors import Fatal
from shared.settings import KafkaSettings

_SETTINGS = {
    "enable.idempotence": True,
    # no record is given up silently: what the broker refuses is fatal, what it does not answer is waited for
    "enable.gapless.guarantee": True,
    "message.timeout.ms": 0,
}


class Deliveries(Commits):
    """One flush and one commit of offsets a package; `consumer` owns the partitions."""

    def __init__(self, kafka: KafkaSettings, *, consumer: Consumer, timeout_seconds: int) -> None:
        super().__init__(kafka, _SETTINGS, timeout_seconds=timeout_seconds)
        self._consumer = consumer

    def open(self) -> None:
        """Nothing has to be settled: a former process left no more than repeats."""

    def commit(self, package: Package) -> bool:
        """Deliver, then commit the offsets; False when the partitions have moved.

        Where partitions switch, that is said and fenced before anything is answered.

        Raises:
            Fatal: a record was not delivered.
        """
        began = time.perf_counter()
        try:
            if package.envelopes:
                self.put_envelopes(package.envelopes)
                self._flush()
                self._commit(package.fence)
            self._put(package)
            self._flush()
            self._commit(package.offsets)
        except KafkaException as error:
            if error.args[0].fatal():
                raise Fatal(f"deliver: {error}") from error
            metrics.ABORTED.inc()
            return False
        metrics.TRANSACTION_SECONDS.observe(time.perf_counter() - began)
        return True

    def _commit(self, places: Sequence[TopicPartition]) -> None:
        asked = self._consumer.commit(offsets=list(places), asynchronous=False) if places else []
        if refused := [each.error for each in asked if each.error]:
            raise KafkaException(refused[0])

    def _put(self, package: Package) -> None:
        try:
            self.put_outputs(package.outputs)
        except KafkaException as error:
            raise Fatal(f"produce: {error}") from error

    def _flush(self) -> None:
        if left := self.producer.flush(self.timeout_seconds):
            raise Fatal(f"{left} records were not delivered in {self.timeout_seconds} s")
