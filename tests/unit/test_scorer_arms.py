"""Arms by salted entity hash."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.deployer.domain.arms import is_canary

ENTITIES = [f"machine-{number}" for number in range(10_000)]


@pytest.mark.parametrize("share", [0.05, 0.1, 0.25, 0.5])
@pytest.mark.parametrize("salt", ["a", "3f6c1d2e"])
def test_a_share_is_met_within_a_point_over_ten_thousand_entities(salt: str, share: float) -> None:
    canaries = sum(is_canary(entity, salt, share) for entity in ENTITIES)

    assert abs(canaries / len(ENTITIES) - share) <= 0.01


@given(st.text(max_size=50), st.text(max_size=16), st.floats(0, 1), st.floats(0, 1))
def test_raising_the_share_only_moves_entities_to_canary(entity: str, salt: str, one: float, other: float) -> None:
    low, high = sorted((one, other))

    assert is_canary(entity, salt, high) or not is_canary(entity, salt, low)


def test_another_salt_chooses_other_canaries() -> None:
    chosen = [{entity for entity in ENTITIES if is_canary(entity, salt, 0.1)} for salt in ("a", "b")]

    assert 50 < len(chosen[0] & chosen[1]) < 150  # a tenth of a tenth, by chance alone
