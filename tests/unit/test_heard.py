"""What is made of records of the lifecycle topics by those that read them again."""

from types import SimpleNamespace

import pytest

from schemas.envelope import Envelope, UnknownMajor
from schemas.events.registry import AuditAdvanced
from shared.dead_letters import Headers
from shared.reading import heard
from tests.contract.examples import example
from tests.scoring_world import wrapped


def record(headers: Headers, value: bytes | None) -> SimpleNamespace:
    return SimpleNamespace(headers=lambda: headers, value=lambda: value)


def called(name: str, headers: Headers) -> Headers:
    return [(each, name.encode() if each == "ce_type" else value) for each, value in headers]


@pytest.fixture
def said() -> Envelope:
    return wrapped(AuditAdvanced.model_validate(example(AuditAdvanced.model_json_schema())), "e1")


def test_poison_and_names_that_are_not_known_are_passed_over(said: Envelope) -> None:
    named, value = said.headers(), said.event.encode()
    strange = called("modelbus.model.praised.v1", named)
    records = [(named, value), (named, b"{"), ((), None), (strange, b"{}"), (named, value)]

    told = heard(record(*each) for each in records)

    assert [each.event for each in told] == [said.event, said.event]


def test_a_major_that_is_not_known_yet_stops_the_reader(said: Envelope) -> None:
    newer = called("modelbus.audit.advanced.v99", said.headers())

    with pytest.raises(UnknownMajor):
        list(heard([record(newer, said.event.encode())]))
