"""Start reading here: the whole loop on real parts and real data, in small.

Three weeks of flights are streamed, half a day a second, so that a busy machine too rolls out before they end. Two
models get their first versions; flight-risk gets another by schedule at the latest, through shadow and canary, and
becomes champion by matured labels. What must hold is counted from the topics by a reader that knows nothing of the
services' state.
"""

import pytest

from tests.quick_demo import Json, run_demo

pytestmark = pytest.mark.timeout(600)  # minutes on a busy machine

EVERYBODY = {"deployer", "ingestor", "monitor", "registry", "scorer", "trainer", "validator"}


@pytest.fixture(scope="module")
async def report(tmp_path_factory: pytest.TempPathFactory) -> Json:
    """Of one run, for all the tests of this file."""
    folder = tmp_path_factory.mktemp("loop")
    code, report, output = await run_demo(folder, "--pace", "12h/s", until="2013-01-25")
    failed = {name: check for name, check in report["checks"].items() if check["ok"] is False}
    assert (code, failed) == (0, {}), output[-4000:]
    return report


def test_every_accepted_event_since_the_first_champion_has_exactly_one_prediction(report: Json) -> None:
    assert report["checks"]["one_prediction_an_event"]["ok"]
    for model in report["predictions"].values():
        assert model["accepted"] == report["events"]["published"]
        assert model["answered_once"] > 0
        assert not model["faults"]


def test_both_tables_and_the_monitor_account_for_every_record(report: Json) -> None:
    assert report["checks"]["tables_hold_everything"]["ok"]
    assert report["checks"]["labels_add_up"]["ok"]


def test_a_second_version_went_live_by_matured_labels_and_nobodys_hand(report: Json) -> None:
    run = next(run for run in report["runs"] if run["model"] == "flight-risk" and run["reason"] != "first")
    rollout = next(each for each in report["rollouts"] if each["model"] == "flight-risk")

    assert run["reason"] in {"drift", "decay", "schedule"}
    assert (rollout["outcome"], rollout["steps"][-1]["champion"]) == ("promoted", rollout["version"])
    assert [step["phase"] for step in rollout["steps"]] == ["shadow", "canary", "canary", "serving"]
    assert rollout["matured_pairs"] >= 500
    arms = report["predictions"]["flight-risk"]["by_version_and_arm"]
    assert arms[f"v{rollout['version']} canary"] > 0
    assert arms[f"v{rollout['version']} champion"] > 0


def test_each_lifecycle_is_one_trace_through_all_services_without_an_orphan(report: Json) -> None:
    live = {each["run_id"] for each in report["to_champion"]}

    assert report["checks"]["traces_whole"]["ok"]
    for trace in report["traces"]:
        assert not trace["orphans"]
        assert trace["run_id"] not in live or set(trace["services"]) >= EVERYBODY


def test_candidates_stood_at_every_gate_that_was_asked_for(report: Json) -> None:
    for version in report["versions"]:
        verdicts = {gate["name"]: gate["verdict"] for gate in version["gates"]}
        assert verdicts["roc_auc"] == "passed" or version["outcome"].startswith("rejected")
        assert len(verdicts) >= 8
