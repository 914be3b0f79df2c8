"""What became of every run, version and rollout: told by the lifecycle topics alone."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from cli.demonstration.reading import Said
from schemas.events.base import Event
from schemas.events.deployer import RolloutChanged, RolloutEnded, RolloutSwitched
from schemas.events.ingestor import DatasetCommitted
from schemas.events.monitor import AlertRaised, AlertResolved, RolloutMeasured, TrainingRequested, WindowMeasured
from schemas.events.parts import Gate, Release
from schemas.events.registry import ModelRegistered
from schemas.events.trainer import ModelTrained, TrainingFailed
from schemas.events.validator import ModelRejected, ModelValidated

Json = dict[str, Any]
Kind = TypeVar("Kind", bound=Event)


@dataclass(kw_only=True)
class Run:
    """One lifecycle, from its request on. Seconds are wall time."""

    model: str
    run_id: str
    reason: str
    explanation: str
    asked_at: datetime
    cut: datetime
    trace_id: str | None
    fit_seconds: float | None = None
    run_seconds: float | None = None
    rows: int | None = None
    outcome: str = "open"
    version: int | None = None
    seconds_to_champion: float | None = None
    gates: list[Json] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Champion:
    """A version that went live, from this revision on."""

    release: Release
    revision: int
    at: datetime


class Lifecycles:
    """All events of the lifecycle topics, in the order in which the broker had them."""

    def __init__(self, said: Iterable[Said]) -> None:
        self.said = _once(sorted(said, key=lambda each: each.at))

    def of(self, kind: type[Kind]) -> Iterator[tuple[Said, Kind]]:
        return ((said, said.event) for said in self.said if isinstance(said.event, kind))

    def of_run(self, run_id: str) -> list[Said]:
        """Every event of one lifecycle."""
        return [said for said in self.said if said.envelope.correlation_id == run_id]

    def runs(self) -> list[Run]:
        """In the order of their requests."""
        found = {event.run_id: _run(said, event) for said, event in self.of(TrainingRequested)}
        for said in self.said:
            run_id = _run_id(said.event)
            if run_id in found:
                _go_on(found[run_id], said.event)
        for run in found.values():
            self._live(run)
        return list(found.values())

    def _live(self, run: Run) -> None:
        champion = next((each for each in self.champions(run.model) if each.release.version == run.version), None)
        if champion is not None:
            everywhere = self.switched_at(run.model, champion.revision)
            run.seconds_to_champion = ((everywhere or champion.at) - run.asked_at).total_seconds()

    def champions(self, model: str) -> list[Champion]:
        """Versions in the order in which they first became champion."""
        found: dict[int, Champion] = {}
        for said, event in self.changes(model):
            release = event.champion
            found.setdefault(release.version, Champion(release=release, revision=event.revision, at=said.at))
        return list(found.values())

    def changes(self, model: str) -> list[tuple[Said, RolloutChanged]]:
        """A model's revisions in their order."""
        found = [(said, event) for said, event in self.of(RolloutChanged) if event.model == model]
        return sorted(found, key=lambda each: each[1].revision)

    def served_from(self, model: str, revision: int) -> dict[int, int]:
        """Partition → the input offset from which this revision, or a later one, is served."""
        starts: dict[int, int] = {}
        for _, event in self.of(RolloutSwitched):
            if event.model == model and event.revision >= revision:
                starts[event.partition] = min(event.offset, starts.get(event.partition, event.offset))
        return starts

    def switched_at(self, model: str, revision: int) -> datetime | None:
        """When the last partition switched to this revision, or to a later one."""
        first: dict[int, datetime] = {}
        for said, event in self.of(RolloutSwitched):
            if event.model == model and event.revision >= revision:
                first.setdefault(event.partition, said.at)
        return max(first.values(), default=None)

    def rollouts(self, models: Iterable[str]) -> list[Json]:
        """Every challenger's way: its steps, the evidence when each was taken, and its outcome."""
        return [self._rollout(model, version) for model in models for version in self._challengers(model)]

    def _challengers(self, model: str) -> list[int]:
        versions = [event.challenger.version for _, event in self.changes(model) if event.challenger]
        return list(dict.fromkeys(versions))

    def _rollout(self, model: str, version: int) -> Json:
        ended = [event for _, event in self.of(RolloutEnded) if (event.model, event.version) == (model, version)]
        ends = {event.revision for event in ended}
        steps = [
            _step(said, event)
            for said, event in self.changes(model)
            if (event.challenger and event.challenger.version == version) or event.revision in ends
        ]
        measured = [
            event for _, event in self.of(RolloutMeasured) if (event.model, event.challenger) == (model, version)
        ]
        last = max(measured, key=lambda event: event.pairs.n, default=None)
        return {
            "model": model,
            "version": version,
            "steps": steps,
            "outcome": ended[-1].outcome if ended else "open",
            "reason": ended[-1].reason if ended else None,
            "paired_scores": last.paired_scores if last else 0,
            "matured_pairs": last.pairs.n if last else 0,
            "mean_loss_difference": last.pairs.total / last.pairs.n if last and last.pairs.n else None,
        }

    def alerts(self) -> list[Json]:
        resolved = {(event.model, event.alert): event for _, event in self.of(AlertResolved)}
        return [
            {
                **event.model_dump(mode="json"),
                "resolved_at": end.resolved_at.isoformat()
                if (end := resolved.get((event.model, event.alert)))
                else None,
            }
            for _, event in self.of(AlertRaised)
        ]

    def tables(self) -> dict[str, DatasetCommitted]:
        """The newest version of each table."""
        newest: dict[str, DatasetCommitted] = {}
        for _, event in self.of(DatasetCommitted):
            if event.table not in newest or event.version > newest[event.table].version:
                newest[event.table] = event
        return newest

    def windows(self) -> list[WindowMeasured]:
        return [event for _, event in self.of(WindowMeasured)]

    def breaks(self) -> list[str]:
        """What keeps lifecycles from being complete by causation ids; empty when each leads from cause to end."""
        known = {said.envelope.id for said in self.said}
        lost = [
            f"{said.event.event} {said.envelope.id}: its cause {cause} is no event"
            for said in self.said
            if (cause := said.envelope.causation_id) is not None and cause not in known
        ]
        return lost + [broken for run in self.runs() for broken in self._breaks_of(run)]

    def _breaks_of(self, run: Run) -> list[str]:
        said: dict[type[Event], int] = defaultdict(int)
        for each in self.said:
            said[type(each.event)] += _run_id(each.event) == run.run_id
        steps = (
            ("trained or failed", (ModelTrained, TrainingFailed), True),
            ("validated or rejected", (ModelValidated, ModelRejected), said[ModelTrained] > 0),
            ("registered", (ModelRegistered,), said[ModelValidated] > 0),
        )
        return [
            f"{run.run_id}: {step} {number} times, expected once"
            for step, kinds, expected in steps
            if (number := sum(said[kind] for kind in kinds)) != int(expected)
        ]


