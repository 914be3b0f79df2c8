"""The rollout's transitions, each from a state that the domain itself reached."""

from datetime import UTC, datetime

import pytest

from schemas.events.deployer import PredictionsWithdrawn, RolloutChanged, RolloutEnded
from schemas.events.monitor import ArmMeasured, Pairs, RolloutMeasured
from schemas.specs import Rollout as Policy
from services.deployer.domain.entrant import Entrant
from services.deployer.domain.rollout import Decision, Rollout
from tests.scoring_world import model_spec, release_of, stream_spec

PARTITIONS = 4
STREAM = stream_spec("s", PARTITIONS)
POLICY = Policy(shadow=1000, canary=(0.1, 0.5), margin=0.02, error_rate=0.05, max_labels=20_000)
GOOD, BAD, UNSURE = 0.0, 0.1, 0.01


def entrant(version: int, policy: Policy = POLICY) -> Entrant:
    release = release_of(version, model_spec("m", "s", policy), STREAM)
    return Entrant(release=release, correlation_id=f"run-{version}", traceparent=f"trace-{version}")


def serving(version: int = 1) -> Rollout:
    return Rollout(model="m").approved(entrant(version)).rollout


def in_shadow(policy: Policy = POLICY) -> Rollout:
    return serving().approved(entrant(2, policy)).rollout


def in_canary() -> Rollout:
    rollout = in_shadow()
    return rollout.measured(evidence(rollout), PARTITIONS).rollout


def promoted() -> Rollout:
    rollout = in_canary()
    for _ in POLICY.canary:
        rollout = rollout.measured(evidence(rollout), PARTITIONS).rollout
    return rollout


def evidence(
    rollout: Rollout,
    mean: float = GOOD,
    *,
    n: int = 3000,
    of_revision: int = 1500,
    scores: int = 5000,
    revision: int = 0,
) -> RolloutMeasured:
    """What the monitor would say of a challenger whose losses differ by `mean`, with a spread of 0.1."""
    assert rollout.champion is not None
    assert rollout.challenger is not None

    def pairs(count: int) -> Pairs:
        return Pairs(n=count, total=mean * count, total_squares=(mean * mean + 0.01) * count)

    arm = ArmMeasured(scored=scores, labelled=n)
    return RolloutMeasured(
        model="m",
        revision=revision or rollout.revision,
        champion=rollout.champion.version,
        challenger=rollout.challenger.version,
        measured_at=datetime(2013, 2, 1, tzinfo=UTC),
        pairs=pairs(n),
        pairs_of_revision=pairs(of_revision),
        paired_scores=scores,
        arms={"champion": arm, "challenger": arm},
    )


def changes(decision: Decision) -> list[RolloutChanged]:
    return [event for event, _ in decision.said if isinstance(event, RolloutChanged)]


def ends(decision: Decision) -> list[tuple[int, str]]:
    return [(event.version, event.outcome) for event, _ in decision.said if isinstance(event, RolloutEnded)]


def withdrawn(decision: Decision) -> list[tuple[int, int, int]]:
    return [
        (event.version, event.from_revision, event.until_revision)
        for event, _ in decision.said
        if isinstance(event, PredictionsWithdrawn)
    ]


def test_the_first_release_becomes_champion_at_once() -> None:
    decision = Rollout(model="m").approved(entrant(1))

    [event] = changes(decision)
    assert (event.revision, event.phase, event.champion.version, event.challenger) == (1, "serving", 1, None)
    assert ends(decision) == []


def test_the_second_release_enters_in_shadow_and_serves_nobody() -> None:
    decision = serving().approved(entrant(2))

    [event] = changes(decision)
    assert event.challenger is not None
    assert (event.revision, event.phase, event.share) == (2, "shadow", 0.0)
    assert (event.champion.version, event.challenger.version) == (1, 2)


def test_everything_said_of_a_release_goes_on_in_its_own_lifecycle() -> None:
    decision = serving().approved(entrant(2))

    assert [(about.correlation_id, about.traceparent) for _, about in decision.said] == [("run-2", "trace-2")]


def test_a_rollout_steps_from_shadow_through_its_canary_shares_to_champion() -> None:
    rollout, seen = in_shadow(), []

    for _ in range(3):
        decision = rollout.measured(evidence(rollout), PARTITIONS)
        rollout = decision.rollout
        seen += [(event.phase, event.share, event.step, event.champion.version) for event in changes(decision)]

    assert seen == [("canary", 0.1, 0, 1), ("canary", 0.5, 1, 1), ("serving", 0.0, 0, 2)]
    assert ends(decision) == [(2, "promoted")]


def test_each_change_has_the_next_revision() -> None:
    assert [serving().revision, in_shadow().revision, in_canary().revision, promoted().revision] == [1, 2, 3, 5]


