"""The short loop while a random service process is killed every five seconds: the same counts, the same guarantees.

Killed processes take their last spans with them, so lifecycles are proved by causation ids instead of traces.
"""

import pytest

from tests.quick_demo import Json, run_demo

pytestmark = pytest.mark.timeout(600)  # minutes on a busy machine

KILL_EVERY_SECONDS = 5


@pytest.fixture(scope="module")
async def report(tmp_path_factory: pytest.TempPathFactory) -> Json:
    """Of one run, for all the tests of this file."""
    options = ("--kill-every", str(KILL_EVERY_SECONDS), "--seed", "1")
    code, report, output = await run_demo(tmp_path_factory.mktemp("kills"), *options, until="2013-01-10")
    failed = {name: check for name, check in report["checks"].items() if check["ok"] is False}
    assert (code, failed) == (0, {}), output[-4000:]
    return report


def test_processes_were_killed_while_events_came(report: Json) -> None:
    streamed = report["wall_seconds"] - report["start_up_seconds"]

    assert 2 <= sum(report["killed"].values()) <= streamed / KILL_EVERY_SECONDS


def test_no_event_is_lost_and_none_is_predicted_twice(report: Json) -> None:
    assert report["checks"]["one_prediction_an_event"]["ok"]
    for model in report["predictions"].values():
        assert model["accepted"] == report["events"]["published"]
        assert model["answered_once"] > 0


def test_tables_and_the_monitor_account_for_every_record(report: Json) -> None:
    assert report["checks"]["tables_hold_everything"]["ok"]
    assert report["checks"]["labels_add_up"]["ok"]


def test_every_lifecycle_leads_from_its_cause_to_its_end(report: Json) -> None:
    assert report["checks"]["lifecycles_complete"]["ok"]
    assert {run["model"] for run in report["runs"]} == {"flight-delay", "flight-risk"}
    assert all(run["outcome"] == "registered" for run in report["runs"] if run["reason"] == "first")
