"""What ends a rollout or holds it up before any label has come."""

import numpy as np
import pytest

from schemas.events.deployer import RolloutEnded
from schemas.events.monitor import ExpectedPairs, FeatureDrift, Pairs, RolloutMeasured
from services.deployer.domain.rollout import Decision
from services.deployer.domain.sequential import MIN_PAIRS
from services.monitor.domain.facts import Rollout as Known
from services.monitor.domain.facts import Said
from services.monitor.domain.pairs import Evidence
from tests.unit.rollout_cases import POLICY, STREAM, Case, Drawn, Trial, rollout_of

PARTITIONS = STREAM.partitions


def unlabelled(**changes: object) -> RolloutMeasured:
    """Of 2,500 events that both arms scored in the shadow."""
    evidence = Evidence(champion=1, challenger=2, paired_scores=2500, scored={1: 2500, 2: 2500})
    said = Said(event_id="")
    told = evidence.tell(Known(revision=2, phase="shadow", champion=1, challenger=2, said=said), "m", 0)
    return told.model_copy(update=changes)


def decided(told: RolloutMeasured) -> Decision:
    return rollout_of(POLICY).measured(told, PARTITIONS)


def reason(decision: Decision) -> str:
    [ended] = [event for event, _ in decision.said if isinstance(event, RolloutEnded)]
    assert ended.outcome == "rolled_back"
    return ended.reason


def far(value: float) -> FeatureDrift:
    return FeatureDrift(feature="score", statistic="ks", value=value, threshold=0.1, drifted=value > 0.1)


def expected(mean: float, *, doubted: bool = False, n: int = 2500) -> ExpectedPairs:
    pairs = Pairs(n=n, total=mean * n, total_squares=(mean * mean + 0.001) * n)
    return ExpectedPairs(pairs=pairs, doubted=doubted)


def phase(decision: Decision) -> str:
    return decision.rollout.phase


def test_without_any_traffic_a_rollout_waits() -> None:
    nothing = Evidence(champion=1, challenger=2)
    known = Known(revision=2, phase="shadow", champion=1, challenger=2, said=Said(event_id=""))

    decision = decided(nothing.tell(known, "m", 0))

    assert not nothing.news(known, POLICY)
    assert decision == Decision(rollout_of(POLICY))


def test_a_challenger_whose_scores_are_not_those_it_was_validated_with_falls_at_once() -> None:
    decision = decided(unlabelled(scores={"champion": far(0.05), "challenger": far(0.4)}))

    assert reason(decision).startswith("its scores are not those it was validated with: distance 0.400")


@pytest.mark.parametrize("scores", [{"champion": far(0.3), "challenger": far(0.4)}, {"challenger": far(0.9)}])
def test_where_the_champions_scores_moved_too_or_are_not_known_the_world_may_have(scores: dict[str, object]) -> None:
    assert phase(decided(unlabelled(scores=scores))) == "canary"


def test_a_challenger_that_is_expected_to_be_worse_stays_in_the_shadow_until_labels_speak() -> None:
    held = unlabelled(expected=expected(0.02))
    labelled = held.model_copy(update={"pairs": Pairs(n=MIN_PAIRS, total=0.0, total_squares=1.0)})

    assert decided(held) == Decision(rollout_of(POLICY))
    assert phase(decided(labelled)) == "canary"


def test_a_challenger_that_is_expected_to_be_far_worse_falls() -> None:
    assert reason(decided(unlabelled(expected=expected(0.05)))).startswith("expected to be worse than the champion")


def test_an_estimate_that_labels_have_contradicted_says_nothing() -> None:
    assert phase(decided(unlabelled(expected=expected(0.05, doubted=True)))) == "canary"


def test_an_estimate_never_promotes() -> None:
    told = unlabelled(expected=expected(-0.2, n=50_000))

    canary = decided(told)
    again = canary.rollout.measured(told.model_copy(update={"revision": 3}), PARTITIONS)

    assert (phase(canary), again) == ("canary", Decision(canary.rollout))


def test_a_frozen_rollout_is_left_to_people() -> None:
    frozen = rollout_of(POLICY).ordered("freeze", "why").rollout
    told = unlabelled(scores={"champion": far(0.05), "challenger": far(0.4)})

    assert frozen.measured(told, PARTITIONS) == Decision(frozen)


def broken(events: Drawn) -> Drawn:
    """The challenger answers with half of what it should: its inputs are not what it was trained on."""
    return events._replace(answers=np.column_stack([events.answers[:, 0], events.answers[:, 1] / 2]))


def unsure(events: Drawn) -> Drawn:
    return events._replace(answers=np.column_stack([events.answers[:, 0], 0.5 + (events.answers[:, 1] - 0.5) / 50]))


@pytest.mark.parametrize("spoil", [broken, unsure])
def test_a_broken_challenger_falls_in_the_shadow_before_a_label_has_come(spoil: object) -> None:
    told = Trial(Case(lag=20_000), 1, spoil).run()  # type: ignore[arg-type]

    assert (told.outcome, told.pairs, told.share) == ("rolled_back", 0, 0.0)
