"""What decisions were worth beside those that another version would have made."""

from typing import Any

from schemas.specs import Costs
from services.deployer.domain.comparison import Answer, Served
from services.deployer.domain.value import Account, falls

COSTS = Costs(false_positive=1, false_negative=5)


def served(version: int, label: bool) -> Served:
    return Served(version, "champion", Answer(0.5, label))


def step(revision: int, champion: int, challenger: int | None = None) -> dict[str, Any]:
    switched = {"0": revision * 10, "1": revision * 100}
    return {"revision": revision, "champion": champion, "challenger": challenger, "switched": switched}


def test_a_later_version_earns_what_the_first_ones_errors_would_have_cost_more() -> None:
    account = Account(costs=COSTS)

    account.retrained(Answer(0.1, False), served(1, False), True)  # the first one serves itself: nothing earned
    account.retrained(Answer(0.1, False), served(2, True), True)
    account.retrained(Answer(0.1, False), served(2, True), False)

    assert account.retraining[1].earned == 0
    assert (account.retraining[2].served, account.retraining[2].instead, account.retraining[2].earned) == (1, 5, 4)


def test_a_rollback_earns_from_the_offsets_where_it_took_hold_until_the_next_champion() -> None:
    steps = [step(1, 1), step(2, 1, 2), step(3, 2), step(4, 1), step(5, 1, 3), step(6, 3)]

    (fall,) = falls(steps, [2])

    assert (fall.version, fall.since, fall.until) == (2, {0: 40, 1: 400}, {0: 60, 1: 600})
    assert [fall.holds(0, offset) for offset in (39, 40, 59, 60)] == [False, True, True, False]
    assert not fall.holds(2, 1000)


def test_a_version_that_fell_last_is_counted_to_the_end_and_one_that_serves_not_at_all() -> None:
    steps = [step(1, 1), step(2, 1, 2), step(3, 1)]

    (fall,) = falls(steps, [2, 1, 9])

    assert (fall.version, fall.until, fall.holds(1, 10**9)) == (2, None, True)


def test_what_a_rollback_kept_from_being_served_is_its_worth() -> None:
    account = Account(costs=COSTS)

    account.rolled_back(2, Answer(0.1, False), served(1, True), True)
    account.rolled_back(2, Answer(0.9, True), served(1, True), False)

    assert (account.rollbacks[2].labelled, account.rollbacks[2].earned) == (2, 5)
