"""Why event time stands still: fits take seconds, and a second is a day.

Events come from several topics in no common order, so nothing here depends on it. Each reason is bounded: one that
lasts too long is given up, so holding can be wrong but never for ever.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.events.base import Event
from schemas.events.deployer import LoadFailed, RolloutChanged, RolloutSwitched
from schemas.events.monitor import TrainingRequested
from schemas.events.registry import ModelRegistered
from schemas.events.trainer import ModelTrained, TrainingFailed
from schemas.events.validator import ModelRejected, ModelValidated

GIVEN_UP_AFTER_SECONDS = 240.0


@dataclass(kw_only=True)
class Holds:
    """What is under way. Only the switch of a rollout holds: its evidence needs event time to go on.

    `behind` is set from outside: consumer → records, of those that are too far behind; `wanted`: models whose
    training request waits for table versions.
    """

    partitions: int
    behind: Mapping[str, int] = field(default_factory=dict)
    wanted: frozenset[str] = frozenset()
    given_up: list[str] = field(default_factory=list)
    _reached: dict[str, set[str]] = field(default_factory=dict)  # run → stages it has reached
    _ordered: dict[str, int] = field(default_factory=dict)  # model → newest revision
    _switched: dict[tuple[str, int], int] = field(default_factory=dict)  # model, partition → newest revision
    _unloadable: set[tuple[str, int]] = field(default_factory=set)
    _since: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def hear(self, event: Event) -> None:
        """From any thread."""
        with self._lock:
            self._hear(event)

    def _hear(self, event: Event) -> None:
        match event:
            case TrainingRequested():
                self._reach(event.run_id, "requested")
            case ModelTrained():
                self._reach(event.run_id, "trained")
            case ModelValidated():
                self._reach(event.run_id, "validated")
            case TrainingFailed() | ModelRejected():
                self._reach(event.run_id, "ended")
            case ModelRegistered():
                self._reach(event.release.candidate.run_id, "ended")
                if event.approval == "none":  # a first champion is on its way: events that it misses are never answered
                    self._ordered.setdefault(event.model, 1)
            case RolloutChanged():
                self._ordered[event.model] = max(event.revision, self._ordered.get(event.model, 0))
            case RolloutSwitched():
                at = event.model, event.partition
                self._switched[at] = max(event.revision, self._switched.get(at, 0))
            case LoadFailed():
                self._unloadable.add((event.model, event.revision))
            case _:
                pass

    def _reach(self, run_id: str, stage: str) -> None:
        self._reached.setdefault(run_id, set()).add(stage)

    def open_runs(self) -> dict[str, str]:
        """Run → what it is at."""
        return {run: _stage(reached) for run, reached in self._reached.items() if "ended" not in reached}

    def open_switches(self) -> dict[str, int]:
        """Model → the revision that some partition does not serve under yet."""
        return {
            model: revision
            for model, revision in self._ordered.items()
            if (model, revision) not in self._unloadable
            and any(self._switched.get((model, p), 0) < revision for p in range(self.partitions))
        }

    def all(self) -> dict[str, str]:
        """Everything that holds now: what it is → its reason."""
        with self._lock:
            runs, switches = self.open_runs(), self.open_switches()
        return {
            **runs,
            **{f"{model} at revision {revision}": "switch" for model, revision in switches.items()},
            **{f"tables for {model}": "tables" for model in sorted(self.wanted)},
            **{f"lag of {consumer}": f"lag of {consumer}" for consumer in self.behind},
        }

    def reason(self, seconds: float) -> str | None:
        """The first reason that holds event time at this moment of a monotonic clock; None when it may pass."""
        now = self.all()
        self._since = {what: self._since.get(what, seconds) for what in now}
        for what, reason in now.items():
            if seconds - self._since[what] < GIVEN_UP_AFTER_SECONDS:
                return reason
            if what not in self.given_up:
                self.given_up.append(what)
        return None


def _stage(reached: set[str]) -> str:
    if "validated" in reached:
        return "registration"
    return "validation" if "trained" in reached else "training"
