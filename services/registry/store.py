"""What the registry keeps. Verbs of the domain over queries.sql; reads for people are in reading.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from schemas.events.deployer import RolloutChanged, RolloutSwitched, Scoring, ScoringMeasured
from schemas.events.ingestor import DatasetCommitted, EntityErased
from schemas.events.monitor import AlertRaised, DataQuarantined, RolloutMeasured, TrainingRequested, WindowMeasured
from schemas.events.parts import Artifact, Candidate
from schemas.events.registry import ErasureOrdered, ModelCommented
from schemas.events.trainer import ModelTrained, TrainingFailed, TrainingProgressed
from schemas.events.validator import ModelRejected, ModelValidated
from schemas.specs import ModelSpec, StreamSpec
from services.registry.domain.audit import BEGINNING, Entry, Row, seal
from services.registry.domain.delivery import former
from services.registry.domain.plan import Change, Declared
from services.registry.domain.stages import NEEDING, Passage
from shared import queries
from shared.errors import TooEarly
from shared.postgres import Connection

QUERIES = queries.load(Path(__file__).parent / "queries.sql")
WINDOWS_KEPT = 500  # of a model


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model under its lock."""

    name: str
    spec: ModelSpec
    rollout_revision: int
    champion: int | None
    challenger: int | None


@dataclass(frozen=True, kw_only=True)
class Version:
    """A version, as decisions about it need it."""

    model: str
    version: int
    run_id: str
    stage: str
    candidate: Candidate
    approval: str | None
    expires_at: datetime | None
    traceparent: str | None
    attestation: Artifact | None


