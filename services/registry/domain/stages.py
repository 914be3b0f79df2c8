"""The life of a version, and who must say yes to it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from schemas.events.deployer import RolloutChanged, RolloutEnded
from shared.errors import Refusal

Stage: TypeAlias = Literal["trained", "rejected", "registered", "awaiting_approval", "approved", "refused", "shadow",
                           "canary", "champion", "archived", "rolled_back", "retired"]  # fmt: skip
Policy: TypeAlias = Literal["none", "required", "four_eyes"]
LIVE: Collection[str] = ("shadow", "canary", "champion")


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A version enters a stage: when, by whom and why."""

    model: str
    version: int
    stage: Stage
    at: datetime
    actor: str
    reason: str


class NotAwaited(Refusal):
    """The version does not wait for this decision."""


def stages_after(changed: RolloutChanged, now: Mapping[int, str]) -> dict[int, Stage]:
    """The versions whose stage a rollout's revision changes; a replaced champion is archived.

    A challenger that is no longer one keeps its stage until the rollout's end says what became of it.
    """
    after: dict[int, Stage] = {changed.champion.version: "champion"}
    if changed.challenger and changed.phase != "serving":
        after[changed.challenger.version] = changed.phase
    former = (version for version, stage in now.items() if stage == "champion" and version not in after)
    after |= dict.fromkeys(former, "archived")
    return {version: stage for version, stage in after.items() if now.get(version) != stage}


def stage_at_end(ended: RolloutEnded, now: str | None) -> Stage | None:
    """What a rollout's outcome makes of its version; None when it stays what it is, as what is retired does."""
    outcomes: dict[str, Stage] = {"promoted": "champion", "rolled_back": "rolled_back", "replaced": "archived"}
    stage = outcomes[ended.outcome]
    return None if now in (stage, "retired", None) else stage


def check_awaiting(stage: str, expires_at: datetime | None, now: datetime) -> None:
    """Only a version that waits for approval can be approved or refused.

    Raises:
        NotAwaited: it does not wait, or no longer.
    """
    if stage != "awaiting_approval":
        raise NotAwaited(f"the version is {stage}; only one that is awaiting_approval can be approved or refused")
    if expires_at is not None and now >= expires_at:
        raise NotAwaited(f"the request expired at {expires_at.isoformat()}")


def is_approved(policy: str, actors: Collection[str]) -> bool:
    """Whether the people who said yes are enough; the same person twice is one.

    >>> is_approved("four_eyes", ["ann", "ann"]), is_approved("four_eyes", ["ann", "bob"])
    (False, True)
    """
    return len(set(actors)) >= (2 if policy == "four_eyes" else 1)


def check_retirable(stage: str) -> None:
    """A version that serves or is being tried cannot be retired.

    Raises:
        NotAwaited: it is live, or retired already.
    """
    if stage in LIVE:
        raise NotAwaited(f"the version is {stage}; roll it back first")
    if stage == "retired":
        raise NotAwaited("the version is retired already")
