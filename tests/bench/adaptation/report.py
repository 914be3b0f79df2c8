"""What the contests came to: a table for people, JSON for machines, and the three promises."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.table import Table

from tests.bench.adaptation.contestants import Contest

WORTH = 0.005  # of accuracy: where the oracle gains less, a share of it says nothing


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What must hold of all streams together."""

    what: str
    found: float
    holds: bool


def recovered(contest: Contest) -> float | None:
    """The share of the oracle's gain over the static version that the platform has too."""
    static, ours, oracle = (contest.accuracy(name) for name in ("static", "ours", "oracle"))
    return (ours - static) / (oracle - static) if oracle - static >= WORTH else None


def promises(contests: Sequence[Contest]) -> Iterator[Promise]:
    if shares := [share for each in contests if (share := recovered(each)) is not None]:
        middle = median(shares)
        what = f"recovered share on the median of {len(shares)} streams, at least 0.8"
        yield Promise(what=what, found=middle, holds=middle >= 0.8)
    worst = min(each.accuracy("ours") - each.accuracy("static") for each in contests) * 100
    yield Promise(
        what="points over the static version on the worst stream, at least -0.5", found=worst, holds=worst >= -0.5
    )
    if forests := [each for each in contests if "forest" in each.hits]:
        ahead = sum(each.accuracy("ours") >= each.accuracy("forest") for each in forests) / len(forests)
        yield Promise(what="share of streams at or above the forest, at least 0.5", found=ahead, holds=ahead >= 0.5)


def table_of(contests: Sequence[Contest]) -> Table:
    title = "prequential accuracy, %, from the first version on; recovered: (ours - static) / (oracle - static)"
    table = Table(
        "stream", "change", "events", "static", "ours", "oracle", "forest", "recovered", "versions", title=title
    )
    for each in contests:
        share, names = recovered(each), ("static", "ours", "oracle", "forest")
        accuracies = (f"{100 * each.accuracy(name):.1f}" if name in each.hits else "" for name in names)
        said = "-" if share is None else f"{share:.2f}"
        table.add_row(each.name, each.kind, f"{each.events:,}", *accuracies, said, str(each.versions))
    return table


def json_of(contests: Sequence[Contest]) -> dict[str, Any]:
    return {
        "streams": {
            each.name: {
                "change": each.kind,
                "events": each.events,
                "changes": list(each.changes),
                "scored_from": each.start,
                "accuracy": {name: each.accuracy(name) for name in each.hits},
                "recovered": recovered(each),
                "told": [{"after_events": told.at, "what": told.what} for told in each.told],
            }
            for each in contests
        },
        "promises": [{"what": each.what, "found": each.found, "holds": each.holds} for each in promises(contests)],
    }
