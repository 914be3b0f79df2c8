"""What the monitor knows from the control plane when it decides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from schemas.events.monitor import Reason
from schemas.events.parts import Candidate, Offsets
from schemas.specs import ModelSpec, StreamSpec

_REVISIONS = 10


@dataclass(frozen=True, kw_only=True)
class Said:
    """An event that later ones go on from: its id, its lifecycle and its place in the trace."""

    event_id: str
    correlation_id: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, kw_only=True)
class TableVersion:
    """The newest version of a stream's table, and what it holds."""

    kind: Literal["data", "labels"]
    version: int
    offsets: Offsets
    said: Said


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """Who serves under a revision."""

    revision: int
    phase: Literal["serving", "shadow", "canary"]
    champion: int
    challenger: int | None
    said: Said


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training run that the monitor asked for, or wants to.

    `since`: the world is thought to have changed then; `misses`: runs in a row, this one included, whose candidates
    were no better.
    """

    run_id: str
    number: int
    state: Literal["wanted", "requested", "closed"]
    reason: Reason
    explanation: str
    cut_time: datetime
    data_offsets: Offsets
    labels_offsets: Offsets
    since: datetime | None = None
    outcome: str | None = None
    misses: int = 0


@dataclass(frozen=True, kw_only=True)
class Order:
    """A person's request for training."""

    event_id: str
    actor: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """One model: its declaration, versions, revisions by number, last run, and orders without an answer."""

    spec: ModelSpec
    revision: int = 0  # of the declaration
    releases: Mapping[int, Candidate] = field(default_factory=dict)
    rollouts: Mapping[int, Rollout] = field(default_factory=dict)
    served_from: Offsets = field(default_factory=dict)
    run: Run | None = None
    orders: Sequence[Order] = ()

    @property
    def rollout(self) -> Rollout | None:
        """The newest revision."""
        return self.rollouts[max(self.rollouts)] if self.rollouts else None

    @property
    def live(self) -> frozenset[int]:
        """The versions that score now."""
        newest = self.rollout
        arms = () if newest is None else (newest.champion, newest.challenger)
        return frozenset(version for version in arms if version is not None)

    @property
    def recent(self) -> frozenset[int]:
        """The versions of the newest revisions, whose answers may still be on their way."""
        newest = [self.rollouts[revision] for revision in sorted(self.rollouts)[-_REVISIONS:]]
        arms = (version for rollout in newest for version in (rollout.champion, rollout.challenger))
        return frozenset(version for version in arms if version is not None)


@dataclass(frozen=True, kw_only=True)
class StreamFacts:
    """One stream with its models and tables (the one heard last stands last)."""

    spec: StreamSpec
    revision: int = 0  # of the declaration
    models: Mapping[str, ModelFacts] = field(default_factory=dict)
    tables: Sequence[TableVersion] = ()
