"""What a benchmark found: figures, each beside its ceiling."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from rich.table import Table

Say = Callable[[str], None]
"""Tells people how far a benchmark has come."""
Turn = TypeVar("Turn")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """`ours` beside `ceiling`, both in `unit`; their ratio is what is promised, at least or at most `bound`."""

    what: str
    unit: str
    ours: float
    ceiling: float | None = None
    bound: str = ""

    @property
    def ratio(self) -> float | None:
        return None if self.ceiling is None else self.ours / self.ceiling

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"ratio": self.ratio}


def middle_of(turns: Sequence[Turn], ratio: Callable[[Turn], float]) -> Turn:
    """The turn in the middle by its ratio: what is compared was measured within minutes of each other."""
    return sorted(turns, key=ratio)[len(turns) // 2]


def table_of(figures: list[Figure]) -> Table:
    """For people."""
    table = Table("benchmark", "unit", "ours", "ceiling", "ratio", "bound")
    for each in figures:
        ceiling, ratio = ("" if value is None else _short(value) for value in (each.ceiling, each.ratio))
        table.add_row(each.what, each.unit, _short(each.ours), ceiling, ratio, each.bound)
    return table


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
