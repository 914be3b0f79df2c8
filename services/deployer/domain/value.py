"""What decisions were worth by the cost matrix, beside those that another version would have made instead."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.specs import Costs
from services.deployer.domain.comparison import Answer, Served

Json = dict[str, Any]
Offsets = Mapping[int, int]


@dataclass(kw_only=True)
class Sum:
    """Over labelled records: what was served cost, and what would have been served instead."""

    labelled: int = 0
    served: float = 0.0
    instead: float = 0.0

    def add(self, served: float, instead: float) -> None:
        self.labelled += 1
        self.served += served
        self.instead += instead

    @property
    def earned(self) -> float:
        return self.instead - self.served


@dataclass(frozen=True, kw_only=True)
class Fall:
    """A version that was taken back: from these offsets on others served, until the next champion came at those."""

    version: int
    since: Offsets
    until: Offsets | None

    def holds(self, partition: int, offset: int) -> bool:
        """Whether the record was answered in that time."""
        if partition not in self.since or offset < self.since[partition]:
            return False
        return self.until is None or offset < self.until.get(partition, offset + 1)


@dataclass(kw_only=True)
class Account:
    """Retraining, by the version that served, against the first one; rollbacks, by the version that was taken back."""

    costs: Costs
    retraining: dict[int, Sum] = field(default_factory=dict)
    rollbacks: dict[int, Sum] = field(default_factory=dict)

    def retrained(self, first: Answer, served: Served, truth: bool) -> None:
        """A labelled record, as it was served and as the first version answers it."""
        found = self.retraining.setdefault(served.version, Sum())
        found.add(cost(self.costs, served.answer.label, truth), cost(self.costs, first.label, truth))

    def rolled_back(self, fallen: int, answer: Answer, served: Served, truth: bool) -> None:
        """A labelled record after a version fell, as it was served and as the fallen one answers it."""
        found = self.rollbacks.setdefault(fallen, Sum())
        found.add(cost(self.costs, served.answer.label, truth), cost(self.costs, answer.label, truth))


def cost(costs: Costs, answer: object, truth: bool) -> float:
    """One decision's.

    >>> costs = Costs(false_positive=1, false_negative=5)
    >>> cost(costs, True, True), cost(costs, True, False), cost(costs, False, True)
    (0.0, 1.0, 5.0)
    """
    if bool(answer) == truth:
        return 0.0
    return float(costs.false_negative if truth else costs.false_positive)


def falls(steps: Sequence[Json], taken_back: Sequence[int]) -> Iterator[Fall]:
    """When versions fell, out of all revisions of a model, oldest first; `taken_back`: which were rolled back.

    A revision has `revision`, `champion`, `challenger` and `switched`: the offset at which each partition followed.
    """
    for version in taken_back:
        lived = [index for index, step in enumerate(steps) if version in (step["champion"], step["challenger"])]
        if not lived or lived[-1] + 1 >= len(steps):
            continue
        after = steps[lived[-1] + 1]
        later = (step for step in steps[lived[-1] + 1 :] if step["champion"] != after["champion"])
        following = next(later, None)
        until = None if following is None else _offsets(following)
        yield Fall(version=version, since=_offsets(after), until=until)


def _offsets(step: Json) -> dict[int, int]:
    return {int(partition): offset for partition, offset in step["switched"].items()}
