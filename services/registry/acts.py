"""What people do to the record, each act one transaction and one event: apply, approve, refuse, retire, order, train."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import asyncpg

from schemas.declarations import Spec
from schemas.events.base import Event
from schemas.events.parts import Release
from schemas.events.registry import (
    ModelApplied,
    ModelApproved,
    ModelRefused,
    ModelRetired,
    RolloutOrdered,
    StreamApplied,
    TrainingOrdered,
)
from schemas.specs import ModelSpec, StreamSpec
from services.registry.domain.audit import Entry
from services.registry.domain.plan import Change, plan
from services.registry.domain.stages import NotAwaited, check_awaiting, check_retirable, is_approved
from services.registry.store import Model, Store, Version
from shared import telemetry
from shared.errors import Refusal
from shared.kafka import ensure_topics, model_topics, stream_topics
from shared.outbox import Work, unit_of_work
from shared.settings import KafkaSettings

Order = Literal["rollback", "freeze", "unfreeze", "promote"]


class NotDeclared(Refusal):
    """No such stream, model or version."""


@dataclass(frozen=True, kw_only=True)
class Acts:
    """The acts, over the service's database and broker."""

    pool: asyncpg.Pool
    kafka: KafkaSettings

    async def plan(self, specs: Sequence[Spec]) -> list[Change]:
        """What `apply` would do now.

        Raises:
            Misfits: it would do nothing, and why.
        """
        async with self.pool.acquire() as connection:
            return plan(specs, await Store(connection).declared())

    async def apply(self, specs: Sequence[Spec], actor: str, reason: str) -> list[Change]:
        """Declare; the topics are there before anybody hears of what needs them.

        Raises:
            Misfits: nothing was applied, and why.
        """
        with telemetry.span("registry apply"):
            await self._make_topics(await self.plan(specs))
            async with unit_of_work(self.pool, "registry") as work:
                store = Store(work.connection)
                await store.lock_apply()
                changes = plan(specs, await store.declared())
                now = datetime.now(UTC)
                applied = [change for change in changes if change.verdict != "unchanged"]
                entries = [await _applied(work, change, actor, reason, now) for change in applied]
                if entries:
                    await store.audit(*entries)
            return changes

    async def _make_topics(self, changes: Sequence[Change]) -> None:
        """Also of what is unchanged: applying again repairs."""
        topics = []
        for change in changes:
            make = stream_topics if change.kind == "stream" else model_topics
            topics += make(self.kafka, change.name, change.stream.partitions)
        await ensure_topics(self.kafka, topics)

    async def approve(self, model: str, number: int, actor: str, reason: str) -> Version:
        """Say yes; with the last needed yes the version may be rolled out.

        Raises:
            NotDeclared: there is no such version.
            NotAwaited: it does not wait for approval, or no longer.
        """
        async with unit_of_work(self.pool, "registry") as work:
            store, now = Store(work.connection), datetime.now(UTC)
            version = await _locked_version(store, model, number)
            check_awaiting(version.stage, version.expires_at, now)
            with telemetry.span("registry approve", parent=version.traceparent):
                actors = await store.approve(model, number, actor, reason, now)
                event_id = ""
                if is_approved(version.approval or "required", actors):
                    release = Release(version=number, candidate=version.candidate)
                    await store.move(model, number, "approved", now, actor, reason)
                    said = ModelApproved(
                        model=model, version=number, release=release, actors=tuple(actors), reason=reason
                    )
                    event_id = await _say(work, said, version)
            what = {"actors": actors, "run_id": version.run_id}
            await store.audit(_entry(now, actor, "approve", f"{model}:{number}", reason, event_id, what))
            return await _locked_version(store, model, number)

    async def refuse(self, model: str, number: int, actor: str, reason: str, *, expired: bool = False) -> Version:
        """Say no, for good; `expired` when it is the clock that says it.

        Raises:
            NotDeclared: there is no such version.
            NotAwaited: it does not wait for approval, or no longer.
        """
        async with unit_of_work(self.pool, "registry") as work:
            store, now = Store(work.connection), datetime.now(UTC)
            version = await _locked_version(store, model, number)
            check_awaiting(version.stage, None if expired else version.expires_at, now)
            said = ModelRefused(model=model, version=number, actor=actor, reason=reason)
            with telemetry.span("registry refuse", parent=version.traceparent):
                await store.move(model, number, "refused", now, actor, reason)
                event_id = await _say(work, said, version)
            what = {"run_id": version.run_id}
            await store.audit(_entry(now, actor, "refuse", f"{model}:{number}", reason, event_id, what))
            return await _locked_version(store, model, number)

    async def refuse_expired(self) -> int:
        """Refuse what nobody answered in time; returns how many."""
        async with self.pool.acquire() as connection:
            late = await Store(connection).expired(datetime.now(UTC))
        refused = 0
        for model, number in late:
            try:
                await self.refuse(model, number, "registry", "the approval expired", expired=True)
                refused += 1
            except NotAwaited:  # somebody was quicker
                continue
        return refused

    async def retire(self, model: str, number: int, actor: str, reason: str) -> Version:
        """Never use a version again.

        Raises:
            NotDeclared: there is no such version.
            NotAwaited: it is live, or retired already.
        """
        async with unit_of_work(self.pool, "registry") as work:
            store, now = Store(work.connection), datetime.now(UTC)
            version = await _locked_version(store, model, number)
            check_retirable(version.stage)
            said = ModelRetired(model=model, version=number, actor=actor, reason=reason)
            with telemetry.span("registry retire"):
                await store.move(model, number, "retired", now, actor, reason)
                event_id = await _say(work, said, version)
            what = {"from": version.stage}
            await store.audit(_entry(now, actor, "retire", f"{model}:{number}", reason, event_id, what))
            return await _locked_version(store, model, number)

    async def order(self, model: str, order: Order, actor: str, reason: str) -> str:
        """A person's word to the deployer; returns the event's id.

        Raises:
            NotDeclared: there is no such model.
            NotAwaited: there is nothing that could be rolled back or promoted.
        """
        async with unit_of_work(self.pool, "registry") as work:
            found = await _locked_model(Store(work.connection), model)
            if order == "rollback" and found.champion is None:
                raise NotAwaited(f"{model} has no champion yet; there is nothing to roll back")
            if order == "promote" and found.challenger is None:
                raise NotAwaited(f"{model} has no challenger; there is nothing to promote")
            said = RolloutOrdered(model=model, order=order, actor=actor, reason=reason)
            what = {"champion": found.champion, "challenger": found.challenger}
            return await _ordered(work, said, order, actor, reason, what)

    async def train(self, model: str, actor: str, reason: str) -> str:
        """A person's word to the monitor; returns the event's id.

        Raises:
            NotDeclared: there is no such model.
        """
        async with unit_of_work(self.pool, "registry") as work:
            await _locked_model(Store(work.connection), model)
            said = TrainingOrdered(model=model, actor=actor, reason=reason)
            return await _ordered(work, said, "train", actor, reason, {})


