"""What may be declared, and what is too much."""

from datetime import timedelta

import pytest
from pydantic import TypeAdapter

from schemas.durations import Duration, Share
from schemas.specs import StreamSpec


@pytest.mark.parametrize(("said", "meant"), [("2d", 2880), ("8h", 480), ("90m", 90), ("30s", 0.5), ("PT1H", 60)])
def test_durations_are_read_as_people_and_as_machines_write_them(said: str, meant: float) -> None:
    assert TypeAdapter(Duration).validate_python(said) == timedelta(minutes=meant)


@pytest.mark.parametrize("said", ["800000d", "99999999999999999d", "-1h", "8", 8, "soon"])
def test_a_duration_without_unit_or_out_of_bounds_is_refused_in_words(said: object) -> None:
    with pytest.raises(ValueError, match=r"expected a duration|Input should be a valid timedelta"):
        TypeAdapter(Duration).validate_python(said)


def test_shares_are_read_as_percent_or_fraction() -> None:
    assert TypeAdapter(Share).validate_python("25%") == TypeAdapter(Share).validate_python(0.25)
    with pytest.raises(ValueError, match="less than or equal to 1"):
        TypeAdapter(Share).validate_python("250%")


def test_categories_that_no_event_could_carry_are_refused() -> None:
    declared = {
        "stream": "s",
        "entity": "e",
        "features": {"c": {"type": "category", "values": [f"value-{number:020}" for number in range(10_000)]}},
        "label": {"type": "bool", "delay": "1h"},
    }

    with pytest.raises(ValueError, match="150000 bytes of category values in all, got"):
        StreamSpec.model_validate(declared)
