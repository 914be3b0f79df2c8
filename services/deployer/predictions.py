"""The hot path's last step: answers become prediction records, column by column, ready for the producer."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, repeat
from operator import add
from typing import Literal, NamedTuple, TypeVar

from msgspec import Struct

from schemas.events.deployer import RolloutChanged
from schemas.topics import PREDICTIONS, SHADOW
from services.deployer.answers import Answers
from services.deployer.decoding import Columns
from services.deployer.domain.exploring import is_explored
from services.deployer.serving import SOURCE
from shared.lines import Template, Texts, lines_of
from shared.records import ENCODER, EXPLORE

Item = TypeVar("Item")
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

    def without(self, positions: Sequence[int]) -> "Taken":
        """All but those at these positions, ascending."""
        return Taken(
            partitions=_without(self.partitions, positions),
            offsets=_without(self.offsets, positions),
            keys=_without(self.keys, positions),
            values=_without(self.values, positions),
        )


def _without(items: Iterable[Item], positions: Sequence[int]) -> list[Item]:
    """All but those at these positions, ascending: where they are few, far faster than to pick the others.

    >>> _without("abcd", [1, 2])
    ['a', 'd']
    """
    kept = list(items)
    for position in reversed(positions):
        del kept[position]
    return kept


class Rows(NamedTuple):
    """The accepted records of a batch, column by column: what the records of all its models have in common."""

    ids: Texts
    entities: Texts
    times: Texts
    partitions: Sequence[int]
    sources: tuple[bytes, bytes]  # the partitions and the offsets, as lines
    flags: Mapping[int, tuple[str, ...]]  # of the rows that have some


def rows_of(columns: Columns, taken: Taken) -> Rows:
    """What a batch's accepted records have in common; `taken` are those alone."""
    return Rows(
        ids=columns.ids,
        entities=columns.entities,
        times=columns.times,
        partitions=taken.partitions,
        sources=(ENCODER.encode_lines(taken.partitions), ENCODER.encode_lines(taken.offsets)),
        flags=columns.flags,
    )


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """A version's record for each row, in the row's own partition; None where it has no answer.

    They are made while somebody goes through them, and again when that is done again: the objects of a whole batch,
    made before, would have left the processor's cache when they are produced, and when they are freed.
    """

    topics: Sequence[str]
    values: bytes  # a line each
    suffix: bytes  # of the events' ids
    rows: Rows
    answered: Sequence[bool] | None  # None: all

    def __iter__(self) -> Iterator[Output | None]:
        """By maps, in which no line of Python runs for a record: half the time of a comprehension."""
        keys = self.rows.entities.each()
        own = (
            zip(repeat("ce_id"), map(add, self.rows.ids.each(), repeat(self.suffix)), strict=False),
            zip(repeat("ce_subject"), keys, strict=False),
            zip(repeat("ce_time"), self.rows.times.each(), strict=False),
        )
        headers = map(list, zip(*map(repeat, _CONSTANT), *own, strict=False))
        columns = self.topics, self.values.splitlines(), keys, self.rows.partitions
        outputs = zip(*columns, repeat(None), repeat(None), repeat(0), headers, strict=False)
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
    ids = rows.ids.strings()
    chosen = [
        not label and is_explored(event_id, model, share) for label, event_id in zip(answers.labels, ids, strict=True)
    ]
    flags = {**rows.flags, **{row: (*rows.flags.get(row, ()), EXPLORE) for row, lot in enumerate(chosen) if lot}}
    propensities = [1.0 if label else share for label in answers.labels]
    return replace(answers, propensities=propensities), rows._replace(flags=flags)


def outputs_of(changed: RolloutChanged, answers: Answers, arms: Sequence[Arm], rows: Rows) -> Outputs:
    """What a version says of each row."""
    model = changed.model
    served, shadow = PREDICTIONS.of(model), SHADOW.of(model)
    scores, labels = ENCODER.encode_lines(answers.scores), ENCODER.encode_lines(answers.labels)
    ids, entities, times = rows.ids.lines, rows.entities.lines, rows.times.lines
    template = _template(model, answers.version, changed.revision)
    said_by = "\n".join((*arms, "")).encode()
    return Outputs(
        topics=[shadow if arm == "shadow" else served for arm in arms],
        values=template.fill(ids, ids, entities, said_by, *rows.sources, scores, labels, times, _rest(answers, rows)),
        suffix=_suffix(model, answers.version),
        rows=rows,
        answered=[score is not None for score in answers.scores] if None in answers.scores else None,
    )


def _suffix(model: str, version: int) -> bytes:
    """What makes an event's id the id of its prediction."""
    return f"@{model}:{version}".encode()


@lru_cache(1000)
def _template(model: str, version: int, revision: int) -> Template:
    """`shared.records.Prediction` as its encoder writes it, up to what most records have not."""
    return Template(
        b'{"id":"',
        _suffix(model, version) + b'","event_id":"',
        b'","entity":"',
        f'","model":"{model}","version":{version},"arm":"'.encode(),
        f'","revision":{revision},"partition":'.encode(),
        b',"offset":',
        b',"score":',
        b',"label":',
        b',"time":"',
        b'"',
        b"",
    )


class _Rest(Struct, gc=False, omit_defaults=True):
    """The last fields of `shared.records.Prediction`, which are left out where they say nothing."""

    probabilities: dict[str, float] | None = None
    flags: tuple[str, ...] = ()
    propensity: float | None = None


def _rest(answers: Answers, rows: Rows) -> bytes:
    """Each record from there to its end."""
    count = len(answers.scores)
    if not rows.flags and answers.propensities is None and not any(answers.probabilities):
        return b"}\n" * count
    flags: list[tuple[str, ...]] = [()] * count
    for row, flagged in rows.flags.items():
        flags[row] = flagged
    rest = map(_Rest, answers.probabilities, flags, answers.propensities or repeat(None))
    said = ENCODER.encode_lines(rest).splitlines()
    return lines_of(b"}" if each == b"{}" else b"," + each[1:] for each in said)