async def _applied(work: Work, change: Change, actor: str, reason: str, now: datetime) -> Entry:
    await Store(work.connection).save(change, actor, reason, now)
    event_id = await _say(work, _declaration(change, actor, reason))
    fields = [[field.field, field.old, field.new] for field in change.fields]
    what = {"verdict": change.verdict, "revision": change.revision, "fields": fields}
    return _entry(now, actor, "apply", f"{change.kind} {change.name}", reason, event_id, what)


def _declaration(change: Change, actor: str, reason: str) -> Event:
    said: dict[str, Any] = {"revision": change.revision, "actor": actor, "reason": reason}
    match change.spec:
        case StreamSpec() as spec:
            return StreamApplied(stream=change.name, spec=spec, **said)
        case ModelSpec() as spec:
            return ModelApplied(model=change.name, spec=spec, stream_spec=change.stream, **said)


async def _ordered(work: Work, said: Event, action: str, actor: str, reason: str, what: dict[str, Any]) -> str:
    with telemetry.span(f"registry {action}"):
        event_id = await _say(work, said)
    entry = _entry(datetime.now(UTC), actor, action, f"model {said.key}", reason, event_id, what)
    await Store(work.connection).audit(entry)
    return event_id


async def _say(work: Work, said: Event, version: Version | None = None) -> str:
    event_id = str(uuid.uuid4())
    await work.emit(said, id=event_id, correlation_id=version.run_id if version else None)
    return event_id


def _entry(
    at: datetime, actor: str, action: str, subject: str, reason: str, event_id: str, what: dict[str, Any]
) -> Entry:
    return Entry(at=at, actor=actor, action=action, subject=subject, reason=reason, event_id=event_id, what=what)


async def _locked_model(store: Store, name: str) -> Model:
    model = await store.lock_model(name)
    if model is None:
        raise NotDeclared(f"model {name!r} is not declared")
    return model


async def _locked_version(store: Store, model: str, number: int) -> Version:
    await _locked_model(store, model)
    version = await store.version(model, number)
    if version is None:
        raise NotDeclared(f"model {model!r} has no version {number}")
    return version
