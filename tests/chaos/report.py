"""What came of a run, for people and for files."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.chaos.evidence import Asked
from tests.chaos.judge import LAWS, Evidence, Violation
from tests.chaos.plan import Plan
from tests.chaos.striking import Struck

NEAR_SECONDS = 15.0
_MISSED_SHARE = 1 / 6  # ten of sixty


@dataclass(frozen=True, kw_only=True)
class Report:
    """What came of a run."""

    plan: Plan
    log: Sequence[Struck]
    violations: Sequence[Violation]
    counts: dict[str, int]
    restarts: dict[str, int]
    rested: bool
    seconds: dict[str, float]
    longest_wait_seconds: float
    near: dict[str, list[str]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Every law was kept, all came to rest, and enough faults struck for that to say something."""
        struck = len(self.missed) <= _MISSED_SHARE * len(self.plan.faults) and len(self.log) == len(self.plan.faults)
        return self.rested and not self.violations and struck

    @property
    def missed(self) -> list[Struck]:
        """Faults that met nothing: no process that worked, no connection, no such request in time."""
        return [struck for struck in self.log if not struck.hit]

    def as_json(self) -> str:
        """For files."""
        laws = Counter(violation.law for violation in self.violations)
        said: dict[str, Any] = {
            "ok": self.ok,
            "seed": self.plan.seed,
            "crew": asdict(self.plan.crew),
            "events": self.plan.events,
            "faults": len(self.log),
            "faults_by_kind": Counter(struck.fault.kind for struck in self.log),
            "missed": [str(struck.fault) for struck in self.missed],
            "laws": list(LAWS),
            "violations": {"count": len(self.violations), "by_law": laws},
            "first_violations": [asdict(violation) for violation in self.violations[:20]],
            "near": self.near,
            "counts": self.counts,
            "restarts": self.restarts,
            "rested": self.rested,
            "seconds": self.seconds,
            "longest_wait_seconds": self.longest_wait_seconds,
            "timeline": [asdict(struck) for struck in self.log],
        }
        return json.dumps(said, indent=1)


def longest_wait_seconds(found: Evidence, asked: Asked) -> float:
    """Of an accepted record for its prediction, by the broker's clock."""
    answers = (each for model in found.models.values() for each in model.answers)
    waits = (each.timestamp_ms - asked.times.get(each.answers, each.timestamp_ms) for each in answers)
    return max(waits, default=0) / 1000


def counts_of(found: Evidence) -> dict[str, int]:
    """How much was judged."""
    return {
        "records": len(found.asked),
        "entities": len({event.entity for event in found.sent}),
        "bad": sum(event.fate != "accepted" for event in found.sent),
        "dead_letters": len(found.letters),
        "dead_letters_by_origin": len({letter.origin for letter in found.letters}),
        "rows": len(found.rows),
        "predictions": sum(len(model.answers) for model in found.models.values()),
        "shadow_scores": sum(len(model.shadows) for model in found.models.values()),
        "prediction_rows": sum(len(model.rows) for model in found.models.values()),
        "switches": sum(len(model.switches) for model in found.models.values()),
    }


def near(violation: Violation, asked: Asked, found: Evidence, log: Sequence[Struck]) -> list[str]:
    """The faults around the times at which the record came and was answered."""
    answered = (each for model in found.models.values() for each in model.answers if each.answers == violation.place)
    times = [asked.times.get(violation.place, 0) / 1000, *(each.timestamp_ms / 1000 for each in answered)]
    return [
        f"{struck.fault} ({struck.began - at:+.1f} s)"
        for struck in log
        for at in times[:3]
        if struck.began - NEAR_SECONDS < at < (struck.ended or struck.began) + NEAR_SECONDS
    ]
