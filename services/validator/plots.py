"""A card's figures as SVG. Equal numbers give equal bytes."""

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Json = dict[str, Any]
INK, GREY, PALE, BLUE, RED, AMBER = "#1f2937", "#9ca3af", "#e5e7eb", "#2563eb", "#dc2626", "#d97706"
SERIES: Final = ("#93c5fd", "#ea580c", "#16a34a", "#7c3aed")
_WIDTH, _HEIGHT = 5.2, 3.5  # inches
_MOST_BARS = 16
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["Inter", "Helvetica Neue", "Arial", "DejaVu Sans"],
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": PALE,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}


def plots(card: Json) -> dict[str, bytes]:
    """SVG by the figure's name; only of what the card has numbers for."""
    drawing = {name: draw for name, (has, draw) in _PLOTS.items() if has(card)}
    return {name: _svg(name, draw, card) for name, draw in drawing.items()}


def _svg(name: str, draw: Callable[[Json, Axes], None], card: Json) -> bytes:
    with mpl.rc_context(_STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
        draw(card, figure.add_subplot())
        held = BytesIO()
        figure.savefig(held, format="svg", transparent=True, metadata={"Date": None, "Creator": "modelbus"})
    return held.getvalue()


def _roc(card: Json, axes: Axes) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="no knowledge")
    if points := card["figures"].get("champion_roc"):
        axes.plot(*zip(*points, strict=True), color=GREY, linewidth=1.8, label="champion")
    axes.plot(*zip(*card["figures"]["roc"], strict=True), color=BLUE, linewidth=2.2, label="this version")
    axes.set(xlabel="false alarms, of what was false", ylabel="hits, of what was true", xlim=(0, 1), ylim=(0, 1.01))
    axes.legend(loc="lower right")


def _reliability(card: Json, axes: Axes) -> None:
    cells = card["figures"]["reliability"]
    rows = [cell["rows"] for cell in cells]
    behind = axes.twinx()
    behind.bar([cell["mean"] for cell in cells], rows, width=0.06, color=PALE)
    behind.set(ylabel="rows (bars)", ylim=(0, max(rows) * 3))
    behind.grid(visible=False)
    axes.set_zorder(behind.get_zorder() + 1)
    axes.patch.set_visible(False)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":")
    axes.plot([cell["mean"] for cell in cells], [cell["observed"] for cell in cells], "o-", color=BLUE, markersize=5)
    axes.set(xlabel="probability that it says", ylabel="share that came true", xlim=(0, 1), ylim=(0, 1.02))


def _spread(card: Json, axes: Axes) -> None:
    edges, counts = card["figures"]["spread"]["edges"], card["figures"]["spread"]["counts"]
    width = edges[1] - edges[0]
    middles = [edge + width / 2 for edge in edges[:-1]]
    for colour, (name, bars) in zip(SERIES, counts.items(), strict=False):
        total = max(1, sum(bars))
        shares = [each / total for each in bars]
        axes.bar(middles, shares, width=width, color=colour, alpha=0.65, label=f"{name} ({total:,} rows)")
    classes = card["task"] != "regression"
    axes.set(xlabel=_answer(card) if classes else "answer minus truth", ylabel="share of its rows")
    if (threshold := card["answers"]["threshold"]) is not None:
        axes.axvline(threshold, color=INK, linestyle="--", linewidth=1, label=f"answers true from {threshold:.2f}")
    axes.legend(loc="upper right")


def _answer(card: Json) -> str:
    return "probability that it says" if card["task"] == "binary" else "probability of the class that it answers"


def _importance(card: Json, axes: Axes) -> None:
    found = sorted(card["importance"].items(), key=lambda item: float(item[1]))[-_MOST_BARS:]
    axes.barh([name for name, _ in found], [max(value, 0.0) for _, value in found], color=BLUE, height=0.65)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set(xlabel=f"{_metric(card)} lost when the feature is exchanged between rows")