def _once(said: Iterable[Said]) -> list[Said]:
    """A crash between publishing and forgetting says an event twice under one id."""
    return list({each.envelope.id: each for each in reversed(list(said))}.values())[::-1]


def _run(said: Said, event: TrainingRequested) -> Run:
    traceparent = said.envelope.traceparent
    return Run(
        model=event.model,
        run_id=event.run_id,
        reason=event.reason,
        explanation=event.explanation,
        asked_at=said.at,
        cut=event.cut.time,
        trace_id=traceparent.split("-")[1] if traceparent else None,
    )


def _run_id(event: Event) -> str | None:
    if isinstance(event, ModelRegistered):
        return event.release.candidate.run_id
    return getattr(event, "run_id", None)


def _go_on(run: Run, event: Event) -> None:
    match event:
        case ModelTrained():
            run.fit_seconds, run.run_seconds, run.rows = event.fit_seconds, event.run_seconds, event.candidate.rows
            run.outcome = "trained" if run.outcome == "open" else run.outcome
        case TrainingFailed():
            run.outcome = f"failed: {event.reason}: {event.explanation}"
        case ModelValidated():
            run.gates = _gates(event.gates)
        case ModelRejected():
            run.gates, run.outcome = _gates(event.gates), f"rejected: {event.explanation}"
        case ModelRegistered():
            run.version, run.outcome = event.version, "registered"
        case _:
            pass


def _gates(gates: Iterable[Gate]) -> list[Json]:
    return [gate.model_dump(mode="json") for gate in gates]


def _step(said: Said, event: RolloutChanged) -> Json:
    return {
        "at": said.at.isoformat(),
        "revision": event.revision,
        "phase": event.phase,
        "champion": event.champion.version,
        "challenger": event.challenger.version if event.challenger else None,
        "share": event.share,
        "reason": event.reason,
    }
