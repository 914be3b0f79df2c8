"""What people's words change in the record: done as they are said, and done again when the record is rebuilt.

Each returns its row for the audit log, which is added last in the transaction.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from schemas.events.base import Event
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
from services.registry.domain.audit import Entry
from services.registry.domain.plan import Change, FieldChange, differences
from services.registry.domain.stages import Passage, Stage
from services.registry.store import Store, Version
from shared.errors import TooEarly
from shared.outbox import Work

Deed = Callable[[Any, Work], Awaitable[Entry]]


class Word(Protocol):
    """An event by which a person did something."""

    @property
    def event(self) -> str: ...
    @property
    def actor(self) -> str: ...
    @property
    def reason(self) -> str: ...


async def on_stream_applied(event: StreamApplied, work: Work) -> Entry:
    old = await Store(work.connection).stream_before(event.stream)
    change = Change(kind="stream", name=event.stream, verdict="changed" if old else "created", revision=event.revision,
                    spec=event.spec, stream=event.spec, stream_revision=event.revision,
                    fields=differences(old, event.spec))  # fmt: skip
    return await _apply(work, event, change)


async def on_model_applied(event: ModelApplied, work: Work) -> Entry:
    old, was, now = await Store(work.connection).model_before(event.model, event.spec.stream)
    moved = (FieldChange(field="stream.revision", old=was, new=now),) if old and was != now else ()
    change = Change(kind="model", name=event.model, verdict="changed" if old else "created", revision=event.revision,
                    spec=event.spec, stream=event.stream_spec, stream_revision=now,
                    fields=(*differences(old, event.spec), *moved))  # fmt: skip
    return await _apply(work, event, change)


async def on_approval_given(event: ApprovalGiven, work: Work) -> Entry:
    await _approve(work, event.model, event.version, event.actor, event.reason)
    return await _decide(work, event, "approve", None)


async def on_model_approved(event: ModelApproved, work: Work) -> Entry:
    await _approve(work, event.model, event.version, event.actors[-1], event.reason)
    return await _decide(work, event, "approve", "approved")


async def on_model_refused(event: ModelRefused, work: Work) -> Entry:
    return await _decide(work, event, "refuse", "refused")


async def on_model_retired(event: ModelRetired, work: Work) -> Entry:
    return await _decide(work, event, "retire", "retired")


async def on_model_commented(event: ModelCommented, work: Work) -> Entry:
    await Store(work.connection).comment(event, _at(work))
    subject = f"model {event.model}" if event.version is None else f"{event.model}:{event.version}"
    return Entry(at=_at(work), actor=event.actor, action="comment", subject=subject, reason=event.text,
                 event_id=_event_id(work), what={})  # fmt: skip


async def on_erasure_ordered(event: ErasureOrdered, work: Work) -> Entry:
    await Store(work.connection).order_erasure(event, _at(work))
    return _entry(work, event, "forget", "an entity", {"receipt": event.receipt, "streams": list(event.streams)})


async def on_rollout_ordered(event: RolloutOrdered, work: Work) -> Entry:
    model = await Store(work.connection).lock_model(event.model)
    what = {"champion": model.champion, "challenger": model.challenger} if model else {}
    return _entry(work, event, event.order, f"model {event.model}", what)


async def on_training_ordered(event: TrainingOrdered, work: Work) -> Entry:
    return _entry(work, event, "train", f"model {event.model}", {})


DEEDS: Mapping[type[Event], Deed] = {
    StreamApplied: on_stream_applied,
    ModelApplied: on_model_applied,
    ApprovalGiven: on_approval_given,
    ModelApproved: on_model_approved,
    ModelRefused: on_model_refused,
    ModelRetired: on_model_retired,
    ModelCommented: on_model_commented,
    ErasureOrdered: on_erasure_ordered,
    RolloutOrdered: on_rollout_ordered,
    TrainingOrdered: on_training_ordered,
}


async def _apply(work: Work, event: StreamApplied | ModelApplied, change: Change) -> Entry:
    await Store(work.connection).save(change, event.actor, event.reason, _at(work))
    fields = [[field.field, field.old, field.new] for field in change.fields]
    what = {"verdict": change.verdict, "revision": change.revision, "fields": fields}
    return _entry(work, event, "apply", f"{change.kind} {change.name}", what)


async def _approve(work: Work, model: str, version: int, actor: str, reason: str) -> None:
    await Store(work.connection).approve(model, version, actor=actor, reason=reason, at=_at(work))


Decision = ApprovalGiven | ModelApproved | ModelRefused | ModelRetired


async def _decide(work: Work, event: Decision, action: str, stage: Stage | None) -> Entry:
    """About a version, which enters `stage`, or stays where it is."""
    store = Store(work.connection)
    version = await _version(store, event.model, event.version)
    if stage is not None:
        who: dict[str, Any] = {"actor": _actor(event), "reason": event.reason, "at": _at(work)}
        await store.move(Passage(model=event.model, version=event.version, stage=stage, **who))
    what = {"from": version.stage, "to": stage or version.stage, "run_id": version.run_id}
    return _entry(work, event, action, f"{event.model}:{event.version}", what)


async def _version(store: Store, model: str, number: int) -> Version:
    version = await store.version(model, number)
    if version is None:
        raise TooEarly(f"{model} has no version {number} yet")
    return version


def _entry(work: Work, event: Word | ModelApproved, action: str, subject: str, what: Mapping[str, Any]) -> Entry:
    return Entry(at=_at(work), actor=_actor(event), action=action, subject=subject, reason=event.reason,
                 event_id=_event_id(work), what=what)  # fmt: skip


def _event_id(work: Work) -> str:
    return work.cause.id if work.cause else ""


def _actor(event: Word | ModelApproved) -> str:
    return event.actors[-1] if isinstance(event, ModelApproved) else event.actor


def _at(work: Work) -> datetime:
    """When it was said: the same however often it is done."""
    return work.cause.time if work.cause else datetime.now(UTC)
