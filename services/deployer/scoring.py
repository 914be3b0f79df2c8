"""From a stream's records to its models' predictions: decode once, score once a version, share by entity.

A score that is not finite is no answer: the validator lets no version pass that gives one to the rows it holds out, and
where one does so later, no prediction is written for that record; it is counted, and the batch goes on.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal, NamedTuple

from schemas.specs import StreamSpec
from schemas.topics import PREDICTIONS, SHADOW
from services.deployer import metrics
from services.deployer.answers import Answers, answers_of
from services.deployer.domain.arms import is_canary
from services.deployer.serving import SOURCE, Known, Serving, Version
from shared.matrix import Projection
from shared.records import ENCODER, Batch, Prediction, Record, StreamDecoder

Arm = Literal["champion", "canary", "shadow"]
_CONSTANT = [
    ("ce_specversion", b"1.0"),
    ("ce_type", b"modelbus.record.prediction.v1"),
    ("ce_dataschema", b"modelbus:schemas/record.prediction/v1.0.json"),
    ("ce_source", f"{SOURCE}/scorer".encode()),
    ("content-type", b"application/json"),
]


class Input(NamedTuple):
    """Where a record of the stream stands, and its bytes."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


class Output(NamedTuple):
    """A record to be produced."""

    topic: str
    partition: int
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


Row = tuple[Record, Input, bytes]  # decoded, its source, its entity as a key
Made = tuple[tuple[str, int, str], Output | None]  # model, version, arm; and the record, if there is an answer


@dataclass(kw_only=True)
class Scored:
    """The answer to a batch, and what is to be counted once it is committed."""

    outputs: list[Output] = field(default_factory=list)
    predictions: Counter[tuple[str, int, str]] = field(default_factory=Counter)
    unserved: Counter[str] = field(default_factory=Counter)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    keyed_otherwise: Counter[str] = field(default_factory=Counter)
    not_finite: Counter[tuple[str, int]] = field(default_factory=Counter)

    def add(self, other: "Scored") -> None:
        self.outputs += other.outputs
        self.predictions += other.predictions
        self.unserved += other.unserved
        self.refused += other.refused
        self.keyed_otherwise += other.keyed_otherwise
        self.not_finite += other.not_finite

    def count(self) -> None:
        """Into the metrics, once it is committed."""
        for (model, version, arm), number in self.predictions.items():
            metrics.PREDICTIONS.labels(model, version, arm).inc(number)
        for model, number in self.unserved.items():
            metrics.UNSERVED.labels(model).inc(number)
        for (stream, reason), number in self.refused.items():
            metrics.REFUSED.labels(stream, reason).inc(number)
        for stream, number in self.keyed_otherwise.items():
            metrics.KEYED_OTHERWISE.labels(stream).inc(number)
        for (model, version), number in self.not_finite.items():
            metrics.NOT_FINITE.labels(model, version).inc(number)


class StreamScorer:
    """Answers the records of one stream under one picture of what is known; made anew when that changes."""

    def __init__(self, spec: StreamSpec, known: Known) -> None:
        self._spec = spec
        self._decoder = StreamDecoder(spec)
        models = known.models_of(spec.stream)
        self._serving = [known.serving[model] for model in models if model in known.serving]
        self._unserved = [model for model in models if model not in known.serving]
        self._projections = {
            id(version): Projection(version.release.candidate.signature, spec)
            for serving in self._serving
            for version in (serving.champion, serving.challenger)
            if version is not None
        }

    def score(self, inputs: Sequence[Input]) -> Scored:
        """Answer a batch; refused records are skipped and counted, the ingestor parks them."""
        batch = self._decoder.decode([each.value for each in inputs])
        scored = Scored(refused=Counter((self._spec.stream, refusal.reason) for refusal in batch.refused))
        if not batch.records:
            return scored
        accepted = [inputs[position] for position in batch.positions]
        keys = [record.entity.encode() for record in batch.records]
        otherwise = sum(key != each.key for key, each in zip(keys, accepted, strict=True))
        scored.keyed_otherwise[self._spec.stream] = otherwise
        scored.unserved.update(dict.fromkeys(self._unserved, len(accepted)))
        for serving in self._serving:
            for arm, output in self._answer(serving, batch, accepted, keys):
                if output is None:
                    scored.not_finite[arm[:2]] += 1
                else:
                    scored.predictions[arm] += 1
                    scored.outputs.append(output)
        return scored

    def _answer(self, serving: Serving, batch: Batch, inputs: Sequence[Input], keys: Sequence[bytes]) -> Iterator[Made]:
        """Both arms' records in the order of the input, so that each partition of an output has the input's order."""
        canary = _canary_rows(serving, batch)
        rows = list(zip(batch.records, inputs, keys, strict=True))
        arms: list[Arm] = ["shadow" if chosen else "champion" for chosen in canary]
        champion = _outputs(serving, self._answers(serving.champion, batch), arms, rows, batch.flags)
        if serving.challenger is None:
            return champion
        arms = ["canary" if chosen else "shadow" for chosen in canary]
        challenger = _outputs(serving, self._answers(serving.challenger, batch), arms, rows, batch.flags)
        return chain.from_iterable(zip(champion, challenger, strict=True))

    def _answers(self, version: Version, batch: Batch) -> Answers:
        candidate = version.release.candidate
        scores = version.model.score(self._projections[id(version)](batch.matrix))
        return answers_of(version.release.version, candidate.spec, candidate.signature.classes, scores)


def _canary_rows(serving: Serving, batch: Batch) -> list[bool]:
    share, salt = serving.changed.share, serving.changed.salt
    if serving.challenger is None or share <= 0:
        return [False] * len(batch.records)
    return [is_canary(record.entity, salt, share) for record in batch.records]


def _outputs(
    serving: Serving, answers: Answers, arms: Sequence[Arm], rows: Sequence[Row], flags: Mapping[int, tuple[str, ...]]
) -> Iterator[Made]:
    """The hot loop: one prediction record for each input, in the input's own partition."""
    model, version, revision = serving.changed.model, answers.version, serving.changed.revision
    served, shadow, suffix = PREDICTIONS.of(model), SHADOW.of(model), f"@{model}:{version}"
    encode = ENCODER.encode
    columns = zip(rows, arms, answers.scores, answers.labels, answers.probabilities, strict=True)
    for index, ((record, source, key), arm, score, label, probabilities) in enumerate(columns):
        if score is None:
            yield (model, version, arm), None
            continue
        prediction_id = record.id + suffix
        prediction = Prediction(
            id=prediction_id,
            event_id=record.id,
            entity=record.entity,
            model=model,
            version=version,
            arm=arm,
            revision=revision,
            partition=source.partition,
            offset=source.offset,
            score=score,
            label=label,
            time=record.time,
            probabilities=probabilities,
            flags=flags.get(index, ()),
        )
        headers = [
            *_CONSTANT,
            ("ce_id", prediction_id.encode()),
            ("ce_subject", key),
            ("ce_time", record.time.isoformat().encode()),
        ]
        topic = shadow if arm == "shadow" else served
        yield (model, version, arm), Output(topic, source.partition, key, encode(prediction), headers)
