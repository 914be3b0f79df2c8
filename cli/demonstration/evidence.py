"""Everything the report stands on: the topics as they are, read once from their beginnings."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from cli.demonstration.counting import DECODE_ANSWER, Count, Topics, count
from cli.demonstration.lifecycles import Lifecycles
from cli.demonstration.plan import Declared
from cli.demonstration.quality import Gain, Served, gain, served
from cli.demonstration.reading import LIFECYCLE_TOPICS, Raw, Said, read_all, said, topics_of
from schemas.topics import DATA, DEAD_LETTERS, LABELS, PREDICTIONS
from shared.dead_letters import is_mark
from shared.objects import Objects
from shared.settings import KafkaSettings


class _Label(msgspec.Struct, frozen=True, gc=False):
    id: str
    label: bool | float | str


_DECODE_LABEL = msgspec.json.Decoder(_Label).decode


@dataclass(kw_only=True)
class Evidence:
    """What was read, of one stream and its models."""

    declared: Declared
    topics: Topics = field(default_factory=Topics)
    labels: dict[str, float] = field(default_factory=dict)  # by event id; the first one stands
    label_records: int = 0
    lifecycles: Lifecycles = field(default_factory=lambda: Lifecycles([]))

    def counts(self) -> dict[str, Count]:
        """Each model's account."""
        return {
            model: count(model, self.topics, self.lifecycles.served_from(model, 1)) for model in self.declared.names
        }

    def served(self) -> dict[str, Served]:
        """Quality since each model's first champion."""
        return {
            model: served(self.topics, model, self.labels, self.lifecycles.served_from(model, 1))
            for model in self.declared.names
        }

    def gains(self, objects: Objects) -> dict[str, Gain]:
        """Each model that has had a second champion, since then, over its first one's artifact from S3."""
        found = {}
        for model in self.declared.names:
            champions = self.lifecycles.champions(model)
            if len(champions) > 1:
                first, since = champions[0].release, self.lifecycles.served_from(model, champions[1].revision)
                artifact = objects.get_now(first.candidate.onnx.digest)
                found[model] = gain(self.topics, model, self.labels, since, over=first, artifact=artifact)
        return found

    def predictions(self) -> list[str]:
        """The ids of all."""
        return [
            f"{answer.event_id}@{model}:{answer.version}"
            for model in self.declared.names
            for _, answer in self.topics.answers[model]
        ]

    def predicted_events(self) -> dict[str, int]:
        """Model → distinct events that it answered."""
        return {
            model: len({answer.event_id for _, answer in self.topics.answers[model]}) for model in self.declared.names
        }

    def expected_rows(self) -> dict[str, int]:
        """Table → records of its topic that belong into it."""
        stream = self.declared.stream.stream
        dead_labels = sum(n for why, n in self.topics.dead_reasons.items() if why.startswith(f"{LABELS.of(stream)}:"))
        return {
            f"data/{stream}": len(self.topics.data.keys() - self.topics.dead),
            f"labels/{stream}": self.label_records - dead_labels,
            **{f"predictions/{model}": len(self.topics.answers[model]) for model in self.declared.names},
        }


def gather(declared: Declared) -> Evidence:
    """Read all topics, read_committed, to their ends."""
    found, heard = Evidence(declared=declared), []
    for raw in read_all(KafkaSettings(), topics_of(declared.stream.stream, declared.names)):
        if raw.topic in LIFECYCLE_TOPICS:
            heard.append(said(raw))
        else:
            _take(found, raw)
    found.lifecycles = Lifecycles(each for each in heard if each is not None)
    return found


def _take(found: Evidence, raw: Raw) -> None:
    stream = found.declared.stream.stream
    if raw.topic == DATA.of(stream):
        found.topics.data[raw.where] = raw
    elif raw.topic == LABELS.of(stream):
        found.label_records += 1
        label = _DECODE_LABEL(raw.value)
        found.labels.setdefault(label.id, float(label.label))
    elif raw.topic == DEAD_LETTERS and not is_mark(raw.headers):
        found.topics.bury(raw, DATA.of(stream))
    elif (model := PREDICTIONS.owner(raw.topic)) is not None:
        found.topics.answers[model].append((raw, DECODE_ANSWER(raw.value)))


def traces_apart(said: list[Said], trace_id: str | None) -> set[str]:
    """Trace ids of these events other than this one."""
    found = {each.envelope.traceparent.split("-")[1] for each in said if each.envelope.traceparent}
    return found - {trace_id or ""}


def by_model(joins: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    """The monitor's counts, (model, state) → n, as model → state → n."""
    found: dict[str, dict[str, int]] = {}
    for (model, state), number in joins.items():
        found.setdefault(model, {})[state] = number
    return found