def _slices(card: Json, axes: Axes) -> None:
    judged = [each for each in card["slices"] if each["gap"] is not None]
    shown = sorted(judged, key=lambda each: -float(each["gap"]))[:_MOST_BARS][::-1]
    metric = card["metric"]
    for place, each in enumerate(shown):
        low, high = each["confidence"]
        value = each["metrics"][metric]
        axes.plot([low, high], [place, place], color=BLUE, alpha=0.4, linewidth=3, solid_capstyle="round")
        axes.plot([value], [place], "o", color=BLUE, markersize=6)
    whole = next(each["value"] for each in card["quality"] if each["metric"] == metric)
    axes.axvline(whole, color=INK, linestyle="--", linewidth=1, label="all rows")
    axes.set_yticks(range(len(shown)), [f"{each['feature']}={each['value']}  ({each['rows']:,})" for each in shown])
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set(xlabel=f"{_metric(card)} and its 95 % confidence", ylim=(-0.6, len(shown) - 0.4))
    axes.legend(loc="best")


def _robustness(card: Json, axes: Axes) -> None:
    drops = {name: value for name, value in card["robustness"].items() if value is not None}
    limit = next(gate["threshold"] for gate in card["gates"] if gate["name"] == "robustness")
    colours = [RED if value > limit else BLUE for value in drops.values()]
    axes.barh(list(drops), [max(value, 0.0) for value in drops.values()], color=colours, height=0.55)
    axes.axvline(limit, color=INK, linestyle="--", linewidth=1, label="allowed")
    axes.grid(visible=False, axis="y")
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.set(xlabel=f"{_metric(card)} lost when inputs are disturbed")
    axes.set_xlim(right=max(limit, *drops.values()) * 1.15)
    axes.legend(loc="lower right")


def _tenths(card: Json, axes: Axes) -> None:
    cells: Sequence[Json] = card["figures"]["tenths"]
    ends = [min(cells[0]["mean"], cells[0]["observed"]), max(cells[-1]["mean"], cells[-1]["observed"])]
    axes.plot(ends, ends, color=GREY, linestyle=":", label="as it says")
    means, observed = [cell["mean"] for cell in cells], [cell["observed"] for cell in cells]
    axes.plot(means, observed, "o-", color=BLUE, label="tenths of the rows")
    axes.set(xlabel="mean answer", ylabel="mean of what came true")
    axes.legend(loc="upper left")


def _confusion(card: Json, axes: Axes) -> None:
    counts, names = card["figures"]["confusion"], card["answers"]["classes"]
    shares = [[count / max(1, sum(row)) for count in row] for row in counts]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.grid(visible=False)
    if len(names) <= _MOST_BARS // 2:
        for row, line in enumerate(counts):
            for column, count in enumerate(line):
                colour = "white" if shares[row][column] > 0.6 else INK
                axes.text(column, row, f"{count:,}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="what it answers", ylabel="what came true")


def _metric(card: Json) -> str:
    return METRICS.get(card["metric"], str(card["metric"]))


METRICS: Final[Mapping[str, str]] = {
    "roc_auc": "ROC AUC",
    "accuracy": "accuracy",
    "f1": "F1",
    "log_loss": "log loss",
    "brier": "Brier score",
    "calibration_error": "calibration error",
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "r2": "R²",
}
_PLOTS: Final[Mapping[str, tuple[Callable[[Json], Any], Callable[[Json, Axes], None]]]] = {
    "roc": (lambda card: card["figures"].get("roc"), _roc),
    "reliability": (lambda card: card["figures"].get("reliability"), _reliability),
    "tenths": (lambda card: card["figures"].get("tenths"), _tenths),
    "spread": (lambda card: card["figures"].get("spread"), _spread),
    "importance": (lambda card: card["importance"], _importance),
    "slices": (lambda card: any(each["gap"] is not None for each in card["slices"]), _slices),
    "confusion": (lambda card: card["figures"].get("confusion"), _confusion),
    "robustness": (lambda card: card.get("robustness"), _robustness),
}
