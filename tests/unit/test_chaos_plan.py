"""A plan is a function of its seed, holds every sort of fault, and feeds what it was asked to."""

from itertools import pairwise
from typing import Any

import pytest

from tests.chaos.plan import Crew, brief, planned, rollouts, sorts
from tests.chaos.report import Report
from tests.chaos.striking import Struck

CREW = Crew()


def test_the_same_seed_gives_the_same_plan() -> None:
    first, again, other = (planned(seed, faults=50, events=500_000, crew=CREW) for seed in (7, 7, 8))

    assert first == again
    assert first.pieces() == again.pieces()
    assert first.faults != other.faults


def test_every_sort_of_fault_comes_before_any_comes_again() -> None:
    all_sorts = sorts(CREW)

    plan = planned(1, faults=len(all_sorts), events=1000, crew=CREW)

    assert sorted(fault.kind for fault in plan.faults) == sorted(sort.kind for sort in all_sorts)
    struck = {(fault.kind, fault.target.partition("-")[0], fault.seconds >= 30) for fault in plan.faults}
    assert {("outage", "s3", True), ("outage", "postgres", True), ("kill", "kafka", False)} <= struck


def test_the_brief_plan_is_short_and_holds_faults_of_many_kinds_and_a_commit_that_ends_ambiguously() -> None:
    for seed in range(20):
        plan = brief(seed)

        assert plan.seconds < 35
        assert len({fault.kind for fault in plan.faults}) >= 6
        assert ("silence after", "EndTxn") in {(fault.kind, fault.detail) for fault in plan.faults}


def test_all_events_are_fed_in_floods_and_trickles() -> None:
    pieces = planned(1, faults=50, events=500_000, crew=CREW).pieces()

    assert sum(pieces) == 500_000
    assert max(pieces) > 10 * sorted(pieces)[len(pieces) // 2]


def test_nothing_befalls_a_process_before_what_befell_it_is_over() -> None:
    faults = planned(5, faults=100, events=1000, crew=CREW).faults

    for name in {fault.target.partition("/")[0] for fault in faults}:
        own = [fault for fault in faults if fault.target.partition("/")[0] == name]
        assert all(before.at + before.seconds < after.at for before, after in pairwise(own))


def test_rollouts_go_from_shadow_over_canary_to_champion_and_back() -> None:
    told = list(rollouts(8))

    assert [(each.champion, each.challenger, each.share) for each in told] == [
        (1, 2, 0.0), (1, 2, 0.1), (1, 2, 0.25), (2, None, 0.0),
        (1, None, 0.0), (1, 3, 0.0), (1, 3, 0.1), (1, 3, 0.25),
    ]  # fmt: skip


@pytest.mark.parametrize(("missed", "ok"), [(10, True), (11, False)])
def test_a_run_says_nothing_where_too_few_faults_struck(missed: int, ok: bool) -> None:
    plan = planned(1, faults=60, events=1000, crew=CREW)
    log = [Struck(fault=fault, hit=number >= missed) for number, fault in enumerate(plan.faults)]
    kept: dict[str, Any] = {"violations": [], "counts": {}, "restarts": {}, "seconds": {}, "longest_wait_seconds": 0.0}

    assert Report(plan=plan, log=log, rested=True, **kept).ok is ok
    assert not Report(plan=plan, log=log[:-1], rested=True, **kept).ok
    assert not Report(plan=plan, log=log, rested=False, **kept).ok
