"""The hot path's last step: answers become prediction records, column by column, ready for the producer."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import repeat
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
    times: Sequence[str]  # as JSON says them
    partitions: Sequence[int]
    offsets: Sequence[int]
    keys: Sequence[bytes]  # the entities as bytes
    subjects: Sequence[Header]
    said: Sequence[Header]  # the times
    flags: Sequence[tuple[str, ...]]


def rows_of(columns: Columns, taken: Taken) -> Rows:
    """What a batch's accepted records have in common; `taken` are those alone."""
    flags: list[tuple[str, ...]] = [()] * len(columns.ids)
    for row, flagged in columns.flags.items():
        flags[row] = flagged
    return Rows(
        ids=columns.ids,
        entities=columns.entities,
        times=list(map(bytes.decode, columns.times)),
        partitions=taken.partitions,
        offsets=taken.offsets,
        keys=columns.keys,
        subjects=list(zip(repeat("ce_subject"), columns.keys, strict=False)),
        said=list(zip(repeat("ce_time"), columns.times, strict=False)),
        flags=flags,
    )


def exploring(answers: Answers, rows: Rows, model: str, share: float) -> tuple[Answers, Rows]:
    """With the probability that an event answered so gets a label; the lot flags some that are answered with false."""
    chosen = [
        not label and is_explored(event_id, model, share)
        for label, event_id in zip(answers.labels, rows.ids, strict=True)
    ]
    flags = [(*flags, EXPLORE) if lot else flags for lot, flags in zip(chosen, rows.flags, strict=True)]
    propensities = [1.0 if label else share for label in answers.labels]
    return replace(answers, propensities=propensities), rows._replace(flags=flags)


def outputs_of(changed: RolloutChanged, answers: Answers, arms: Sequence[Arm], rows: Rows) -> list[Output | None]:
    """A version's record for each row, in the row's own partition; None where it has no answer.

    By maps, in which no line of Python runs for a record: half the time of a comprehension.
    """
    model, revision = changed.model, changed.revision
    served, shadow, suffix = PREDICTIONS.of(model), SHADOW.of(model), f"@{model}:{answers.version}"
    ids = [each + suffix for each in rows.ids]
    predictions = map(
        Prediction, ids, rows.ids, rows.entities, repeat(model), repeat(answers.version), arms, repeat(revision),
        rows.partitions, rows.offsets, answers.scores, answers.labels, rows.times, answers.probabilities, rows.flags,
        answers.propensities or repeat(None),
    )  # fmt: skip
    values = map(ENCODER.encode, predictions)
    named = zip(repeat("ce_id"), map(str.encode, ids), strict=False)
    headers = map(list, zip(*map(repeat, _CONSTANT), named, rows.subjects, rows.said, strict=False))
    topics = [shadow if arm == "shadow" else served for arm in arms]
    nothing = repeat(None)
    outputs = zip(topics, values, rows.keys, rows.partitions, nothing, nothing, repeat(0), headers, strict=False)
    return [output if score is not None else None for output, score in zip(outputs, answers.scores, strict=True)]
