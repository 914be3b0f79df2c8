"""What every gate has in common, and how they are found: each says value, threshold, verdict and reason, or why not."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from math import isfinite
from pathlib import Path
from typing import Any, Final, Literal

from schemas.events.parts import Gate
from schemas.specs import Gates, Task
from services.validator.domain.evidence import Evidence

Need = Literal["rows", "champion", "scikit_learn", "learned"]
Detail = dict[str, Any]


_VERDICTS: Final[Mapping[bool | None, Literal["passed", "failed", "insufficient_data"]]] = {
    True: "passed",
    False: "failed",
    None: "insufficient_data",
}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a gate found; `threshold` only where it is another than the one that was asked.

    `passed` is None where there were too few rows to tell.
    """

    value: float | None
    passed: bool | None
    reason: str
    detail: Detail = field(default_factory=dict)
    threshold: float | None = None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A verdict for the event, and the evidence behind it for the report."""

    gate: Gate
    detail: Detail = field(default_factory=dict)


class Check(ABC):
    """One gate. Subclasses in this package are found by themselves; `every` gives the gates of a class."""

    name: str
    needs: tuple[Need, ...] = ("rows",)
    tasks: tuple[Task, ...] = ("binary", "multiclass", "regression")

    @classmethod
    def every(cls) -> Iterator["Check"]:
        """The gates of this class: one, unless it says otherwise."""
        yield cls()

    @abstractmethod
    def asked(self, gates: Gates) -> float | None:
        """The threshold that the model declares; None when it asks for nothing."""

    @abstractmethod
    def measure(self, evidence: Evidence, threshold: float) -> Measured:
        """Measure and compare; called only with what the gate needs."""

    def judge(self, evidence: Evidence) -> Finding:
        """The verdict, whatever is missing."""
        threshold = self.asked(evidence.spec.gates)
        if threshold is None:
            return self._without(None, "not_asked", f"{self.name}: the model declares no threshold")
        if lacking := self._lacking(evidence):
            return self._without(threshold, "failed", f"{self.name}: {lacking}")
        if "champion" in self.needs and evidence.rows.champion is None:
            return self._without(threshold, "no_champion", f"{self.name}: {evidence.rows.champion_note}")
        return self._finding(self.measure(evidence, threshold), threshold)

    def _lacking(self, evidence: Evidence) -> str | None:
        """Why this cannot be measured, in words."""
        if evidence.task not in self.tasks:
            return f"is not defined for a {evidence.task} model"
        if "learned" in self.needs and (evidence.learned is None or not len(evidence.learned.truth)):
            return "not measured, as the rows that it learned from could not be read"
        return _lacking_rows(evidence, self.needs) if "rows" in self.needs else None

    def _without(
        self, threshold: float | None, verdict: Literal["failed", "not_asked", "no_champion"], reason: str
    ) -> Finding:
        return Finding(gate=Gate(name=self.name, value=None, threshold=threshold, verdict=verdict, reason=reason))

    def _finding(self, measured: Measured, asked: float) -> Finding:
        """A value that is not a finite number fails: nobody can compare it."""
        value, passed, reason = measured.value, measured.passed, measured.reason
        if value is not None and not isfinite(value):
            value, passed, reason = None, False, f"{self.name}: expected a finite number, measured {value}; {reason}"
        gate = Gate(
            name=self.name,
            value=value,
            threshold=asked if measured.threshold is None else measured.threshold,
            verdict=_VERDICTS[passed],
            reason=reason,
        )
        return Finding(gate=gate, detail=measured.detail)


def _lacking_rows(evidence: Evidence, needs: tuple[Need, ...]) -> str | None:
    if evidence.scored is None:
        return "not measured, as the candidate could not be loaded and scored"
    if not len(evidence.scored.truth):
        return "not measured, as no held-out row has a label"
    if "scikit_learn" in needs and evidence.scored.scikit_learn is None:
        return f"not measured: {evidence.scored.scikit_learn_note}"
    flaw = evidence.scored.flaw(len(evidence.signature.classes))
    return f"not measured: {flaw}" if flaw else None


def checks() -> tuple[Check, ...]:
    """Every gate of every concrete class in this package, in the order of module and definition."""
    package = __name__.rpartition(".")[0]
    for file in sorted(Path(__file__).parent.glob("*_gates.py")):
        import_module(f"{package}.{file.stem}")
    kinds = sorted(Check.__subclasses__(), key=lambda kind: kind.__module__)
    return tuple(check for kind in kinds if kind.__module__.startswith(package) for check in kind.every())


def judge(evidence: Evidence) -> tuple[Finding, ...]:
    """All gates of the task, asked or not, and those of other tasks that were asked nevertheless."""
    return tuple(
        check.judge(evidence)
        for check in checks()
        if evidence.task in check.tasks or check.asked(evidence.spec.gates) is not None
    )