def test_the_salt_stays_for_a_rollout_and_differs_between_rollouts() -> None:
    assert in_shadow().salt == in_canary().salt
    assert in_shadow().salt != promoted().approved(entrant(3)).rollout.salt


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"scores": 999}, "too few paired scores"),
        ({"revision": 1}, "evidence of an earlier revision"),
    ],
)
def test_shadow_goes_on_while_something_is_missing(change: dict[str, int], why: str) -> None:
    rollout = in_shadow()

    assert rollout.measured(evidence(rollout, **change), PARTITIONS) == Decision(rollout), why


def test_no_step_is_left_before_every_partition_has_switched() -> None:
    for rollout in (in_shadow(), in_canary()):
        assert rollout.measured(evidence(rollout), PARTITIONS - 1) == Decision(rollout)


def test_shadow_is_left_without_labels_when_there_are_canary_steps_to_gather_them() -> None:
    rollout = in_shadow()

    assert changes(rollout.measured(evidence(rollout, n=0, of_revision=0), PARTITIONS))[0].phase == "canary"


def test_without_canary_steps_shadow_is_left_by_matured_labels_only() -> None:
    rollout = in_shadow(Policy(shadow=1000, canary=()))

    waits = rollout.measured(evidence(rollout, n=0, of_revision=0), PARTITIONS)
    goes = rollout.measured(evidence(rollout), PARTITIONS)

    assert waits == Decision(rollout)
    assert ends(goes) == [(2, "promoted")]


@pytest.mark.parametrize("change", [{"of_revision": 99}, {"mean": UNSURE, "n": 600}, {"n": 400}])
def test_a_canary_step_goes_on_while_its_labels_do_not_speak(change: dict[str, float]) -> None:
    rollout = in_canary()

    assert rollout.measured(evidence(rollout, **change), PARTITIONS) == Decision(rollout)  # type: ignore[arg-type]


def test_a_bad_challenger_in_shadow_falls_and_has_nothing_to_withdraw() -> None:
    rollout = in_shadow()

    decision = rollout.measured(evidence(rollout, BAD), switched=0)

    [event] = changes(decision)
    assert (event.phase, event.champion.version, event.challenger) == ("serving", 1, None)
    assert (ends(decision), withdrawn(decision)) == ([(2, "rolled_back")], [])


def test_a_bad_challenger_in_canary_falls_and_what_it_served_is_withdrawn() -> None:
    rollout = in_canary()
    later = rollout.measured(evidence(rollout), PARTITIONS).rollout

    decision = later.measured(evidence(later, BAD), switched=0)

    assert ends(decision) == [(2, "rolled_back")]
    assert withdrawn(decision) == [(2, 3, 4)]
    assert decision.rollout.revision == 5


def test_evidence_about_other_versions_says_nothing() -> None:
    rollout = in_canary()
    about_another = evidence(rollout, BAD).model_copy(update={"challenger": 7})

    assert rollout.measured(about_another, PARTITIONS) == Decision(rollout)
    assert promoted().measured(evidence(rollout, BAD), PARTITIONS) == Decision(promoted())


def test_a_newer_release_replaces_one_in_shadow() -> None:
    decision = in_shadow().approved(entrant(3))

    assert ends(decision) == [(2, "replaced")]
    [event] = changes(decision)
    assert event.challenger is not None
    assert (event.phase, event.challenger.version) == ("shadow", 3)


def test_a_newer_release_waits_behind_one_in_canary_and_enters_when_that_is_over() -> None:
    rollout = in_canary()

    waits = rollout.approved(entrant(3))
    falls = waits.rollout.measured(evidence(rollout, BAD), PARTITIONS)

    assert changes(waits) == []
    assert [(event.phase, event.challenger and event.challenger.version) for event in changes(falls)] == [
        ("serving", None),
        ("shadow", 3),
    ]
    assert falls.rollout.waiting is None


def test_the_newest_of_several_that_wait_enters() -> None:
    decision = in_canary().approved(entrant(3)).rollout.approved(entrant(4))

    assert ends(decision) == [(3, "replaced")]
    assert decision.rollout.waiting == entrant(4)


@pytest.mark.parametrize("rollout", [serving(3), serving(2).approved(entrant(3)).rollout])
def test_an_older_release_does_not_enter_and_that_is_said(rollout: Rollout) -> None:
    decision = rollout.approved(entrant(1))

    assert (decision.rollout, ends(decision)) == (rollout, [(1, "replaced")])


def test_a_release_heard_twice_changes_nothing() -> None:
    for rollout in (serving(2), in_shadow(), in_canary()):
        assert rollout.approved(entrant(2)) == Decision(rollout)


def test_a_persons_rollback_ends_a_running_rollout() -> None:
    decision = in_canary().ordered("rollback", "rollback by ada: it is slow")

    assert (ends(decision), withdrawn(decision)) == ([(2, "rolled_back")], [(2, 3, 3)])
    assert changes(decision)[0].reason == "rollback by ada: it is slow"


