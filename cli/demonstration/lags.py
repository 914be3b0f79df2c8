"""How far the consumers are behind: by the offsets of their groups, the monitor by its own numbers."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import httpx
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # exported, not listed
from prometheus_client.parser import text_string_to_metric_families

from cli.demonstration.reading import quietly
from schemas.topics import DATA, LABELS, PREDICTIONS
from shared.settings import KafkaSettings

GROUPS = {"ingestor": "modelbus.ingestor", "scorer": "modelbus.scorer"}
# the ingestor commits every two seconds by default, so it is always that far behind
MAX_BEHIND = {"ingestor": 6000, "scorer": 3000, "monitor": 6000}
MAX_AHEAD = timedelta(days=1)  # event time, beyond the stream's lateness: policies should act on what they mean
JOIN_STATES = ("joined", "pending", "expired", "sampled_out")
_ASK_SECONDS = 10.0
Ends = dict[tuple[str, int], int]


class Monitor(NamedTuple):
    """The monitor's own numbers; `joins` are predictions by (model, state). `behind` None: it has not read yet.

    It measures one in `sampling` predictions; None: it has not told yet.
    """

    behind: int | None
    clock: datetime | None
    sampling: int | None
    wanted: frozenset[str]
    joins: Mapping[tuple[str, str], int]


class Lags:
    """Asks broker and monitor; a thread's call, each method one or two requests."""

    def __init__(self, *, kafka: KafkaSettings, stream: str, models: Iterable[str], partitions: int, port: int) -> None:
        self._admin = AdminClient(quietly(kafka))
        self._partitions = partitions
        self._inputs = [DATA.of(stream), LABELS.of(stream)]
        self._topics = {"ingestor": [*self._inputs, *map(PREDICTIONS.of, models)], "scorer": [DATA.of(stream)]}
        self._metrics = f"http://127.0.0.1:{port}/metrics"

    def too_far(self, monitor: Monitor | None, ahead: timedelta) -> dict[str, int]:
        """Consumers that event time must wait for, and by how many records; `ahead` of the monitor's clock it is."""
        behind = self.behind(monitor)
        found = {name: records for name, records in behind.items() if records > MAX_BEHIND[name]}
        if monitor is None or ahead > MAX_AHEAD:  # it is away, or would decide about what is long gone
            found["monitor"] = behind.get("monitor", 0)
        return found

    def behind(self, monitor: Monitor | None) -> dict[str, int]:
        """Records that each consumer has before it in its longest topic, a monitor in all; none where it is silent."""
        ends = self._ends(self._topics["ingestor"])
        behind = {name: self._behind(GROUPS[name], ends, topics) for name, topics in self._topics.items()}
        return behind if monitor is None else behind | {"monitor": monitor.behind or 0}

    def input_ends(self) -> Ends:
        """Next offsets of data and labels."""
        return self._ends(self._inputs)

    def answered(self, ends: Ends) -> bool:
        """Whether the scorers have committed everything up to these ends."""
        return self._behind(GROUPS["scorer"], ends, self._topics["scorer"]) == 0

    def monitor(self) -> Monitor | None:
        """None while it does not answer."""
        try:
            answer = httpx.get(self._metrics, timeout=_ASK_SECONDS).raise_for_status()
        except httpx.HTTPError:
            return None
        return numbers(answer.text)

    def _ends(self, topics: Iterable[str]) -> Ends:
        latest: Any = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # it ships none
        asked = {TopicPartition(topic, p): latest for topic in topics for p in range(self._partitions)}
        found = self._admin.list_offsets(asked, request_timeout=_ASK_SECONDS)
        return {(place.topic, place.partition): future.result(_ASK_SECONDS).offset for place, future in found.items()}

    def _behind(self, group: str, ends: Ends, topics: Iterable[str]) -> int:
        """Of the topic where most records are not committed."""
        try:
            committed = self._committed(group)
        except KafkaException:
            return 0  # the group is not there yet, or its coordinator moves: asked again soon
        missing: dict[str, int] = defaultdict(int)
        for (topic, partition), end in ends.items():
            missing[topic] += max(0, end - committed.get((topic, partition), 0))
        return max(missing[topic] for topic in topics)

    def _committed(self, group: str) -> Ends:
        asked = [ConsumerGroupTopicPartitions(group)]
        (future,) = self._admin.list_consumer_group_offsets(asked, request_timeout=_ASK_SECONDS).values()
        places = future.result(_ASK_SECONDS).topic_partitions
        return {(place.topic, place.partition): max(place.offset, 0) for place in places}


def numbers(exposition: str) -> Monitor:
    """From the monitor's /metrics, in Prometheus' text format."""
    behind: int | None = None
    clock: datetime | None = None
    sampling: int | None = None
    wanted, joins = set(), {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            name = sample.name.removeprefix("modelbus_monitor_")
            if name == "lag_records":
                behind = (behind or 0) + int(sample.value)
            elif name == "clock_seconds" and sample.value:
                clock = datetime.fromtimestamp(sample.value, UTC)
            elif name == "sampling":
                sampling = int(sample.value)
            elif name == "wanted_runs" and sample.value:
                wanted.add(sample.labels["model"])
            elif name in JOIN_STATES:
                joins[sample.labels["model"], name] = int(sample.value)
    return Monitor(behind, clock, sampling, frozenset(wanted), joins)
