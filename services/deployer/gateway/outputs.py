"""From predictions to the tensors of an answer, and what is told of them beforehand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from schemas.events.parts import Candidate
from services.deployer.answers import Answers
from services.deployer.gateway.protocol import MetadataTensor, ModelMetadata, Tensor
from services.deployer.gateway.tensors import Datatype
from services.deployer.serving import Serving, Version
from shared.records import Prediction

PLATFORM: Final = "onnxruntime_onnx"
_INPUTS: Final[dict[str, Datatype]] = {"float": "FP64", "category": "BYTES", "bool": "BOOL"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One answer; those that were not published have no ids."""

    version: int
    score: float | None
    label: bool | str | None
    probabilities: dict[str, float] | None
    prediction_id: str = ""
    event_id: str = ""


@dataclass(frozen=True, kw_only=True)
class _Column:
    name: str
    datatype: Datatype
    of: Callable[[Row], Any]


def _columns(candidate: Candidate, *, published: bool) -> list[_Column]:
    """All outputs but the probabilities."""
    columns = [_Column(name="score", datatype="FP64", of=lambda row: row.score)]
    if candidate.spec.task != "regression":
        label: Datatype = "BOOL" if candidate.spec.task == "binary" else "BYTES"
        columns.append(_Column(name="label", datatype=label, of=lambda row: row.label))
    columns.append(_Column(name="version", datatype="INT64", of=lambda row: row.version))
    if published:
        columns.append(_Column(name="prediction_id", datatype="BYTES", of=lambda row: row.prediction_id))
        columns.append(_Column(name="event_id", datatype="BYTES", of=lambda row: row.event_id))
    return columns


def tensors_of(rows: Sequence[Row], candidate: Candidate, *, published: bool) -> list[Tensor]:
    """The outputs of n rows: each of shape [n], `probabilities` of [n, classes] with the classes beside it.

    Versions of one answer may know different classes: one that a version does not know has 0 there.
    """
    count = len(rows)
    tensors = [
        Tensor(name=column.name, datatype=column.datatype, shape=[count], values=[column.of(row) for row in rows])
        for column in _columns(candidate, published=published)
    ]
    if candidate.spec.task == "multiclass":
        given = [row.probabilities or {} for row in rows]
        classes = list(dict.fromkeys([*candidate.signature.classes, *(name for each in given for name in each)]))
        values = [each.get(name, 0.0) for each in given for name in classes]
        tensors.append(
            Tensor(
                name="probabilities",
                datatype="FP64",
                shape=[count, len(classes)],
                values=values,
                parameters={"classes": classes},
            )
        )
    return tensors


def names_of(candidate: Candidate, *, published: bool) -> list[str]:
    """What may be asked for."""
    return [each.name for each in _outputs(candidate, published=published)]


def _outputs(candidate: Candidate, *, published: bool) -> list[MetadataTensor]:
    tensors = [
        MetadataTensor(name=column.name, datatype=column.datatype, shape=[-1])
        for column in _columns(candidate, published=published)
    ]
    if candidate.spec.task == "multiclass":
        shape = [-1, len(candidate.signature.classes)]
        tensors.append(MetadataTensor(name="probabilities", datatype="FP64", shape=shape))
    return tensors


def rows_of_predictions(predictions: Sequence[Prediction]) -> list[Row]:
    """Of what scorers committed."""
    return [
        Row(
            version=each.version,
            score=each.score,
            label=each.label,
            probabilities=each.probabilities,
            prediction_id=each.id,
            event_id=each.event_id,
        )
        for each in predictions
    ]


def rows_of_answers(answers: Answers) -> list[Row]:
    """Of what a version says that was asked by name."""
    columns = zip(answers.scores, answers.labels, answers.probabilities, strict=True)
    return [
        Row(version=answers.version, score=score, label=label, probabilities=probabilities)
        for score, label, probabilities in columns
    ]


def versions_of(serving: Serving) -> dict[str, Version]:
    """The live versions by their number as the protocol writes it."""
    live = (serving.champion, serving.challenger)
    return {str(version.release.version): version for version in live if version is not None}


def metadata_of(serving: Serving, version: Version, *, published: bool) -> ModelMetadata:
    """What a version takes and gives; further features of the stream may be given."""
    candidate = version.release.candidate
    return ModelMetadata(
        name=candidate.model,
        versions=list(versions_of(serving)),
        platform=PLATFORM,
        inputs=[
            MetadataTensor(name=feature.name, datatype=_INPUTS[feature.type], shape=[-1])
            for feature in candidate.signature.features
        ],
        outputs=_outputs(candidate, published=published),
    )
