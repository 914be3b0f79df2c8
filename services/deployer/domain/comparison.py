"""How the answers of a replayed version compare with what was served for the same records."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from schemas.specs import StreamSpec, Task
from shared.quality import metrics


class Answer(NamedTuple):
    """One record's, by whichever version; probabilities are of classes."""

    score: float
    label: bool | str | None
    probabilities: Mapping[str, float] | None = None


class Served(NamedTuple):
    """What was answered then, and by which version and arm."""

    version: int
    arm: str
    answer: Answer


@dataclass(kw_only=True)
class Beside:
    """Records that one version served: how many scores are equal, how far the others lie, how many labels changed."""

    rows: int = 0
    equal: int = 0
    furthest: float = 0.0
    changed: int = 0

    def add(self, then: Answer, now: Answer) -> None:
        self.rows += 1
        self.equal += then == now
        self.furthest = max(self.furthest, abs(then.score - now.score))
        self.changed += then.label != now.label

    def said(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "equal_scores": self.equal,
            "furthest_score": self.furthest,
            "changed_labels": self.changed / self.rows,
        }


@dataclass(kw_only=True)
class Comparison:
    """Of one replay, record by record; memory grows with the labelled records alone."""

    task: Task
    spec: StreamSpec
    rows: int = 0
    unanswered: int = 0
    unserved: int = 0
    beside: dict[int, Beside] = field(default_factory=dict)  # by the version that served
    _truths: list[float] = field(default_factory=list)
    _then: list[list[float]] = field(default_factory=list)
    _now: list[list[float]] = field(default_factory=list)

    def add(self, now: Answer | None, served: Served | None, truth: Any | None) -> None:
        """A record's answer (None: not finite), what was served, and what came of it, where that is known."""
        self.rows += 1
        self.unanswered += now is None
        self.unserved += served is None
        if now is None or served is None:
            return
        self.beside.setdefault(served.version, Beside()).add(served.answer, now)
        if truth is not None:
            self._truths.append(self._code(truth))
            self._then.append(self._output(served.answer))
            self._now.append(self._output(now))

    def _code(self, truth: Any) -> float:
        values = self.spec.label.values
        return float(values.index(truth)) if values else float(truth)

    def _output(self, answer: Answer) -> list[float]:
        if answer.probabilities is None:
            return [answer.score]
        return [answer.probabilities.get(name, 0.0) for name in self.spec.label.values]

    def said(self) -> dict[str, Any]:
        """For people and scripts; both metrics are over the same labelled records."""
        return {
            "rows": self.rows,
            "not_answered": self.unanswered,
            "not_served": self.unserved,
            "beside": {version: self.beside[version].said() for version in sorted(self.beside)},
            "labelled": len(self._truths),
            "metrics": {"replayed": self._metrics(self._now), "served": self._metrics(self._then)},
        }

    def _metrics(self, outputs: list[list[float]]) -> dict[str, float]:
        if not outputs:
            return {}
        found = np.array(outputs)
        return metrics(self.task, np.array(self._truths), found[:, 0] if found.shape[1] == 1 else found)
