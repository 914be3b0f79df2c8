"""What a benchmark aims at, and whether it got there."""

import pytest

from tests.bench.figures import Figure, middle_of


@pytest.mark.parametrize(
    ("ours", "ceiling", "aims", "aim", "holds"),
    [
        (3.0, 4.0, {"least": 0.75}, "≥ 0.75", True),
        (2.9, 4.0, {"least": 0.75}, "≥ 0.75", False),
        (5.2, 4.0, {"most": 1.3}, "≤ 1.3", True),
        (5.3, 4.0, {"most": 1.3}, "≤ 1.3", False),
        (7.0, 7.0, {"least": 1, "most": 1}, "= 1", True),
        (6.0, 7.0, {"least": 1, "most": 1}, "= 1", False),
        (0.04, None, {"most": 0.05}, "≤ 0.05", True),
        (0.06, None, {"most": 0.05}, "≤ 0.05", False),
        (1.0, 2.0, {}, "", None),
    ],
)
def test_a_figure_holds_what_it_aims_at(
    ours: float, ceiling: float | None, aims: dict[str, float], aim: str, holds: bool | None
) -> None:
    figure = Figure(what="w", unit="s", ours=ours, ceiling=ceiling, **aims)

    assert (figure.aim, figure.holds, figure.as_json()["holds"]) == (aim, holds, holds)


def test_the_turn_in_the_middle_is_so_by_its_ratio() -> None:
    assert middle_of([(9.0, 10.0), (1.0, 2.0), (7.0, 10.0)], lambda turn: turn[0] / turn[1]) == (7.0, 10.0)
