"""What people do to the record: apply, approve, refuse, retire, order, train. Each act: one transaction, one event."""

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
from services.registry.chain import note
from services.registry.domain.audit import Entry
from services.registry.domain.plan import Change, plan
from services.registry.domain.stages import (
    NotAwaited,
    Passage,
    Stage,
    check_awaiting,
    check_retirable,
    is_approved,
    weakens,
)
from services.registry.store import Model, Store, Version
from shared import telemetry
from shared.errors import Forbidden, Refusal
from shared.kafka import ensure_topics, model_topics, stream_topics
from shared.outbox import Work, unit_of_work
from shared.settings import KafkaSettings

Order = Literal["rollback", "freeze", "unfreeze", "promote"]


class NotDeclared(Refusal):
    """No such stream, model or version."""


@dataclass(frozen=True, kw_only=True)
class Word:
    """A person's word: who says it (`operator:ann`), and why."""

    actor: str
    reason: str


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

    async def apply(self, specs: Sequence[Spec], word: Word) -> list[Change]:
        """Declare; the topics are there before anybody hears of what needs them.

        Raises:
            Misfits: nothing was applied, and why.
            Forbidden: an approval policy is weakened by somebody who may not approve.
        """
        with telemetry.span("registry apply"):
            await self._make_topics(await self.plan(specs))
            async with unit_of_work(self.pool, "registry") as work:
                store = Store(work.connection)
                await store.lock_apply()
                changes, now = plan(specs, await store.declared()), datetime.now(UTC)
                applied = [change for change in changes if change.verdict != "unchanged"]
                check_approval_stays(applied, word.actor)
                entries = [await _applied(work, change, word, now) for change in applied]
                if entries:
                    await note(work, *entries)
            return changes

    async def _make_topics(self, changes: Sequence[Change]) -> None:
        """Also of what is unchanged: applying again repairs."""
        topics = []
        for change in changes:
            make = stream_topics if change.kind == "stream" else model_topics
            topics += make(self.kafka, change.name, change.stream.partitions)
        await ensure_topics(self.kafka, topics)

    async def approve(self, model: str, number: int, word: Word) -> None:
        """Say yes; with the last needed yes the version may be rolled out.

        Raises:
            NotDeclared: there is no such version.
            NotAwaited: it does not wait for approval, or no longer.
        """
        async with unit_of_work(self.pool, "registry") as work:
            store, now = Store(work.connection), datetime.now(UTC)
            version = await _locked_version(store, model, number)
            check_awaiting(version.stage, version.expires_at, now)
            actors = await store.approve(model, number, actor=word.actor, reason=word.reason, at=now)
            said = None
            if is_approved(version.approval or "required", actors):
                release = Release(version=number, candidate=version.candidate)
                said = ModelApproved(
                    model=model, version=number, release=release, actors=tuple(actors), reason=word.reason
                )
            await _decide(work, version, _Decision(action="approve", stage="approved", said=said, word=word, at=now))

    async def refuse(self, model: str, number: int, word: Word, *, expired: bool = False) -> None:
        """Say no, for good; `expired` when it is the clock that says it.

        Raises:
            NotDeclared: there is no such version.
            NotAwaited: it does not wait for approval, or no longer.
        """
        async with unit_of_work(self.pool, "registry") as work:
            store, now = Store(work.connection), datetime.now(UTC)
            version = await _locked_version(store, model, number)
            check_awaiting(version.stage, None if expired else version.expires_at, now)
            said = ModelRefused(model=model, version=number, actor=word.actor, reason=word.reason)
            await _decide(work, version, _Decision(action="refuse", stage="refused", said=said, word=word, at=now))

    async def refuse_expired(self) -> int:
        """Refuse what nobody answered in time; returns how many."""
        async with self.pool.acquire() as connection:
            late = await Store(connection).expired(datetime.now(UTC))
        refused = 0
        for model, number in late:
            try:
                await self.refuse(model, number, Word(actor="registry", reason="the approval expired"), expired=True)
                refused += 1
            except NotAwaited:  # somebody was quicker
                continue
        return refused

    async def retire(self, model: str, number: int, word: Word) -> None:
        """Never use a version again.

        Raises:
            NotDeclared: there is no such version.
            NotAwaited: it is live, or retired already.
        """
        async with unit_of_work(self.pool, "registry") as work:
            store, now = Store(work.connection), datetime.now(UTC)
            version = await _locked_version(store, model, number)
            check_retirable(version.stage)
            said = ModelRetired(model=model, version=number, actor=word.actor, reason=word.reason)
            await _decide(work, version, _Decision(action="retire", stage="retired", said=said, word=word, at=now))

    async def order(self, model: str, order: Order, word: Word) -> str:
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
            said = RolloutOrdered(model=model, order=order, actor=word.actor, reason=word.reason)
            return await _ordered(work, said, word, {"champion": found.champion, "challenger": found.challenger})

    async def train(self, model: str, word: Word) -> str:
        """A person's word to the monitor; returns the event's id.

        Raises:
            NotDeclared: there is no such model.
        """
        async with unit_of_work(self.pool, "registry") as work:
            await _locked_model(Store(work.connection), model)
            return await _ordered(work, TrainingOrdered(model=model, actor=word.actor, reason=word.reason), word, {})


