"""What a benchmark found: figures, each beside its ceiling."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from rich.table import Table

Say = Callable[[str], None]
"""Tells people how far a benchmark has come."""
Turn = TypeVar("Turn")
_MARKS = {True: "holds", False: "[bold red]missed[/]", None: ""}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """`ours` beside `ceiling`, both in `unit`; `least` and `most` are aims of their ratio, or of `ours` alone."""

    what: str
    unit: str
    ours: float
    ceiling: float | None = None
    least: float | None = None
    most: float | None = None

    @property
    def ratio(self) -> float | None:
        return None if self.ceiling is None else self.ours / self.ceiling

    @property
    def holds(self) -> bool | None:
        """Whether the aims are met; None where there are none.

        >>> Figure(what="w", unit="s", ours=3, ceiling=4, least=0.75).holds
        True
        """
        if self.least is None and self.most is None:
            return None
        found = self.ours if self.ratio is None else self.ratio
        return (self.least is None or found >= self.least) and (self.most is None or found <= self.most)

    @property
    def aim(self) -> str:
        """In words."""
        if self.least is not None and self.least == self.most:
            return f"= {self.least:g}"
        sides = [
            f"≥ {self.least:g}" if self.least is not None else "",
            f"≤ {self.most:g}" if self.most is not None else "",
        ]
        return ", ".join(filter(None, sides))

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"ratio": self.ratio, "holds": self.holds}


def middle_of(turns: Sequence[Turn], ratio: Callable[[Turn], float]) -> Turn:
    """The turn in the middle by its ratio: what is compared was measured within minutes of each other."""
    return sorted(turns, key=ratio)[len(turns) // 2]


def table_of(figures: list[Figure]) -> Table:
    """For people."""
    table = Table("benchmark", "unit", "ours", "ceiling", "ratio", "aim", "")
    for each in figures:
        ceiling, ratio = ("" if value is None else _short(value) for value in (each.ceiling, each.ratio))
        table.add_row(each.what, each.unit, _short(each.ours), ceiling, ratio, each.aim, _MARKS[each.holds])
    return table


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
