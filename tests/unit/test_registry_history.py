"""The history that the registry's topic holds: one whole, or a reason why not."""

from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.envelope import Envelope
from schemas.events.base import Event
from schemas.events.registry import AuditAdvanced, AuditRow, ModelRefused, ModelRegistered, TrainingOrdered
from services.registry.domain.audit import Row
from services.registry.domain.history import History, NotRebuilt, row_of
from tests.contract.examples import example
from tests.unit.test_registry_chain import chain, forged


def heard(event: Event, id: str = "1", causation_id: str | None = None) -> Envelope:
    about: dict[str, Any] = {"source": "modelbus/registry", "correlation_id": "run", "traceparent": None}
    return Envelope(id=id, time=datetime(2026, 1, 1, tzinfo=UTC), causation_id=causation_id, event=event, **about)


def head(row: Row) -> Envelope:
    sealed = AuditRow.model_validate({name: getattr(row, name) for name in AuditRow.model_fields})
    said = AuditAdvanced(chain="registry.audit", position=row.position, hash=f"sha256:{row.hash}", row=sealed)
    return heard(AuditAdvanced.decode(said.encode()))


def history(*rows: Row) -> History:
    made = History(deeds={TrainingOrdered, ModelRefused})
    for row in rows:
        made.add(head(row))
    return made


def test_rows_come_back_from_the_bus_as_they_were_sealed_whatever_their_order() -> None:
    rows = chain(4)

    assert history(*reversed(rows)).rows() == rows


def test_what_people_did_is_told_from_what_followed() -> None:
    made = history()
    assert made.is_empty()
    order = TrainingOrdered(model="flood", actor="ann", reason="new data")
    registered = ModelRegistered.model_validate(example(ModelRegistered.model_json_schema()))

    made.add(heard(order, "an order"))
    made.add(heard(registered, "a word", causation_id="a verdict"))

    assert (set(made.done), made.said) == ({"an order"}, {("modelbus.model.registered.v1", "a verdict")})


def test_a_row_that_was_changed_or_is_missing_on_the_bus_is_named() -> None:
    rows = chain(4)

    with pytest.raises(NotRebuilt, match=r"row 3 .* not what was sealed"):
        history(*rows[:2], Row(**vars(rows[2]) | {"actor": "bob"}), rows[3]).rows()
    with pytest.raises(NotRebuilt, match=r"row 2 .* is missing"):
        history(rows[0], *rows[2:]).rows()


def test_two_histories_are_not_one() -> None:
    rows = chain(2)

    with pytest.raises(NotRebuilt, match="row 2 was said twice and differently"):
        history(*rows, forged(rows[1], actor="bob"))


def test_a_head_of_the_first_minor_names_no_row() -> None:
    with pytest.raises(NotRebuilt, match=r"before audit\.advanced 1\.1"):
        row_of(AuditAdvanced(chain="registry.audit", position=1, hash=f"sha256:{'ab' * 32}"))
