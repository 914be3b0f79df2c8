"""The blast radius of a version: each prediction that it served, counted from the topic, held against the fences."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from shared.records import Prediction

Json = dict[str, Any]


class Fence(NamedTuple):
    """From this input offset on a partition is served under this revision."""

    offset: int
    revision: int


@dataclass(frozen=True, kw_only=True)
class Served:
    """What the record knows of a version: the revisions under which it answered, and the fences of each partition."""

    version: int
    revisions: tuple[int, ...]
    fences: Mapping[int, Sequence[Fence]]

    @classmethod
    def of(cls, version: int, steps: Iterable[Json]) -> "Served":
        """From the steps of all rollouts of a model, as the registry's API gives them.

        >>> steps = [{"revision": 1, "champion": 1, "challenger": None, "share": 0, "switched": {"0": 0}},
        ...     {"revision": 2, "champion": 1, "challenger": 2, "share": 0.1, "switched": {"0": 7}}]
        >>> Served.of(2, steps)
        Served(version=2, revisions=(2,), fences={0: [Fence(offset=0, revision=1), Fence(offset=7, revision=2)]})
        """
        fences: dict[int, list[Fence]] = {}
        revisions = []
        for step in sorted(steps, key=lambda step: int(step["revision"])):
            if version == step["champion"] or (version == step["challenger"] and step["share"] > 0):
                revisions.append(step["revision"])
            for partition, offset in step["switched"].items():
                fences.setdefault(int(partition), []).append(Fence(offset, step["revision"]))
        return cls(version=version, revisions=tuple(revisions), fences=fences)

    def revision_at(self, partition: int, offset: int) -> int | None:
        """Under which revision the fences say that an input was answered; None before the first."""
        fences = self.fences.get(partition, ())
        index = bisect_right(fences, offset, key=lambda fence: fence.offset)
        return fences[index - 1].revision if index else None


@dataclass(kw_only=True)
class Part:
    """Of one partition; `offsets` are of the input, `entities` are hashes: memory grows with them alone."""

    arms: dict[str, int] = field(default_factory=lambda: {"champion": 0, "canary": 0})
    first_offset: int | None = None
    last_offset: int | None = None
    first_time: datetime | None = None
    last_time: datetime | None = None
    entities: set[int] = field(default_factory=set)
    beyond: int = 0  # answered under another revision than the fences say

    @property
    def predictions(self) -> int:
        return sum(self.arms.values())

    def take(self, prediction: Prediction, fenced: int | None) -> None:
        self.arms[prediction.arm] += 1
        self.entities.add(hash(prediction.entity))
        self.beyond += prediction.revision != fenced
        offset, time = prediction.offset, prediction.time
        self.first_offset = offset if self.first_offset is None else min(self.first_offset, offset)
        self.last_offset = offset if self.last_offset is None else max(self.last_offset, offset)
        self.first_time = time if self.first_time is None else min(self.first_time, time)
        self.last_time = time if self.last_time is None else max(self.last_time, time)

    def said(self) -> Json:
        """For scripts."""
        return {
            "predictions": self.predictions,
            **self.arms,
            "first_offset": self.first_offset,
            "last_offset": self.last_offset,
            "entities": len(self.entities),
            "first_time": self.first_time.isoformat() if self.first_time else None,
            "last_time": self.last_time.isoformat() if self.last_time else None,
            "beyond_fences": self.beyond,
        }


def total(parts: Iterable[Part]) -> Part:
    """All partitions together; offsets of several partitions say nothing."""
    whole = Part()
    for part in parts:
        whole.arms = {arm: number + part.arms[arm] for arm, number in whole.arms.items()}
        whole.entities |= part.entities
        whole.beyond += part.beyond
        times = [each for each in (whole.first_time, part.first_time) if each]
        whole.first_time = min(times, default=None)
        times = [each for each in (whole.last_time, part.last_time) if each]
        whole.last_time = max(times, default=None)
    return whole
