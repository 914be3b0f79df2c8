"""What the gateway answers, from the scorers' own picture of who serves what."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from schemas.specs import StreamSpec
from services.deployer.answers import Answers, answers_of
from services.deployer.domain.arms import is_canary
from services.deployer.gateway.errors import Invalid, NotServed, Unavailable, Unknown
from services.deployer.gateway.events import Event, events_of, rows_of
from services.deployer.gateway.exchange import Exchange
from services.deployer.gateway.outputs import (
    Row,
    metadata_of,
    names_of,
    rows_of_answers,
    rows_of_predictions,
    tensors_of,
    versions_of,
)
from services.deployer.gateway.protocol import (
    Asked,
    InferenceResponse,
    ModelMetadata,
    Parameters,
    check_outputs,
    write,
)
from services.deployer.serving import Serving, Version
from services.deployer.view import View
from shared.matrix import Projection
from shared.records import Batch, StreamDecoder

_NOBODY = {"entity": "nobody"}  # of rows that are never published
_TOLD = 10  # refused rows in one error
Reply = tuple[bytes, int | None]


class Answering:
    """Requests to answers; every method raises Unanswered when there is none."""

    def __init__(self, view: View, exchange: Exchange) -> None:
        self._view = view
        self._exchange = exchange
        self._decoders: dict[str, StreamDecoder] = {}

    def knows(self, model: str) -> bool:
        return model in self._view.known.models

    def is_ready(self) -> bool:
        """Whether every version that serves is loaded."""
        return self._view.complete and not self._view.known.awaited

    def serving(self, model: str) -> Serving:
        """Who serves a model now.

        Raises:
            Unknown, NotServed, Unavailable: nobody, and why.
        """
        known = self._view.known
        if not self._view.complete:
            raise Unavailable("the gateway is starting")
        if model not in known.models:
            raise Unknown(f"model: expected a declared one, got {model!r}")
        if model in known.awaited:
            raise Unavailable(f"model {model!r}: its version is not loaded yet")
        if model not in known.serving:
            raise NotServed(f"model {model!r}: no version serves it yet")
        return known.serving[model]

    def version(self, model: str, version: str) -> tuple[Serving, Version]:
        """A live version by its number.

        Raises:
            Unknown: it is not live.
        """
        serving = self.serving(model)
        live = versions_of(serving)
        if version not in live:
            raise Unknown(f"model {model!r}: expected a live version, {' or '.join(live)}, got {version!r}")
        return serving, live[version]

    def metadata(self, model: str, version: str | None = None) -> ModelMetadata:
        """Of the champion, or of a live version."""
        if version is None:
            serving = self.serving(model)
            return metadata_of(serving, serving.champion, published=True)
        return metadata_of(*self.version(model, version), published=False)

    async def infer(self, model: str, asked: Asked) -> Reply:
        """Publish the rows as events and give the predictions that stand committed."""
        serving = self.serving(model)
        candidate = serving.champion.release.candidate
        check_outputs(names_of(candidate, published=True), asked.request.outputs)
        spec = self._spec(serving)
        events = _events(asked, asked.request.parameters, spec)
        _check_answerable(serving, spec, events, self._decoded(spec, events))
        predictions = await self._exchange.ask(spec.stream, model, events)
        rows = rows_of_predictions(predictions)
        return write(_response(model, rows), tensors_of(rows, candidate, published=True), asked.request)

    def infer_version(self, model: str, version: str, asked: Asked) -> Reply:
        """Ask one live version, without any effect."""
        serving, chosen = self.version(model, version)
        candidate = chosen.release.candidate
        spec = self._spec(serving)
        events = _events(asked, _NOBODY, spec)
        answers = _answers(chosen, spec, self._decoded(spec, events))
        _check_finite(answers, range(len(events)))
        rows = rows_of_answers(answers)
        return write(_response(model, rows), tensors_of(rows, candidate, published=False), asked.request)

    def _spec(self, serving: Serving) -> StreamSpec:
        known = self._view.known
        return known.streams[known.models[serving.changed.model]]

    def _decoded(self, spec: StreamSpec, events: Sequence[Event]) -> Batch:
        """As scorers and ingestor will read the rows.

        Raises:
            Invalid: they would refuse some.
        """
        decoder = self._decoders.get(spec.stream)
        if decoder is None or decoder.spec is not spec:
            decoder = self._decoders[spec.stream] = StreamDecoder(spec)
        batch = decoder.decode([event.value for event in events])
        if batch.refused:
            raise Invalid("; ".join(f"row {each.position}: {each.error}" for each in batch.refused[:_TOLD]))
        return batch


def _events(asked: Asked, parameters: Parameters, spec: StreamSpec) -> list[Event]:
    rows = rows_of(asked, spec)
    return events_of(rows, parameters, spec, datetime.now(UTC), lambda: str(uuid.uuid4()))


def _answers(version: Version, spec: StreamSpec, batch: Batch) -> Answers:
    candidate = version.release.candidate
    scores = version.model.score(Projection(candidate.signature, spec)(batch.matrix))
    return answers_of(version.release.version, candidate.spec, candidate.signature.classes, scores)


def _check_answerable(serving: Serving, spec: StreamSpec, events: Sequence[Event], batch: Batch) -> None:
    """Refuse rows for which no prediction would be written: nobody would ever answer them."""
    share, salt = serving.changed.share if serving.challenger else 0.0, serving.changed.salt
    canary = [is_canary(event.entity, salt, share) for event in events]
    for version, is_challenger in ((serving.champion, False), (serving.challenger, True)):
        rows = [row for row, chosen in enumerate(canary) if chosen == is_challenger]
        if version is not None and rows:
            _check_finite(_answers(version, spec, batch), rows)


def _check_finite(answers: Answers, rows: Sequence[int]) -> None:
    if odd := [row for row in rows if answers.scores[row] is None]:
        raise Invalid(f"row {odd[0]}: version {answers.version} has no finite score for it")


def _response(model: str, rows: Sequence[Row]) -> InferenceResponse:
    response = InferenceResponse(model_name=model, outputs=[])
    if len(versions := {row.version for row in rows}) == 1:
        response.model_version = str(versions.pop())
    return response