def check_approval_stays(changes: Sequence[Change], actor: str) -> None:
    """Who may not say yes may not do away with the asking.

    Raises:
        Forbidden: a change weakens an approval policy, and the actor is no approver.
    """
    for change in changes:
        for each in change.fields:
            if (
                each.field == "rollout.approval"
                and weakens(each.old, each.new)
                and actor.partition(":")[0] != "approver"
            ):
                raise Forbidden(
                    f"{change.name}: rollout.approval from {each.old} to {each.new}: expected the role approver"
                )


async def _applied(work: Work, change: Change, word: Word, now: datetime) -> Entry:
    await Store(work.connection).save(change, word.actor, word.reason, now)
    event_id = await _say(work, _declaration(change, word))
    fields = [[field.field, field.old, field.new] for field in change.fields]
    what = {"verdict": change.verdict, "revision": change.revision, "fields": fields}
    return Entry(at=now, action="apply", subject=f"{change.kind} {change.name}", event_id=event_id, what=what,
                 actor=word.actor, reason=word.reason)  # fmt: skip


def _declaration(change: Change, word: Word) -> Event:
    said: dict[str, Any] = {"revision": change.revision, "actor": word.actor, "reason": word.reason}
    match change.spec:
        case StreamSpec() as spec:
            return StreamApplied(stream=change.name, spec=spec, **said)
        case ModelSpec() as spec:
            return ModelApplied(model=change.name, spec=spec, stream_spec=change.stream, **said)


@dataclass(frozen=True, kw_only=True)
class _Decision:
    """About a version; without `said` it is noted and changes nothing yet."""

    action: str
    stage: Stage
    said: Event | None
    word: Word
    at: datetime


async def _decide(work: Work, version: Version, made: _Decision) -> None:
    """In the trace of the version's lifecycle, wherever the request came from."""
    store, event_id = Store(work.connection), ""
    who: dict[str, Any] = {"actor": made.word.actor, "reason": made.word.reason, "at": made.at}
    what = {"from": version.stage, "to": made.stage if made.said else version.stage, "run_id": version.run_id}
    subject = f"{version.model}:{version.version}"
    with telemetry.span(f"registry {made.action}", parent=version.traceparent):
        if made.said:
            await store.move(Passage(model=version.model, version=version.version, stage=made.stage, **who))
            event_id = await _say(work, made.said, correlation_id=version.run_id)
        await note(work, Entry(action=made.action, subject=subject, event_id=event_id, what=what, **who))


async def _ordered(work: Work, said: RolloutOrdered | TrainingOrdered, word: Word, what: dict[str, Any]) -> str:
    action = said.order if isinstance(said, RolloutOrdered) else "train"
    with telemetry.span(f"registry {action}"):
        event_id = await _say(work, said)
        entry = Entry(at=datetime.now(UTC), action=action, subject=f"model {said.model}", event_id=event_id, what=what,
                      actor=word.actor, reason=word.reason)  # fmt: skip
        await note(work, entry)
    return event_id


async def _say(work: Work, said: Event, *, correlation_id: str | None = None) -> str:
    event_id = str(uuid.uuid4())
    await work.emit(said, id=event_id, correlation_id=correlation_id)
    return event_id


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