def test_a_persons_rollback_of_a_champion_restores_the_one_before() -> None:
    decision = promoted().ordered("rollback", "why")

    [event] = changes(decision)
    assert (event.phase, event.champion.version) == ("serving", 1)
    assert (ends(decision), withdrawn(decision)) == ([(2, "rolled_back")], [(2, 3, 5)])
    assert decision.rollout.ordered("rollback", "again") == Decision(decision.rollout)


def test_a_person_promotes_from_shadow_straight_to_champion_even_when_frozen() -> None:
    frozen = in_shadow().ordered("freeze", "why").rollout

    decision = frozen.ordered("promote", "why")

    assert changes(decision)[0].champion.version == 2
    assert ends(decision) == [(2, "promoted")]


def test_a_frozen_rollout_takes_no_step_by_itself() -> None:
    frozen = in_canary().ordered("freeze", "why")

    assert changes(frozen)[0].frozen
    for mean in (GOOD, BAD):
        assert frozen.rollout.measured(evidence(frozen.rollout, mean), PARTITIONS) == Decision(frozen.rollout)
    assert frozen.rollout.ordered("freeze", "again") == Decision(frozen.rollout)


def test_a_release_waits_while_frozen_and_enters_when_that_ends() -> None:
    frozen = serving().ordered("freeze", "why").rollout

    waits = frozen.approved(entrant(2))
    enters = waits.rollout.ordered("unfreeze", "why")

    assert changes(waits) == []
    assert [(event.phase, event.frozen) for event in changes(enters)] == [("serving", False), ("shadow", False)]


def test_a_first_release_waits_when_a_person_froze_the_model_before() -> None:
    frozen = Rollout(model="m").ordered("freeze", "why")

    waits = frozen.rollout.approved(entrant(1))
    enters = waits.rollout.ordered("unfreeze", "why")

    assert (changes(frozen), changes(waits)) == ([], [])
    assert changes(enters)[0].champion.version == 1


def test_orders_that_find_nothing_to_do_say_nothing() -> None:
    for order in ("rollback", "promote", "unfreeze"):
        assert serving().ordered(order, "why") == Decision(serving())


def ordered_at_once() -> Rollout:
    """Version 2 is champion by a person's word, before any scorer served it."""
    return in_shadow().ordered("promote", "why").rollout


def unloaded(rollout: Rollout, version: int, *, revision: int | None = None, switched: int = 0) -> Decision:
    return rollout.not_loaded(version, rollout.revision if revision is None else revision, switched, "not ONNX")


def test_a_challenger_that_does_not_load_falls() -> None:
    assert ends(unloaded(in_shadow(), 2)) == [(2, "rolled_back")]


def test_a_new_champion_that_does_not_load_gives_way_to_the_one_before_and_a_first_one_stays() -> None:
    assert changes(unloaded(ordered_at_once(), 2))[0].champion.version == 1
    assert unloaded(serving(), 1) == Decision(serving())


def test_a_version_that_a_scorer_serves_stays_though_another_cannot_load_it() -> None:
    for rollout in (in_shadow(), in_canary(), ordered_at_once(), promoted()):
        assert unloaded(rollout, 2, switched=1) == Decision(rollout)


def test_a_load_that_failed_under_an_earlier_revision_says_nothing() -> None:
    for rollout in (in_canary(), ordered_at_once()):
        assert unloaded(rollout, 2, revision=rollout.revision - 1) == Decision(rollout)


def test_a_champion_is_proven_from_the_first_revision_it_served_a_challenger_by_the_current_one() -> None:
    canary, champion = in_canary(), promoted()

    assert (canary.entered(2), champion.entered(2)) == (canary.revision, canary.revision)
    assert champion.revision > canary.revision


def test_a_freeze_does_not_shield_what_does_not_load_and_goes_on() -> None:
    for rollout in (in_shadow(), ordered_at_once()):
        decision = unloaded(rollout.ordered("freeze", "why").rollout, 2)

        assert ends(decision) == [(2, "rolled_back")]
        assert decision.rollout.frozen


def test_beside_the_champion_before_a_challenger_begins_anew_in_shadow() -> None:
    rollout = ordered_at_once().approved(entrant(3)).rollout

    decision = unloaded(rollout, 2)

    [change] = changes(decision)
    assert change.challenger is not None
    assert (change.phase, change.champion.version, change.challenger.version, change.share) == ("shadow", 1, 3, 0.0)
    assert ends(decision) == [(2, "rolled_back")]


def test_a_retired_version_leaves_wherever_it_stands_but_a_champion_goes_on() -> None:
    waiting = in_canary().approved(entrant(3)).rollout

    assert ends(in_shadow().retired(2, "why")) == [(2, "rolled_back")]
    assert ends(waiting.retired(3, "why")) == [(3, "replaced")]
    assert promoted().retired(1, "why").rollout.former is None
    assert serving().retired(1, "why") == Decision(serving())


def test_the_state_survives_its_journey_through_json() -> None:
    for rollout in (Rollout(model="m"), in_canary(), promoted()):
        assert Rollout.model_validate_json(rollout.model_dump_json()) == rollout
