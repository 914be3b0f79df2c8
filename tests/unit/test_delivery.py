"""How fast and how safely new versions go live, out of who was champion when."""

from datetime import UTC, datetime, timedelta

from services.registry.domain.delivery import Delivery, delivery

START = datetime(2026, 1, 1, tzinfo=UTC)


def hours(number: float) -> datetime:
    return START + timedelta(hours=number)


def test_what_was_never_deployed_has_nothing_to_measure() -> None:
    assert delivery([], {}, START) == Delivery(
        deployments=0, lead_seconds=None, per_week=None, failures=0, failure_rate=None, restore_seconds=None
    )


def test_new_champions_count_once_and_restored_ones_not() -> None:
    steps = [(hours(0), 1), (hours(10), 1), (hours(20), 2), (hours(30), 2), (hours(40), 1), (hours(84), 3)]

    found = delivery(steps, {1: hours(-1), 2: hours(17), 3: hours(82)}, hours(168))

    assert (found.deployments, found.per_week) == (3, 3)
    assert found.lead_seconds == 2 * 3600
    assert (found.failures, found.failure_rate) == (1, 1 / 3)
    assert found.restore_seconds == 20 * 3600


def test_two_champions_taken_back_one_after_the_other_are_two_failures() -> None:
    steps = [(hours(0), 1), (hours(1), 2), (hours(2), 1), (hours(3), 3), (hours(6), 1)]

    found = delivery(steps, {}, hours(168))

    assert (found.failures, found.restore_seconds, found.lead_seconds) == (2, 2 * 3600, None)
