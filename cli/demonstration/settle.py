"""Has everything come to rest? Nothing here believes a service that it is done; it looks at what it has written."""

import time
from collections.abc import Mapping

from confluent_kafka import KafkaException

from cli.demonstration.holds import Holds
from cli.demonstration.lags import Ends, Lags, Monitor
from cli.demonstration.picture import Picture
from schemas.topics import DATA, LABELS, PREDICTIONS

QUIET_SECONDS = 3.0


class NotSettled(Exception):
    """Something did not come to rest in time; the message says what."""


class Settling:
    """Asked again and again once all input is published."""

    def __init__(self, *, stream: str, models: tuple[str, ...], lags: Lags, holds: Holds, picture: Picture) -> None:
        self._stream, self._models = stream, models
        self._lags, self._holds, self._picture = lags, holds, picture
        self._quiet_since: float | None = None
        self._seen: object = None

    def unsettled(self, monitor: Monitor | None) -> list[str]:
        """What is not done, in words; empty when everything has been done and quiet for a while."""
        try:
            ends = self._lags.input_ends()
            answered = self._lags.answered(ends)
        except KafkaException as error:
            return [f"the broker does not answer: {error}"]
        with self._picture.lock:
            missing = self._uncommitted(ends)
            served = sum(sum(model.predictions.values()) for model in self._picture.models.values())
            seen = (
                dict(self._picture.tables),
                len(self._picture.news),
                {k: dict(v) for k, v in self._outputs().items()},
            )
        missing += [f"{what} is under way ({reason})" for what, reason in self._holds.all().items()]
        if not answered:
            missing.append("the scorers have not answered everything")
        if monitor is None or monitor.behind is None:
            missing.append("the monitor does not say how far it is")
        elif monitor.behind or sum(monitor.joins.values()) < served:
            missing.append(f"the monitor has {monitor.behind:,} records to read")
        return missing or self._noise(seen)

    def _outputs(self) -> Mapping[str, Mapping[int, int]]:
        return self._picture.predictions

    def _uncommitted(self, ends: Ends) -> list[str]:
        """Tables that do not hold all records of their topic."""
        tables = {f"data/{self._stream}": DATA.of(self._stream), f"labels/{self._stream}": LABELS.of(self._stream)}
        wanted = {
            table: {p: end for (name, p), end in ends.items() if name == topic} for table, topic in tables.items()
        }
        wanted |= {
            f"predictions/{model}": dict(self._outputs().get(PREDICTIONS.of(model), {})) for model in self._models
        }
        return [f"table {name} is behind its topic" for name, next_ in wanted.items() if self._is_behind(name, next_)]

    def _is_behind(self, table: str, ends: Mapping[int, int]) -> bool:
        committed = self._picture.tables.get(table)
        offsets = committed.offsets if committed else {}
        return any(offsets.get(partition, 0) < end for partition, end in ends.items())

    def _noise(self, seen: object) -> list[str]:
        now = time.monotonic()
        if seen != self._seen or self._quiet_since is None:
            self._seen, self._quiet_since = seen, now
        return [] if now - self._quiet_since >= QUIET_SECONDS else ["something was said a moment ago"]
