"""What people do to the record: apply, approve, refuse, retire, order, train. Each act: one transaction, one event."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

import asyncpg

from schemas.declarations import Spec
from schemas.events.base import Event
from schemas.events.parts import Release
from schemas.events.registry import (
    ApprovalGiven,
    ErasureOrdered,
    ModelApplied,
    ModelApproved,
    ModelCommented,
    ModelRefused,
    ModelRetired,
    RolloutOrdered,
    StreamApplied,
    TrainingOrdered,
)
from schemas.specs import ModelSpec, StreamSpec
from services.registry.chain import note
from services.registry.deeds import DEEDS, Decision
from services.registry.domain.plan import Change, plan
from services.registry.domain.stages import (
    NotAwaited,
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
                changes = plan(specs, await store.declared())
                applied = [change for change in changes if change.verdict != "unchanged"]
                check_approval_stays(applied, word.actor)
                await store.lock_models([change.name for change in applied if change.kind == "model"])
                await _do(work, *(_declaration(change, word) for change in applied))
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
            said = _yes(version, await store.approvers(model, number), word)
            await _decide(work, version, said, "approve")

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
            await _decide(work, version, said, "refuse")

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
            version = await _locked_version(Store(work.connection), model, number)
            check_retirable(version.stage)
            said = ModelRetired(model=model, version=number, actor=word.actor, reason=word.reason)
            await _decide(work, version, said, "retire")

    async def comment(self, model: str, number: int | None, word: Word) -> str:
        """Say something about a model, or a version of it; returns the event's id.

        Raises:
            NotDeclared: there is no such model or version.
        """
        async with unit_of_work(self.pool, "registry") as work:
            store = Store(work.connection)
            said = ModelCommented(model=model, version=number, actor=word.actor, text=word.reason)
            if number is None:
                await _locked_model(store, model)
                parent, run_id = None, None
            else:
                version = await _locked_version(store, model, number)
                parent, run_id = version.traceparent, version.run_id
            with telemetry.span("registry comment", parent=parent):
                (event_id,) = await _do(work, said, correlation_id=run_id)
            return event_id

    async def forget(self, receipt: str, streams: Sequence[str] | None, *, actor: str, reason: str) -> str:
        """Have the entity of a receipt erased from these streams, or from all; returns the event's id.

        Raises:
            NotDeclared: there is no such stream, or none at all.
        """
        async with unit_of_work(self.pool, "registry") as work:
            declared = (await Store(work.connection).declared()).streams
            if unknown := sorted(set(streams or ()) - declared.keys()):
                raise NotDeclared(f"stream {unknown[0]!r} is not declared")
            if not declared:
                raise NotDeclared("no stream is declared")
            about = tuple(sorted(set(streams or declared)))
            with telemetry.span("registry forget"):
                said = ErasureOrdered(receipt=receipt, streams=about, actor=actor, reason=reason)
                (event_id,) = await _do(work, said)
            return event_id

    async def order(self, model: str, order: Order, word: Word) -> str:
        """A person's word to the deployer; returns the event's id.

        Raises:
            NotDeclared: there is no such model.
            NotAwaited: there is nothing that could be rolled back or promoted.
        """
        async with unit_of_work(self.pool, "registry") as work:
            store = Store(work.connection)
            found = await _locked_model(store, model)
            if order == "rollback" and found.champion is None:
                raise NotAwaited(f"{model} has no champion yet; there is nothing to roll back")
            if order == "rollback" and found.challenger is None and await store.former(model) is None:
                raise NotAwaited(
                    f"{model} has no former champion to bring back in the place of version {found.champion}"
                )
            if order == "promote" and found.challenger is None:
                raise NotAwaited(f"{model} has no challenger; there is nothing to promote")
            said = RolloutOrdered(model=model, order=order, actor=word.actor, reason=word.reason)
            with telemetry.span(f"registry {order}"):
                (event_id,) = await _do(work, said)
            return event_id

    async def train(self, model: str, word: Word) -> str:
        """A person's word to the monitor; returns the event's id.

        Raises:
            NotDeclared: there is no such model.
        """
        async with unit_of_work(self.pool, "registry") as work:
            await _locked_model(Store(work.connection), model)
            with telemetry.span("registry train"):
                (event_id,) = await _do(work, TrainingOrdered(model=model, actor=word.actor, reason=word.reason))
            return event_id


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


def _yes(version: Version, before: Sequence[str], word: Word) -> ApprovalGiven | ModelApproved:
    """What a person's yes is, after those of others: enough, or not yet."""
    actors = (*before, word.actor) if word.actor not in before else tuple(before)
    about: dict[str, Any] = {"model": version.model, "version": version.version, "reason": word.reason}
    if not is_approved(version.approval or "required", actors):
        return ApprovalGiven(actor=word.actor, **about)
    release = Release(version=version.version, candidate=version.candidate, attestation=version.attestation)
    return ModelApproved(release=release, actors=actors, **about)


def _declaration(change: Change, word: Word) -> Event:
    said: dict[str, Any] = {"revision": change.revision, "actor": word.actor, "reason": word.reason}
    match change.spec:
        case StreamSpec() as spec:
            return StreamApplied(stream=change.name, spec=spec, **said)
        case ModelSpec() as spec:
            return ModelApplied(model=change.name, spec=spec, stream_spec=change.stream, **said)


async def _decide(work: Work, version: Version, said: Decision, action: str) -> None:
    """In the trace of the version's lifecycle, wherever the request came from."""
    with telemetry.span(f"registry {action}", parent=version.traceparent):
        await _do(work, said, correlation_id=version.run_id)


async def _do(work: Work, *words: Event, correlation_id: str | None = None) -> list[str]:
    """Say it, do to the record what it means, and at last note it; returns the events' ids."""
    done = []
    for word in words:
        because = replace(work, cause=await work.emit(word, correlation_id=correlation_id))
        done.append((because, await DEEDS[type(word)](word, because)))
    for because, entry in done:
        await note(because, entry)
    return [entry.event_id for _, entry in done]


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
