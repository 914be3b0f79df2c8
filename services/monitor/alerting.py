"""Words about alerts: raised, resolved, and what is to be left out of training."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from schemas.events.monitor import AlertRaised, AlertResolved, DataQuarantined
from schemas.events.parts import Span
from services.monitor.domain.alerts import Alarm, Alert, Finding
from services.monitor.domain.clock import moment
from services.monitor.domain.facts import ModelFacts, Said
from services.monitor.domain.retraining import next_attempt
from services.monitor.domain.state import ModelState
from services.monitor.domain.windows import Window
from services.monitor.words import Word, event_id


@dataclass(frozen=True, kw_only=True)
class Alerting:
    """Of one model at one instant of event time."""

    model: str
    now: datetime

    def hear(self, alarm: Alarm, kind: str, version: int, number: int, found: Sequence[Finding]) -> list[Word]:
        """Findings of window (or check) `number`, strongest first."""
        said = []
        if raised := alarm.hear(found, f"{self.model}-{kind.replace('_', '-')}-v{version}-{number}"):
            said.append(self.raised(raised, kind, version, number))
        if resolved := alarm.over():
            said.append(self.resolved(resolved, "two windows in a row without a finding"))
        return said

    def raised(self, alert: Alert, kind: str, version: int | None = None, number: int | None = None) -> Word:
        event = AlertRaised.model_validate(
            {
                "model": self.model,
                "alert": alert.id,
                "kind": kind,
                "severity": "critical" if kind in {"decay", "data_fault"} else "warning",
                "features": alert.subjects,
                "explanation": alert.explanation,
                "raised_at": self.now,
                "version": version,
                "window": number,
            }
        )
        return Word(event=event, id=event_id(event.event, alert.id), correlation_id=alert.id)

    def resolved(self, alert: Alert, why: str) -> Word:
        event = AlertResolved(model=self.model, alert=alert.id, explanation=why, resolved_at=self.now)
        after = Said(event_id=event_id(AlertRaised.event, alert.id), correlation_id=alert.id)
        return Word(event=event, id=event_id(event.event, alert.id), after=after)

    def missed(self, facts: ModelFacts, state: ModelState) -> list[Word]:
        """Retraining that brings nothing better is said once, and over when a run serves."""
        run, told = facts.run, state.missed
        if run is None or run.state != "closed":
            return []
        if told is None and run.misses and facts.rollouts:
            words = f"{run.run_id}, trained for {run.reason}, was no better: {run.outcome}; the champion stays"
            later = f"the next attempt waits until {next_attempt(facts, run):%F %R}"
            state.missed = Alert(f"{run.run_id}-no-better", (), f"{words}, {later}")
            return [self.raised(state.missed, "operations")]
        if told is not None and not run.misses:
            state.missed = None
            return [self.resolved(told, f"{run.run_id} serves")]
        return []

    def quarantined(self, stream: str, window: Window, version: int, found: Sequence[Finding]) -> Word:
        event = DataQuarantined(
            stream=stream,
            span=Span(start=moment(window.time_min), end=moment(window.time_max + 1)),
            features=tuple(each.subject for each in found),
            explanation="; ".join(each.explanation for each in found),
        )
        return Word(event=event, id=event_id(event.event, self.model, version, window.number))
