"""Which predictions a withdrawal covers, and what is said of each."""

from datetime import UTC, datetime

import pytest

from cli.radius import Served
from schemas.events.deployer import PredictionsWithdrawn
from schemas.records import CorrectionRecord
from services.deployer.domain.corrections import Withdrawal
from services.deployer.domain.entrant import Entrant
from shared.records import ENCODER, Prediction
from tests.scoring_world import model_spec, release_of, stream_spec

STREAM = stream_spec("s", partitions=4)
ENTRANT = Entrant(release=release_of(2, model_spec("m", "s"), STREAM), correlation_id="a-run", served_from=3)
EVENT = PredictionsWithdrawn(model="m", version=2, from_revision=3, until_revision=5, cause="worse")
WITHDRAWAL = Withdrawal.said(EVENT, ENTRANT)


def prediction(version: int = 2, revision: int = 4) -> Prediction:
    return Prediction(
        id=f"e1@m:{version}",
        event_id="e1",
        entity="N1",
        model="m",
        version=version,
        arm="canary",
        revision=revision,
        partition=3,
        offset=17,
        score=0.5,
        label=True,
        time=datetime(2013, 1, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("version", "revision", "covered"), [(2, 2, False), (2, 3, True), (2, 5, True), (2, 6, False), (1, 4, False)]
)
def test_a_withdrawal_covers_what_the_version_answered_until_it_fell(
    version: int, revision: int, covered: bool
) -> None:
    assert WITHDRAWAL.covers(prediction(version, revision)) is covered


def test_a_correction_is_one_as_published_and_names_its_cause() -> None:
    written = ENCODER.encode(WITHDRAWAL.correction_of(prediction()))

    said = CorrectionRecord.model_validate_json(written)

    assert (said.prediction_id, said.event_id, said.entity, said.version) == ("e1@m:2", "e1", "N1", 2)
    assert (said.partition, said.offset, said.revision) == (3, 17, 4)
    assert (said.withdrawn_by, said.reason) == (6, "worse")


def test_the_same_event_answered_twice_has_two_corrections_of_two_ids() -> None:
    again = prediction()
    again.offset = 18

    assert WITHDRAWAL.correction_of(prediction()).id != WITHDRAWAL.correction_of(again).id


def test_fences_say_the_revision_of_every_input_also_where_partitions_skipped_one() -> None:
    steps = [
        {"revision": 3, "champion": 1, "challenger": 2, "share": 0.1, "switched": {"0": 20}},
        {"revision": 1, "champion": 1, "challenger": None, "share": 0, "switched": {"0": 5, "1": 0}},
        {"revision": 2, "champion": 1, "challenger": 2, "share": 0, "switched": {"0": 20, "1": 9}},
    ]

    served = Served.of(2, steps)

    assert served.revisions == (3,)
    assert [served.revision_at(0, offset) for offset in (4, 5, 19, 20, 99)] == [None, 1, 1, 3, 3]
    assert [served.revision_at(1, offset) for offset in (0, 8, 9)] == [1, 1, 2]
    assert served.revision_at(7, 0) is None
