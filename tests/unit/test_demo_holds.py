"""When the demo holds event time, and that it never does for ever."""

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest

from cli.demonstration.holds import GIVEN_UP_AFTER_SECONDS, Holds
from cli.demonstration.pace import Pace
from cli.demonstration.plan import moment_of, pace_of
from schemas.events.base import Event
from schemas.events.deployer import LoadFailed, RolloutChanged, RolloutSwitched
from schemas.events.monitor import TrainingRequested
from schemas.events.parts import Candidate, Release
from schemas.events.registry import ModelRegistered
from schemas.events.trainer import ModelTrained, TrainingFailed
from schemas.events.validator import ModelRejected, ModelValidated

START = datetime(2013, 1, 1, tzinfo=UTC)
RUN = {"model": "m", "run_id": "m-1"}
REQUESTED = TrainingRequested.model_construct(**RUN)
TRAINED = ModelTrained.model_construct(**RUN)
VALIDATED = ModelValidated.model_construct(**RUN)
RELEASE = Release.model_construct(version=1, candidate=Candidate.model_construct(run_id="m-1"))
REGISTERED = ModelRegistered.model_construct(model="m", release=RELEASE, approval="required")


def changed(revision: int) -> RolloutChanged:
    return RolloutChanged.model_construct(model="m", revision=revision)


def switched(partition: int, revision: int) -> RolloutSwitched:
    return RolloutSwitched.model_construct(model="m", partition=partition, revision=revision)


def holds(*events: Event, partitions: int = 2) -> Holds:
    found = Holds(partitions=partitions)
    for event in events:
        found.hear(event)
    return found


@pytest.mark.parametrize(
    ("heard", "reason"),
    [
        ([], None),
        ([REQUESTED], "training"),
        ([REQUESTED, TRAINED], "validation"),
        ([REQUESTED, TRAINED, VALIDATED], "registration"),
        ([REQUESTED, TRAINED, VALIDATED, REGISTERED], None),
        ([REQUESTED, TRAINED, ModelRejected.model_construct(**RUN)], None),
        ([REQUESTED, TrainingFailed.model_construct(**RUN)], None),
    ],
)
def test_a_run_holds_until_it_is_registered_or_ends_in_any_order_of_hearing(
    heard: list[Event], reason: str | None
) -> None:
    for order in permutations(heard):
        assert holds(*order).reason(0.0) == reason


def test_only_the_switch_of_a_rollout_holds_so_that_its_labels_can_mature() -> None:
    rollout = holds(changed(1), switched(0, 1))
    assert rollout.reason(0.0) == "switch"

    rollout.hear(switched(1, 1))

    assert rollout.reason(0.0) is None


def test_time_waits_for_a_first_champion_that_needs_no_approval() -> None:
    registered = holds(REGISTERED.model_copy(update={"approval": "none"}))
    assert registered.reason(0.0) == "switch"

    for partition in (0, 1):
        registered.hear(switched(partition, 1))
    assert registered.reason(0.0) is None
    registered.hear(REGISTERED.model_copy(update={"approval": "none"}))
    assert registered.reason(0.0) is None


def test_a_partition_that_skips_a_revision_has_switched() -> None:
    assert holds(changed(1), changed(2), switched(0, 2), switched(1, 2)).reason(0.0) is None


def test_a_revision_that_cannot_be_loaded_does_not_hold() -> None:
    assert holds(changed(1), LoadFailed.model_construct(model="m", revision=1)).reason(0.0) is None


def test_lag_and_a_request_that_waits_for_tables_hold() -> None:
    waiting = holds()
    waiting.behind = {"scorer": 9000}
    assert waiting.reason(0.0) == "lag of scorer"

    waiting.wanted = frozenset({"m"})

    assert waiting.reason(0.0) == "tables"


def test_what_holds_too_long_is_given_up_and_told() -> None:
    stuck = holds(REQUESTED)
    assert stuck.reason(0.0) == "training"

    assert stuck.reason(GIVEN_UP_AFTER_SECONDS + 1) is None
    assert stuck.given_up == ["m-1"]


def test_what_holds_next_has_its_own_time() -> None:
    stuck = holds(REQUESTED)
    stuck.reason(0.0)
    stuck.hear(changed(1))

    assert stuck.reason(GIVEN_UP_AFTER_SECONDS + 1) == "switch"


def test_event_time_passes_at_the_pace_and_not_at_all_while_held() -> None:
    pace = Pace(START, timedelta(days=1), seconds=0.0)
    for tick in range(1, 11):
        pace.move(tick / 10, held="training" if 3 <= tick < 6 else None)

    assert pace.allowed - START == pytest.approx(timedelta(days=0.7), abs=timedelta(seconds=1))
    assert pace.held_seconds == {"training": pytest.approx(0.3)}


def test_time_that_was_lost_is_not_made_up_for_in_a_burst() -> None:
    pace = Pace(START, timedelta(days=1), seconds=0.0)

    pace.move(60.0, held=None)

    assert pace.allowed - START < timedelta(days=1)


@pytest.mark.parametrize("written", ["1d", "d/s", "0d/s", "1d/m", "fast", "-1d/s"])
def test_a_pace_written_otherwise_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="expected a pace"):
        pace_of(written)


def test_a_moment_without_zone_is_utc() -> None:
    assert moment_of("2013-03-20T10:00+02:00") == moment_of("2013-03-20T08:00")


def test_a_moment_written_otherwise_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a date or a time"):
        moment_of("soon")
