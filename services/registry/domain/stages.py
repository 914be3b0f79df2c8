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
_STRICTNESS = ("none", "required", "four_eyes")
NEEDING: Collection[str] = ("trained", "registered", "awaiting_approval", "approved", "shadow", "canary", "champion")
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
    return {version: stage for version, stage in after.items() if now.get(version) not in (stage, "retired")}


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
    """Whether the people who said yes are enough; the same person twice is one, and four eyes have two names.

    A name is proven where approvers have tokens of their own; else it is its holder's word, which the audit keeps.

    >>> is_approved("four_eyes", ["approver:ann", "approver"])
    False
    >>> is_approved("four_eyes", ["approver:ann", "approver:bob"])
    True
    """
    if policy == "four_eyes":
        return len({actor for actor in actors if ":" in actor}) >= 2
    return len(actors) >= 1


def strictest(*policies: Policy) -> Policy:
    """The policy that asks for most.

    >>> strictest("none", "four_eyes", "required")
    'four_eyes'
    """
    return max(policies, key=_STRICTNESS.index)


def weakens(old: object, new: object) -> bool:
    """Whether a declared approval policy asks for less than the one before."""
    return _STRICTNESS.index(str(new)) < _STRICTNESS.index(str(old))


def check_retirable(stage: str) -> None:
    """A version that serves, is being tried or waits for a verdict cannot be retired.

    Raises:
        NotAwaited: it is one of these, or retired already.
    """
    if stage in ("trained", "awaiting_approval"):
        raise NotAwaited(f"the version is {stage}; it can be retired when its gates and approvers have spoken")
    if stage in LIVE:
        raise NotAwaited(f"the version is {stage}; roll it back first")
    if stage == "retired":
        raise NotAwaited("the version is retired already")