class Store:
    """The record, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def _run(self, query: str, *arguments: Any) -> None:
        await self._connection.execute(QUERIES[query], *arguments)

    async def _rows(self, query: str, *arguments: Any) -> list[Any]:
        rows: list[Any] = await self._connection.fetch(QUERIES[query], *arguments)
        return rows

    async def _value(self, query: str, *arguments: Any) -> Any:
        return await self._connection.fetchval(QUERIES[query], *arguments)

    # declarations

    async def lock_apply(self) -> None:
        """Take turns with other applications until the transaction ends."""
        await self._run("lock_apply")

    async def declared(self) -> Declared:
        streams = {row["name"]: (StreamSpec.model_validate(row["spec"]), row["revision"])
                   for row in await self._rows("streams")}  # fmt: skip
        models = {row["name"]: (ModelSpec.model_validate(row["spec"]), row["revision"])
                  for row in await self._rows("models")}  # fmt: skip
        serving = {(row["stream"], row["feature"]): row["users"] for row in await self._rows("serving", list(NEEDING))}
        columns = {(row["stream"], row["feature"]): row["type"] for row in await self._rows("columns")}
        return Declared(streams=streams, models=models, serving=serving, columns=columns)

    async def stream_before(self, name: str) -> StreamSpec | None:
        spec = await self._value("stream_before", name)
        return None if spec is None else StreamSpec.model_validate(spec)

    async def model_before(self, name: str, stream: str) -> tuple[ModelSpec | None, int, int]:
        """A model as it is declared, the revision of its stream that it knows, and the stream's own."""
        for row in await self._rows("model_before", name, stream):
            spec = None if row["spec"] is None else ModelSpec.model_validate(row["spec"])
            return spec, row["was"] or 0, row["now"]
        raise TooEarly(f"stream {stream!r} is not declared here")

    async def save(self, change: Change, actor: str, reason: str, at: datetime) -> None:
        spec = change.spec.model_dump(mode="json")
        if isinstance(change.spec, StreamSpec):
            await self._run("save_stream", change.name, change.revision, spec, actor, at)
        else:
            stream, revision = change.stream.stream, change.stream_revision
            await self._run("save_model", change.name, stream, revision, change.revision, spec, actor, at)
        await self._run("save_revision", change.kind, change.name, change.revision, spec, actor, reason, at)

    async def lock_models(self, names: Sequence[str]) -> None:
        """Hold those that are declared, before anything is said about them."""
        for name in sorted(names):
            await self._run("lock_model", name)

    async def lock_model(self, name: str) -> Model | None:
        """Hold a model until the transaction ends; None when it is not declared."""
        for row in await self._rows("lock_model", name):
            return Model(
                name=name,
                spec=ModelSpec.model_validate(row["spec"]),
                rollout_revision=row["rollout_revision"],
                champion=row["champion"],
                challenger=row["challenger"],
            )
        return None

    # versions

    async def number(self, candidate: Candidate, traceparent: str | None, at: datetime) -> int:
        """The version of a run: the number it has, or the model's next. The model must be locked."""
        known: int | None = await self._value("version_of_run", candidate.run_id)
        if known is not None:
            return known
        dumped = candidate.model_dump(mode="json")
        added: int = await self._value("add_version", candidate.model, candidate.run_id, dumped, traceparent, at)
        return added

    async def version(self, model: str, version: int) -> Version | None:
        for row in await self._rows("version", model, version):
            return Version(
                model=model,
                version=version,
                run_id=row["run_id"],
                stage=row["stage"],
                candidate=Candidate.model_validate(row["candidate"]),
                approval=row["approval"],
                expires_at=row["expires_at"],
                traceparent=row["traceparent"],
                attestation=Artifact.model_validate(row["attestation"]) if row["attestation"] else None,
            )
        return None

    async def judge(self, event: ModelValidated | ModelRejected, version: int, explanation: str) -> None:
        attestation = event.attestation if isinstance(event, ModelValidated) else None
        told = (event.report, attestation, event.card)
        artifacts = [each.model_dump(mode="json") if each else None for each in told]
        gates = [gate.model_dump(mode="json") for gate in event.gates]
        await self._run("judge", event.model, version, gates, *artifacts, explanation)

    async def ask_approval(self, model: str, version: int, approval: str, expires_at: datetime | None) -> None:
        await self._run("ask_approval", model, version, approval, expires_at)

    async def approvers(self, model: str, version: int) -> list[str]:
        """Who said yes, in order."""
        return [row["actor"] for row in await self._rows("approvers", model, version)]

    async def approve(self, model: str, version: int, *, actor: str, reason: str, at: datetime) -> None:
        """Note a yes; a person's second is the first again."""
        await self._run("approve", model, version, actor, reason, at)

    async def comment(self, event: ModelCommented, at: datetime) -> None:
        await self._run("comment", event.model, event.version, event.actor, event.text, at)

    async def order_erasure(self, event: ErasureOrdered, at: datetime) -> None:
        await self._run("order_erasure", event.receipt, list(event.streams), event.actor, event.reason, at)

    async def erased(self, event: EntityErased, at: datetime) -> tuple[str, str]:
        """Keep what came of an erasure; returns who ordered it, and why.

        Raises:
            TooEarly: it was not ordered here.
        """
        rows = await self._rows("erased", event.receipt, event.model_dump(mode="json", exclude={"receipt"}), at)
        if not rows:
            raise TooEarly(f"erasure {event.receipt} was not ordered here")
        return rows[0]["actor"], rows[0]["reason"]

    async def note_stage(self, to: Passage) -> None:
        """Into the history only: the fact came late."""
        await self._run("note_stage", to.model, to.version, to.stage, to.at, to.actor, to.reason)

    async def move(self, to: Passage) -> None:
        await self._run("move", to.model, to.version, to.stage)
        await self.note_stage(to)

    async def stages(self, model: str) -> dict[int, str]:
        return {row["version"]: row["stage"] for row in await self._rows("stages", model)}

    async def expired(self, now: datetime) -> list[tuple[str, int]]:
        """(model, version) of requests that nobody answered in time."""
        return [(row["model"], row["version"]) for row in await self._rows("expired", now)]

    # runs

    async def run_requested(self, event: TrainingRequested, at: datetime, trace: str | None) -> None:
        about = (event.run_id, event.model, event.reason, event.explanation, event.cut.time)
        await self._run("run_requested", *about, at, trace)

    async def run_progressed(self, event: TrainingProgressed, at: datetime, trace: str | None) -> None:
        progress = (event.stage, event.done, event.total, event.best_score)
        await self._run("run_progressed", event.run_id, event.model, *progress, trace, at)

    async def run_trained(self, event: ModelTrained, version: int, at: datetime, trace: str | None) -> None:
        seconds = (event.fit_seconds, event.run_seconds)
        await self._run("run_trained", event.run_id, event.model, *seconds, version, trace, at)

    async def run_judged(
        self, event: ModelValidated | ModelRejected, version: int, at: datetime, trace: str | None
    ) -> None:
        state, why = ("rejected", event.explanation) if isinstance(event, ModelRejected) else ("registered", None)
        await self._run("run_finished", event.run_id, event.model, state, version, None, why, trace, at)

    async def run_failed(self, event: TrainingFailed, at: datetime, trace: str | None) -> None:
        why = (event.reason, event.explanation)
        await self._run("run_finished", event.run_id, event.model, "failed", None, *why, trace, at)

    # rollouts

    async def serve(self, event: RolloutChanged, at: datetime, trace: str | None) -> int:
        """Who serves now, as a step of the rollout it belongs to; returns that one's first revision."""
        challenger = event.challenger.version if event.challenger else None
        rollout = await self._rollout_of(event, at, trace)
        state = (event.phase, event.champion.version, challenger, event.share, event.step, event.frozen)
        await self._run("serve", event.model, event.revision, *state)
        await self._run("add_step", event.model, event.revision, rollout, *state, event.reason, at)
        return rollout

    async def _rollout_of(self, event: RolloutChanged, at: datetime, trace: str | None) -> int:
        """Its own if it tries or promotes a version; otherwise (a freeze, a champion restored) the latest."""
        tried = (event.challenger or event.champion).version
        running: int | None = await self._value("open_rollout_of", event.model, tried)
        if running is not None:
            return running
        if event.challenger is None and await self._value("had_rollout", event.model, tried):
            latest: int = await self._value("latest_rollout", event.model)
            return latest
        await self._run("start_rollout", event.model, event.revision, tried, at, trace)
        if event.challenger is None:  # became champion untried, as the first does
            await self.end_rollout(event.model, tried, outcome="promoted", reason=event.reason, at=at)
        return event.revision

    async def former(self, model: str) -> int | None:
        """The champion that a rollback brings back; None without one that may still go live. There is a champion."""
        version = former([(row["at"], row["champion"]) for row in await self._rows("read_champions", model)])
        return None if version is None or (await self.stages(model)).get(version) == "retired" else version

    async def end_rollout(
        self, model: str, version: int, *, outcome: str, reason: str, at: datetime
    ) -> tuple[int, str | None] | None:
        """Returns the rollout's first revision and its outcome before; None when the version was never rolled out."""
        rows = await self._rows("end_rollout", model, version, outcome, reason, at)
        return (rows[0]["first_revision"], rows[0]["before"]) if rows else None

    async def withdraw(self, model: str, version: int, withdrawn: dict[str, Any]) -> None:
        await self._run("withdraw", model, version, withdrawn)

    async def correct(self, model: str, version: int, corrected: dict[str, Any]) -> None:
        await self._run("correct", model, version, corrected)

    async def measure_rollout(self, event: RolloutMeasured) -> None:
        measured = event.model_dump(mode="json")
        await self._run("measure_rollout", event.model, event.revision, event.challenger, measured, event.measured_at)

    async def score_rollout(self, event: ScoringMeasured) -> None:
        """Adds to what other scorers saw under the revision."""
        before = await self._value("lock_scoring", event.model, event.revision)
        after = Scoring.model_validate(before or {}).plus(event.scoring).model_dump(mode="json")
        await self._run("score_rollout", event.model, event.revision, event.challenger, after)

    async def switch(self, event: RolloutSwitched, at: datetime) -> None:
        await self._run("switch", event.model, event.revision, event.partition, event.offset, at)

    # what is watched

    async def raise_alert(self, event: AlertRaised) -> None:
        about = (event.kind, event.severity, list(event.features), event.explanation, event.version, event.window)
        await self._run("raise_alert", event.alert, event.model, *about, event.raised_at)

    async def resolve_alert(self, alert: str, resolved_at: datetime, explanation: str) -> None:
        await self._run("resolve_alert", alert, resolved_at, explanation)

    async def add_window(self, event: WindowMeasured) -> None:
        await self._run("add_window", event.model, event.version, event.window, event.model_dump(mode="json"))
        await self._run("trim_windows", event.model, WINDOWS_KEPT)

    async def commit_dataset(self, event: DatasetCommitted, at: datetime) -> None:
        offsets = {str(partition): offset for partition, offset in event.offsets.items()}
        table = (event.table, event.stream, event.kind, event.version, offsets)
        span = (event.time_min, event.time_max)
        await self._run("commit_dataset", *table, event.rows_total, event.rejected, *span, at)

    async def quarantine(self, event: DataQuarantined) -> None:
        span = (event.span.start, event.span.end)
        await self._run("quarantine", event.stream, *span, list(event.features), event.explanation)

    # audit

    async def audit(self, entry: Entry) -> Row:
        """Append to the chain; returns its new head. `chain.note` says it, too."""
        await self._run("lock_audit")
        rows = await self._rows("last_audit")
        position, previous = (rows[0]["position"], rows[0]["hash"]) if rows else (0, BEGINNING)
        row = seal(position + 1, entry, previous)
        await self.restore(row)
        return row

    async def restore(self, row: Row) -> None:
        """Write a row that is sealed already."""
        about = (datetime.fromisoformat(row.at), row.actor, row.action, row.subject, row.reason, row.what)
        await self._run("add_audit", row.position, *about, row.event_id, row.previous_hash, row.hash)
