"""The life of a version."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.events.deployer import RolloutChanged, RolloutEnded
from services.registry.domain.stages import (
    NotAwaited,
    check_awaiting,
    check_retirable,
    is_approved,
    stage_at_end,
    stages_after,
    strictest,
    weakens,
)
from tests.contract.examples import example

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EXAMPLE = RolloutChanged.model_validate(example(RolloutChanged.model_json_schema()))


def changed(phase: str, champion: int, challenger: int | None) -> RolloutChanged:
    release = EXAMPLE.champion
    parts: dict[str, Any] = {
        "phase": phase,
        "champion": release.model_copy(update={"version": champion}),
        "challenger": release.model_copy(update={"version": challenger}) if challenger else None,
    }
    return EXAMPLE.model_copy(update=parts)


def test_the_first_version_to_serve_is_the_champion() -> None:
    assert stages_after(changed("serving", 1, None), {1: "registered"}) == {1: "champion"}


def test_a_challenger_is_in_the_stage_of_its_phase() -> None:
    assert stages_after(changed("shadow", 1, 2), {1: "champion", 2: "registered"}) == {2: "shadow"}
    assert stages_after(changed("canary", 1, 2), {1: "champion", 2: "shadow"}) == {2: "canary"}


def test_a_promoted_challenger_archives_the_champion_before() -> None:
    assert stages_after(changed("serving", 2, None), {1: "champion", 2: "canary"}) == {2: "champion", 1: "archived"}


def test_a_restored_champion_is_champion_again() -> None:
    assert stages_after(changed("serving", 1, None), {1: "archived", 2: "champion"}) == {1: "champion", 2: "archived"}


def test_a_step_that_moves_nobody_changes_no_stage() -> None:
    assert stages_after(changed("canary", 1, 2), {1: "champion", 2: "canary"}) == {}


@pytest.mark.parametrize(
    ("outcome", "stage"), [("promoted", "champion"), ("rolled_back", "rolled_back"), ("replaced", "archived")]
)
def test_a_rollouts_outcome_is_the_stage_of_its_version(outcome: Any, stage: str) -> None:
    ended = RolloutEnded(model="flood", revision=3, version=2, outcome=outcome, reason="")

    assert stage_at_end(ended, "canary") == stage
    assert stage_at_end(ended, stage) is None


def test_a_retired_version_stays_retired_when_its_rollout_ends() -> None:
    ended = RolloutEnded(model="flood", revision=3, version=2, outcome="replaced", reason="retired")

    assert stage_at_end(ended, "retired") is None


def test_only_a_waiting_version_can_be_decided_and_only_in_time() -> None:
    check_awaiting("awaiting_approval", NOW, NOW - timedelta(seconds=1))

    with pytest.raises(NotAwaited, match="champion"):
        check_awaiting("champion", None, NOW)
    with pytest.raises(NotAwaited, match="expired"):
        check_awaiting("awaiting_approval", NOW, NOW)


def test_one_person_is_enough_unless_four_eyes_are_asked_for() -> None:
    assert is_approved("required", ["approver:ann"])
    assert not is_approved("four_eyes", ["approver:ann"])
    assert not is_approved("four_eyes", ["approver:ann", "approver"])  # whoever gives no name could be Ann again
    assert not is_approved("required", [])


@pytest.mark.parametrize("stage", ["trained", "awaiting_approval", "shadow", "canary", "champion", "retired"])
def test_what_serves_waits_for_a_verdict_or_is_retired_cannot_be_retired(stage: str) -> None:
    with pytest.raises(NotAwaited):
        check_retirable(stage)


def test_the_stricter_approval_policy_counts() -> None:
    assert strictest("required", "none") == "required"
    assert weakens("four_eyes", "required")
    assert not weakens("none", "required")
