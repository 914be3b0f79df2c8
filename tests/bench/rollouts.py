"""Rollout decisions on seeded challengers: how often each kind is promoted, rolled back, and after how many labels."""

from argparse import Namespace
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import beta

from tests.bench.figures import Figure, Say
from tests.unit.rollout_cases import POLICY, Case, Told, Trial

_SEEDS = 500
_WORKERS = 2
_WORLDS: dict[str, dict[str, float]] = {
    "independent events": {},
    "entities that hang together": {"entities": 500, "shared": 0.3},
    "and labels that lag by 8,000 events": {"entities": 500, "shared": 0.3, "lag": 8000},
    "and days": {"entities": 500, "shared": 0.1, "daily": 0.05},
}


@dataclass(frozen=True, kw_only=True)
class Promise:
    """Of a kind of challenger: a share of the outcome, at least or at most."""

    challenger: str
    differs: dict[str, object]
    outcome: str
    least: float | None = None
    most: float | None = None


PROMISES = (
    Promise(challenger="equal", differs={}, outcome="rolled_back", most=0.05),
    Promise(challenger="equal", differs={}, outcome="promoted", least=0.8),
    Promise(challenger="worse by the margin", differs={"by": POLICY.margin}, outcome="promoted", most=0.05),
    Promise(
        challenger="3 points less accurate",
        differs={"differs": "accuracy", "by": 0.03},
        outcome="rolled_back",
        least=0.9,
    ),
    Promise(challenger="better by the margin", differs={"by": -POLICY.margin}, outcome="promoted", least=0.8),
)


def _trial(case: Case, seed: int) -> Told:
    return Trial(case, seed).run()


def _table(told: dict[tuple[str, str], list[Told]]) -> Table:
    columns = ("world", "challenger", "promoted", "rolled back", "waits", "labels: median", "95 %", "most traffic")
    table = Table(*columns, title=f"{_SEEDS} seeded rollouts each, margin {POLICY.margin}, shares with 95 % bounds")
    for (world, challenger), found in told.items():
        labels = np.quantile([each.pairs for each in found], [0.5, 0.95])
        shares = (_share(found, outcome) for outcome in ("promoted", "rolled_back", None))
        most = max(each.share for each in found if each.outcome != "promoted") if _fell(found) else 0.0
        table.add_row(world, challenger, *shares, *(f"{each:,.0f}" for each in labels), f"{most:.0%}")
    return table


def _fell(found: list[Told]) -> bool:
    return any(each.outcome != "promoted" for each in found)


def _share(found: list[Told], outcome: str | None) -> str:
    """With its interval (Clopper, Pearson 1934)."""
    count = sum(each.outcome == outcome for each in found)
    low = float(beta.ppf(0.025, count, len(found) - count + 1)) if count else 0.0
    high = float(beta.ppf(0.975, count + 1, len(found) - count)) if count < len(found) else 1.0
    return f"{count / len(found):.3f} ({low:.3f}–{high:.3f})"


async def measure(_: Namespace, say: Say) -> list[Figure]:
    """The share of each promise; prints the table of outcomes by the way."""
    told: dict[tuple[str, str], list[Told]] = {}
    kinds = {promise.challenger: promise.differs for promise in PROMISES}
    with ProcessPoolExecutor(_WORKERS) as pool:
        for world, together in _WORLDS.items():
            for challenger, differs in kinds.items():
                case = Case(**together, **differs)  # type: ignore[arg-type]  # numbers by the names of its fields
                told[world, challenger] = list(pool.map(partial(_trial, case), range(_SEEDS), chunksize=25))
            say(f"{world}: {_SEEDS} seeds of each challenger")
    Console(width=160).print(_table(told))
    return [
        Figure(
            what=f"{promise.challenger}, {promise.outcome.replace('_', ' ')}: {world}",
            unit="share",
            ours=sum(each.outcome == promise.outcome for each in told[world, promise.challenger]) / _SEEDS,
            least=promise.least,
            most=promise.most,
        )
        for world in _WORLDS
        for promise in PROMISES
    ]
