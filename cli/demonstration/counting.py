"""Exactly one prediction an event, counted from the raw topics by a reader that knows nothing of the services' state.

An accepted event is a record of the data topic that has no dead letter. From the offset where the scorers first said
to serve a model, each accepted event has one prediction of its champion or its canary; before it, none has.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from cli.demonstration.reading import Raw
from schemas.events.deployer import RolloutSwitched

Where = tuple[int, int]  # partition, offset of an input record


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What of a prediction record is counted."""

    event_id: str
    entity: str
    model: str
    version: int
    arm: str
    partition: int
    offset: int
    score: float


class _Event(msgspec.Struct, frozen=True, gc=False):
    id: str
    entity: str


_FAULTS = (
    *("missing", "repeated", "before_first_champion", "of_refused", "of_no_event", "other_event"),
    *("wrong_arm", "without_version", "out_of_order"),
)
DECODE_ANSWER = msgspec.json.Decoder(Answer).decode
_DECODE_EVENT = msgspec.json.Decoder(_Event).decode


@dataclass(kw_only=True)
class Topics:
    """What was read: input records by place, and for each model its answers in the order of their topic."""

    data: dict[Where, Raw] = field(default_factory=dict)
    answers: dict[str, list[tuple[Raw, Answer]]] = field(default_factory=lambda: defaultdict(list))
    dead: set[Where] = field(default_factory=set)
    dead_reasons: Counter[str] = field(default_factory=Counter)

    def bury(self, raw: Raw, data_topic: str) -> None:
        """Take in a dead letter."""
        told = {name: value.decode(errors="replace") for name, value in raw.headers}
        self.dead_reasons[f"{told['dlq-origin-topic']}: {told['dlq-reason']}"] += 1
        if told["dlq-origin-topic"] == data_topic:
            self.dead.add((int(told["dlq-origin-partition"]), int(told["dlq-origin-offset"])))


@dataclass(kw_only=True)
class Count:
    """One model's account. Every number but the first four must be zero; `examples` names some that are not."""

    accepted: int = 0
    answered_once: int = 0
    unserved: int = 0
    by_version_and_arm: Counter[str] = field(default_factory=Counter)
    missing: int = 0
    repeated: int = 0
    before_first_champion: int = 0
    of_refused: int = 0
    of_no_event: int = 0
    other_event: int = 0
    wrong_arm: int = 0
    without_version: int = 0
    out_of_order: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def faults(self) -> dict[str, int]:
        """What is wrong, by kind; empty when nothing is."""
        return {kind: number for kind in _FAULTS if (number := getattr(self, kind))}

    def fault(self, kind: str, example: object) -> None:
        setattr(self, kind, getattr(self, kind) + 1)
        if len(self.examples) < 10:
            self.examples.append(f"{kind}: {example}")


def first_served(switches: Iterable[RolloutSwitched], model: str) -> dict[int, int]:
    """Partition → the input offset from which the model is served there."""
    starts: dict[int, int] = {}
    for switch in switches:
        if switch.model == model:
            starts[switch.partition] = min(switch.offset, starts.get(switch.partition, switch.offset))
    return starts


def count(model: str, topics: Topics, starts: Mapping[int, int]) -> Count:
    """The account of one model."""
    found = Count()
    answered = _take_answers(found, topics, topics.answers[model], starts)
    accepted = [where for where in topics.data if where not in topics.dead]
    found.accepted = len(accepted)
    for where in accepted:
        partition, offset = where
        if offset < starts.get(partition, offset + 1):
            found.unserved += 1
        elif not answered[where]:
            found.fault("missing", where)
        elif answered[where] > 1:
            found.fault("repeated", where)
        else:
            found.answered_once += 1
    found.out_of_order = _out_of_order(topics.answers[model])
    return found


def _take_answers(
    found: Count, topics: Topics, answers: Iterable[tuple[Raw, Answer]], starts: Mapping[int, int]
) -> Counter[Where]:
    answered: Counter[Where] = Counter()
    for _, answer in answers:
        where = answer.partition, answer.offset
        answered[where] += 1
        found.by_version_and_arm[f"v{answer.version} {answer.arm}"] += 1
        if where not in topics.data:
            found.fault("of_no_event", where)
        elif where in topics.dead:
            found.fault("of_refused", where)
        else:
            _check_answer(found, answer, topics.data[where], starts)
    return answered


def _check_answer(found: Count, answer: Answer, event: Raw, starts: Mapping[int, int]) -> None:
    where = answer.partition, answer.offset
    if answer.offset < starts.get(answer.partition, answer.offset + 1):
        found.fault("before_first_champion", where)
    if answer.arm not in {"champion", "canary"}:
        found.fault("wrong_arm", (where, answer.arm))
    if answer.version < 1:
        found.fault("without_version", where)
    said = _DECODE_EVENT(event.value)
    if (said.id, said.entity) != (answer.event_id, answer.entity):
        found.fault("other_event", (where, answer.event_id))


def _out_of_order(answers: Iterable[tuple[Raw, Answer]]) -> int:
    """Answers of an entity that come before the answer to an earlier event of it, or in another partition."""
    last: dict[str, tuple[int, int]] = {}  # entity → output partition, input offset
    wrong = 0
    for raw, answer in answers:
        partition, offset = last.get(answer.entity, (raw.partition, -1))
        wrong += partition != raw.partition or offset >= answer.offset
        last[answer.entity] = raw.partition, answer.offset
    return wrong


def latencies_ms(topics: Topics, model: str) -> list[int]:
    """From the broker having the event to the broker having its prediction, by LogAppendTime."""
    return [
        raw.timestamp_ms - topics.data[answer.partition, answer.offset].timestamp_ms
        for raw, answer in topics.answers[model]
        if (answer.partition, answer.offset) in topics.data
    ]
