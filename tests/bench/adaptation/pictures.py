"""Prequential accuracy over time: a picture a stream, and all of them on one sheet."""

from collections.abc import Sequence
from math import ceil
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tests.bench.adaptation.contestants import Contest

_OVER = 500  # events
_STYLES = {
    "static": ("0.55", "-", 1.2, "static first version"),
    "forest": ("tab:green", "-", 1.0, "adaptive random forest"),
    "oracle": ("tab:orange", "--", 1.4, "retrained at the known change"),
    "ours": ("tab:blue", "-", 1.8, "modelbus"),
}
_COLUMNS = 3


def draw(contests: Sequence[Contest], folder: Path) -> None:
    """PNG files."""
    mpl.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    for each in contests:
        figure = Figure(figsize=(9, 4.2), layout="constrained")
        axes = figure.subplots()
        _one(axes, each)
        axes.legend(loc="lower left", fontsize=8, ncols=2, framealpha=0.9)
        figure.savefig(folder / f"{each.name}.png", dpi=110)
    _sheet(contests).savefig(folder / "all.png", dpi=90)


def _sheet(contests: Sequence[Contest]) -> Figure:
    rows = ceil(len(contests) / _COLUMNS)
    figure = Figure(figsize=(5.2 * _COLUMNS, 2.9 * rows + 0.5), layout="constrained")
    places = np.atleast_1d(figure.subplots(rows, _COLUMNS)).ravel()
    for axes, each in zip(places, contests, strict=False):
        _one(axes, each)
    for axes in places[len(contests) :]:
        axes.set_axis_off()
    handles, labels = places[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def _one(axes: Axes, contest: Contest) -> None:
    for name, (colour, line, width, label) in _STYLES.items():
        if name in contest.hits:
            at, smooth = _smoothed(contest.hits[name], contest.start)
            axes.plot(at, 100 * smooth, color=colour, linestyle=line, linewidth=width, label=label)
    for change in contest.changes:
        axes.axvline(change, color="tab:red", linestyle=":", linewidth=1)
    promoted = [told.at for told in contest.told if "promoted" in told.what]
    low = axes.get_ylim()[0]
    axes.plot(promoted, [low] * len(promoted), "^", color="tab:blue", markersize=6, clip_on=False, label="new champion")
    axes.set_ylim(bottom=low)
    axes.set_xlim(0, contest.events)
    axes.set_title(contest.name, fontsize=10)
    axes.set_xlabel("events; dotted: the world changes", fontsize=8)
    axes.set_ylabel(f"accuracy, % of {_OVER}", fontsize=8)
    axes.grid(alpha=0.25)


def _smoothed(hits: NDArray[np.bool_], start: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The mean over the newest events, and where each ends."""
    sums = np.cumsum(np.insert(hits[start:].astype(np.float64), 0, 0.0))
    return np.arange(start + _OVER, len(hits) + 1)[::20], ((sums[_OVER:] - sums[:-_OVER]) / _OVER)[::20]
