"""The short form of `make chaos`: kills, a freeze, cuts and an ambiguous commit while a rollout switches; the laws."""

import pytest

from tests.chaos.plan import brief
from tests.chaos.report import Report
from tests.chaos.run import Progress, run

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]  # a minute alone, minutes on a busy machine

SEED = 24  # `python -m tests.chaos --brief --seed 24` is this run, with its timeline


@pytest.fixture(scope="module")
async def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Of one run, for all the tests of this file."""
    return await run(brief(SEED), tmp_path_factory.mktemp("chaos"), Progress(say=print))  # shown when it fails


def test_every_law_was_kept(report: Report) -> None:
    assert report.violations == [], report.as_json()


def test_all_came_to_rest(report: Report) -> None:
    assert report.rested, report.as_json()


def test_the_faults_did_strike(report: Report) -> None:
    assert len({struck.fault.kind for struck in report.log}) >= 6
    assert report.missed == [], report.as_json()
    assert "kafka" in report.restarts


def test_there_was_something_to_judge(report: Report) -> None:
    counts = report.counts

    assert counts["records"] == report.plan.events
    assert counts["predictions"] == counts["rows"] == counts["records"] - counts["bad"]
    assert counts["dead_letters_by_origin"] == counts["bad"] > 0
    assert counts["shadow_scores"] > 0
