"""Kafka transactions of one scorer slot: outputs, events and offsets become visible together, once.

librdkafka does not know KIP-890 yet, so an answer that leaves open whether a transaction ended is never asked
again in this process: it raises Fatal, the process ends, and the next one's init_transactions settles it.
"""

import time

from confluent_kafka import KafkaException

from services.deployer import metrics
from services.deployer.committing import Commits, Package
from shared.errors import Fatal
from shared.settings import KafkaSettings

_TRANSACTIONAL_ID = "modelbus.scorer"
_OPENING_SECONDS = 60.0


class Transactions(Commits):
    """One transaction a package."""

    def __init__(self, kafka: KafkaSettings, *, slot: int, timeout_seconds: int) -> None:
        settings = {"transactional.id": f"{_TRANSACTIONAL_ID}.{slot}", "transaction.timeout.ms": timeout_seconds * 1000}
        super().__init__(kafka, settings, timeout_seconds=timeout_seconds)

    def open(self) -> None:
        """Fence the slot's process before this one and end what it left open.

        Raises:
            Fatal: the coordinator did not answer in time.
        """
        try:
            self.producer.init_transactions(_OPENING_SECONDS)
        except KafkaException as error:
            raise Fatal(f"init_transactions: {error}") from error

    def commit(self, package: Package) -> bool:
        """One transaction; False when it was aborted."""
        began = time.perf_counter()
        try:
            self.producer.begin_transaction()
            # first of all: it waits until the broker has ended the transaction before. Outputs that come first would
            # ask to join this one too early, and ask again 20 ms later
            self.producer.send_offsets_to_transaction(list(package.offsets), package.group, self.timeout_seconds)
            self.put_outputs(package.outputs)
            self.put_envelopes(package.envelopes)
            self.producer.commit_transaction(self.timeout_seconds)
        except KafkaException as error:
            if not error.args[0].txn_requires_abort():
                raise Fatal(f"commit: {error}") from error
            self._abort(error)
            return False
        metrics.TRANSACTION_SECONDS.observe(time.perf_counter() - began)
        return True

    def _abort(self, cause: KafkaException) -> None:
        try:
            self.producer.abort_transaction(self.timeout_seconds)
        except KafkaException as error:
            raise Fatal(f"abort after {cause}: {error}") from error
        metrics.ABORTED.inc()
