"""A challenger that leaves records unanswered or takes too long falls by what its scorers count."""

import pytest

from schemas.events.deployer import RolloutEnded, Scoring, ScoringMeasured
from services.deployer.domain.pace import MIN_BATCHES, Compared, Tally, compared
from services.deployer.domain.rollout import Decision, Rollout
from tests.unit.rollout_cases import POLICY, rollout_of


def heard(
    batches: int, *, slow: int = 0, unanswered: int = 0, champion: int = 0, challenger: int = 2
) -> ScoringMeasured:
    scoring = Scoring(
        batches=batches,
        slow_batches=slow,
        records=100 * batches,
        unanswered={"champion": champion, "challenger": unanswered},
        seconds={"champion": 0.001 * batches, "challenger": 0.02 * batches},
    )
    return ScoringMeasured(model="m", revision=2, champion=1, challenger=challenger, scoring=scoring)


def after(*words: ScoringMeasured, rollout: Rollout | None = None) -> Decision:
    decision = Decision(rollout or rollout_of(POLICY))
    for word in words:
        decision = decision.rollout.scored(word)
    return decision


def reasons(decision: Decision) -> list[str]:
    return [event.reason for event, _ in decision.said if isinstance(event, RolloutEnded)]


def test_a_challenger_that_leaves_records_unanswered_falls_whatever_scorer_saw_it() -> None:
    assert reasons(after(heard(1, unanswered=6))) == []
    assert reasons(after(heard(1, unanswered=6), heard(1, unanswered=6))) == [
        "left 12 of 200 records unanswered, the champion 0"
    ]


@pytest.mark.parametrize("word", [heard(1, unanswered=50, champion=45), heard(1000, unanswered=20), heard(1)])
def test_what_the_champion_cannot_answer_either_and_what_is_rare_is_no_fault_of_the_challenger(
    word: ScoringMeasured,
) -> None:
    assert reasons(after(word)) == []


def test_a_challenger_that_is_slow_in_most_batches_falls() -> None:
    assert reasons(after(heard(60, slow=40))) == ["slow in 40 of 60 batches: 20.00 ms each, the champion 1.00 ms"]


@pytest.mark.parametrize("word", [heard(MIN_BATCHES - 1, slow=MIN_BATCHES - 1), heard(100, slow=50)])
def test_single_slow_batches_are_the_machines(word: ScoringMeasured) -> None:
    assert reasons(after(word)) == []


def test_words_about_another_challenger_say_nothing_and_a_new_one_begins_anew() -> None:
    before = after(heard(49, slow=49)).rollout

    assert after(heard(60, slow=60, challenger=3), rollout=before) == Decision(before)
    assert before.scoring.batches == 49
    assert before.ordered("rollback", "why").rollout.scoring == before.scoring


def test_a_frozen_rollout_counts_but_does_not_fall() -> None:
    frozen = rollout_of(POLICY).ordered("freeze", "why").rollout

    decision = after(heard(60, slow=60), rollout=frozen)

    assert (decision.said, decision.rollout.scoring.slow_batches) == ((), 60)


@pytest.mark.parametrize(
    ("champion", "challenger", "records", "slow"),
    [(0.001, 0.004, 1, 0), (0.001, 0.006, 1, 1), (0.004, 0.006, 1, 0), (0.001, 0.05, 1000, 0), (0.001, 0.06, 1000, 1)],
)
def test_a_batch_is_slow_beside_the_champions_and_beyond_what_it_may_take(
    champion: float, challenger: float, records: int, slow: int
) -> None:
    rollout = rollout_of(POLICY)
    assert rollout.challenger is not None

    seconds = {"champion": champion, "challenger": challenger}
    found = compared(rollout.challenger.release, records, seconds=seconds, unanswered={})  # type: ignore[arg-type]

    assert (found.batches, found.slow_batches, found.records) == (1, slow, records)


def test_a_scorer_speaks_seldom_but_at_once_of_what_is_unanswered() -> None:
    tally, said = Tally(), []
    for number in range(1, 1001):
        tally.add(Compared("m", 2, Scoring(batches=1, records=1)))
        said += [(number, each.scoring.batches) for each in tally.due({"m": 2})]
    tally.add(Compared("m", 2, Scoring(batches=1, records=500, unanswered={"challenger": 10})))

    [mute] = tally.due({"m": 2})

    assert said == [(50, 50), (100, 50), (200, 100), (400, 200), (800, 400)]
    assert (mute.scoring.batches, mute.scoring.unanswered["challenger"]) == (201, 10)


def test_what_is_left_of_a_revision_that_is_over_is_forgotten() -> None:
    tally = Tally()
    for _ in range(60):
        tally.add(Compared("m", 2, Scoring(batches=1, records=1)))

    assert tally.due({"m": 3}) == []
    assert tally.due({"m": 2}) == []
