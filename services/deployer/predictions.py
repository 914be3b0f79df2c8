"""The hot path's last step: answers become prediction records, column by column, ready for the producer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import Literal, NamedTuple

from schemas.events.deployer import RolloutChanged
from schemas.topics import PREDICTIONS, SHADOW
from services.deployer.answers import Answers
from services.deployer.decoding import Columns, without
from services.deployer.domain.exploring import is_explored
from services.deployer.serving import SOURCE
from shared.records import ENCODER, EXPLORE, Prediction

Arm = Literal["champion", "canary", "shadow"]
Header = tuple[str, str | bytes | None]
# topic, value, key, partition, no callbacks, no timestamp, headers: as the client's `produce` takes them, by position
Output = tuple[str, bytes, bytes, int, None, None, int, list[Header]]
_CONSTANT = (
    ("ce_specversion", b"1.0"),
    ("ce_type", b"modelbus.record.prediction.v1"),
    ("ce_dataschema", b"modelbus:schemas/record.prediction/v1.1.json"),
    ("ce_source", f"{SOURCE}/scorer".encode()),
    ("content-type", b"application/json"),
)


class Taken(NamedTuple):
    """Records of one stream as they were consumed, column by column: where they stand, and their bytes."""

    partitions: Sequence[int]
    offsets: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]

    def without(self, places: Sequence[int]) -> "Taken":
        """All but those at these places, ascending."""
        return Taken(
            partitions=without(self.partitions, places),
            offsets=without(self.offsets, places),
            keys=without(self.keys, places),
            values=without(self.values, places),
        )


class Rows(NamedTuple):
    """The accepted records of a batch, column by column: what the records of all its models have in common."""

    ids: Sequence[str]
    entities: Sequence[str]
    times: Sequence[bytes]  # as JSON says them
    partitions: Sequence[int]
    offsets: Sequence[int]
    keys: Sequence[bytes]  # the entities as bytes
    flags: Sequence[tuple[str, ...]]


def rows_of(columns: Columns, taken: Taken) -> Rows:
    """What a batch's accepted records have in common; `taken` are those alone."""
    flags: list[tuple[str, ...]] = [()] * len(columns.ids)
    for row, flagged in columns.flags.items():
        flags[row] = flagged
    return Rows(
        ids=columns.ids,
        entities=columns.entities,
        times=columns.times,
        partitions=taken.partitions,
        offsets=taken.offsets,
        keys=columns.keys,
        flags=flags,
    )


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """A version's record for each row, in the row's own partition; None where it has no answer.

    They are made while somebody goes through them, and again when that is done again: the objects of a whole batch,
    made before, would have left the processor's cache when they are produced, and when they are freed.
    """

    topics: Sequence[str]
    ids: Sequence[str]
    values: bytes  # a line each
    keys: Sequence[bytes]
    partitions: Sequence[int]
    times: Sequence[bytes]
    answered: Sequence[bool] | None  # None: all

    def __iter__(self) -> Iterator[Output | None]:
        """By maps, in which no line of Python runs for a record: half the time of a comprehension."""
        own = (
            zip(repeat("ce_id"), map(str.encode, self.ids), strict=False),
            zip(repeat("ce_subject"), self.keys, strict=False),
            zip(repeat("ce_time"), self.times, strict=False),
        )
        headers = map(list, zip(*map(repeat, _CONSTANT), *own, strict=False))
        nothing, values = repeat(None), self.values.splitlines()
        outputs = zip(
            self.topics, values, self.keys, self.partitions, nothing, nothing, repeat(0), headers, strict=False
        )
        if self.answered is None:
            return outputs
        return (output if said else None for output, said in zip(outputs, self.answered, strict=True))


@dataclass(frozen=True)
class Pairs:
    """Both arms' records of a batch, a row's one after the other: each partition of an output has the input's order."""

    champion: Outputs
    challenger: Outputs

    def __iter__(self) -> Iterator[Output | None]:
        return chain.from_iterable(zip(self.champion, self.challenger, strict=True))


def exploring(answers: Answers, rows: Rows, model: str, share: float) -> tuple[Answers, Rows]:
    """With the probability that an event answered so gets a label; the lot flags some that are answered with false."""
    chosen = [
        not label and is_explored(event_id, model, share)
        for label, event_id in zip(answers.labels, rows.ids, strict=True)
    ]
    flags = [(*flags, EXPLORE) if lot else flags for lot, flags in zip(chosen, rows.flags, strict=True)]
    propensities = [1.0 if label else share for label in answers.labels]
    return replace(answers, propensities=propensities), rows._replace(flags=flags)


def outputs_of(changed: RolloutChanged, answers: Answers, arms: Sequence[Arm], rows: Rows) -> Outputs:
    """What a version says of each row."""
    model, suffix = changed.model, f"@{changed.model}:{answers.version}"
    served, shadow = PREDICTIONS.of(model), SHADOW.of(model)
    ids = [each + suffix for each in rows.ids]
    predictions = map(
        Prediction, ids, rows.ids, rows.entities, repeat(model), repeat(answers.version), arms,
        repeat(changed.revision), rows.partitions, rows.offsets, answers.scores, answers.labels,
        map(bytes.decode, rows.times), answers.probabilities, rows.flags, answers.propensities or repeat(None),
    )  # fmt: skip
    return Outputs(
        topics=[shadow if arm == "shadow" else served for arm in arms],
        ids=ids,
        values=ENCODER.encode_lines(predictions),
        keys=rows.keys,
        partitions=rows.partitions,
        times=rows.times,
        answered=[score is not None for score in answers.scores] if None in answers.scores else None,
    )
