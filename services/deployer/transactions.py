"""Kafka transactions of one scorer slot: outputs, events and offsets become visible together, once.

librdkafka does not know KIP-890 yet, so an answer that leaves open whether a transaction ended is never asked
again in this process: it raises Fatal, the process ends, and the next one's init_transactions settles it.
"""

import logging
import time

from confluent_kafka import KafkaError, KafkaException

from services.deployer import metrics
from services.deployer.committing import Commits, Package
from shared.errors import Fatal
from shared.settings import KafkaSettings

_TRANSACTIONAL_ID = "modelbus.scorer"
_OPENING_SECONDS = 60.0
_WRONG_STATE = KafkaError._STATE  # noqa: SLF001  # what `produce` says once a transaction can only be aborted
_PATIENCE = 0.25  # of a transaction's time-out

log = logging.getLogger(__name__)


class Transactions(Commits):
    """One transaction a package, that begins while its outputs are still made."""

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
        try:
            self._put(package)
            self.put_envelopes(package.envelopes)
            self.producer.commit_transaction(self.timeout_seconds)
        except KafkaException as error:
            if not (error.args[0].txn_requires_abort() or error.args[0].code() == _WRONG_STATE):
                raise Fatal(f"commit: {error}") from error
            self._abort(error)
            log.warning("aborted, to be answered again: %s", error)
            metrics.ABORTED.inc()
            return False
        metrics.TRANSACTION_SECONDS.observe(time.perf_counter() - package.answered_at)
        return True

    def _put(self, package: Package) -> None:
        """Begin a transaction and take outputs as they come; one that would be open for too long begins again."""
        if self._took(package, _PATIENCE * self.timeout_seconds):
            return
        log.warning("answers take longer than a transaction may be open: it is begun again with them")
        self._abort(TimeoutError("answers take long"))
        package.wait()
        self._took(package)

    def _took(self, package: Package, seconds: float | None = None) -> bool:
        """The offsets first: with them a transaction waits until the broker has ended the one before.

        Outputs that come before them ask to join it too early, and ask again 20 ms later. A full package, of thousands
        of records, takes as long to be handed over, and gains the wait for its offsets.
        """
        self.producer.begin_transaction()
        if package.full:
            return package.take(self.put_outputs, seconds, meanwhile=lambda: self._send_offsets(package))
        self._send_offsets(package)
        return package.take(self.put_outputs, seconds)

    def _send_offsets(self, package: Package) -> None:
        self.producer.send_offsets_to_transaction(list(package.offsets), package.group, self.timeout_seconds)

    def _abort(self, cause: Exception) -> None:
        try:
            self.producer.abort_transaction(self.timeout_seconds)
        except KafkaException as error:
            raise Fatal(f"abort after {cause}: {error}") from error
