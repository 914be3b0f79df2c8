"""What is fed: a stream that is a function of its seed, of which one record in a hundred breaks the contract."""

import json
import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Literal, NamedTuple

from shared.records import MAX_EVENT_BYTES
from tests.scoring_world import EPOCH

Fate = Literal["accepted", "poison", "rejected"]
BAD_SHARE = 0.01
NUMBER = "number"  # the header that says which event of the stream a record is
Spoil = Callable[[dict[str, Any]], bytes | None]


class Event(NamedTuple):
    """One record; `sequence` counts its entity's records, the bad ones too."""

    number: int
    entity: str
    sequence: int
    fate: Fate
    value: bytes | None

    @property
    def id(self) -> str:
        return f"{self.entity}.{self.sequence}"


def _with(**changes: Any) -> Spoil:
    return lambda record: json.dumps(record | changes).encode()


SPOILT: tuple[tuple[Fate, float, Spoil], ...] = (  # fate, how often, how
    ("poison", 1, lambda record: json.dumps(record).encode()[:-1]),
    ("poison", 1, lambda record: json.dumps(record).replace('"weight": ', '"weight": NaN, "w": ').encode()),
    ("poison", 1, lambda _: None),
    ("poison", 1, lambda _: b""),
    ("poison", 1, lambda record: json.dumps(record).encode().replace(b"machine", b"\xff\xfe", 1)),
    ("rejected", 1, _with(time="2013-01-01T00:00:00")),
    ("rejected", 1, _with(features={"heat": "hot"})),
    ("rejected", 1, _with(features={"heat": 1.0, "smell": 2.0})),
    ("rejected", 1, _with(entity=None)),
    ("rejected", 1, _with(time="9999-12-31T00:00:00Z")),
    ("rejected", 0.02, _with(note="x" * MAX_EVENT_BYTES)),
)


def events(seed: int, count: int, entities: int, bad_share: float = BAD_SHARE) -> Iterator[Event]:
    """The first `count` records of the seed's stream, in the order in which they are sent."""
    rng = random.Random(f"{seed}/events")
    sequences = [0] * entities
    often = [each for _, each, _ in SPOILT]
    for number in range(count):
        machine = rng.randrange(entities)
        sequences[machine] += 1
        entity, sequence = f"machine-{machine}", sequences[machine]
        record = {
            "id": f"{entity}.{sequence}",
            "entity": entity,
            "time": (EPOCH + timedelta(seconds=number)).isoformat(),
            "features": {
                "heat": round(rng.gauss(0, 2), 3),
                "weight": round(rng.random(), 3),
                "colour": rng.choice(("red", "green", "blue", None)),
            },
        }
        if rng.random() < bad_share:
            [(fate, _, spoil)] = rng.choices(SPOILT, often)
            yield Event(number, entity, sequence, fate, spoil(record))
        else:
            yield Event(number, entity, sequence, "accepted", json.dumps(record).encode())
