"""The picture in a terminal, or as lines where there is none."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from cli.demonstration.feeder import Feeder
from cli.demonstration.picture import ModelPicture, Picture, rollout_line
from schemas.events.monitor import WindowMeasured

_LEAST_NEWS = 3
_ARMS = 3  # versions and arms that are shown of a model, the newest
_REFRESHES_A_SECOND = 4
_LINE_EVERY_SECONDS = 5.0


class View:
    """Shows a picture and its feeder; `refresh` is called a few times a second."""

    def __init__(self, *, picture: Picture, feeder: Feeder, where: RenderableType, console: Console) -> None:
        self._picture, self._feeder, self._where, self._console = picture, feeder, where, console
        self._live: Live | None = None
        self._told = 0  # news
        self._line_at = 0.0
        self._rate = _Rate()
        self.phase = "streaming"

    @contextmanager
    def open(self) -> Iterator["View"]:
        """Live in a terminal; elsewhere lines are printed as things happen."""
        self._console.print(self._where)
        if not self._console.is_terminal:
            yield self
            return
        with Live(console=self._console, refresh_per_second=_REFRESHES_A_SECOND) as self._live:
            yield self

    def refresh(self) -> None:
        self._rate.see(self._feeder.published["data"], time.monotonic())
        with self._picture.lock:
            if self._live is not None:
                self._live.update(self._panel())
                return
            news, self._told = self._picture.news[self._told :], len(self._picture.news)
            progress = self._progress()
        for line in news:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        if time.monotonic() - self._line_at > _LINE_EVERY_SECONDS:
            self._line_at = time.monotonic()
            self._console.print(progress, markup=False, highlight=False, soft_wrap=True)
            sys.stdout.flush()

    def _progress(self) -> str:
        feeder = self._feeder
        held = f", held: {feeder.holding}" if feeder.holding else ""
        predictions = sum(sum(model.predictions.values()) for model in self._picture.models.values())
        return (
            f"{feeder.at:%Y-%m-%d %H:%M} {self.phase}: {feeder.published['data']:,} events ({self._rate.of:,.0f}/s), "
            f"{feeder.published['label']:,} labels, {predictions:,} predictions{held}"
        )

    def _panel(self) -> RenderableType:
        tables = ", ".join(f"{name}@{event.version}" for name, event in sorted(self._picture.tables.items()))
        facts = Text(f"tables: {tables or '–'}; dead letters: {self._picture.dead_letters:,}", style="dim")
        above: list[RenderableType] = [Text(self._progress(), style="bold"), self._models(), facts]
        room = self._console.height - len(self._console.render_lines(Group(*above))) - 3  # the border, a last line
        news = self._picture.news[-max(_LEAST_NEWS, room) :]
        lines = (Text(line, overflow="ellipsis", no_wrap=True) for line in news)
        return Panel(Group(*above, *lines), title="modelbus demo: the departures from New York City, 2013")

    def _models(self) -> Table:
        table = Table("", *self._picture.models, expand=True, box=SIMPLE_HEAD)
        for column in table.columns[1:]:
            column.ratio = 1
        models = list(self._picture.models.values())
        for name, cell in _ROWS.items():
            table.add_row(name, *(escape(cell(model)) for model in models))
        return table


class _Rate:
    """Records a second over the last seconds."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []
        self.of = 0.0

    def see(self, count: int, seconds: float) -> None:
        self._seen = [each for each in self._seen if seconds - each[0] < _LINE_EVERY_SECONDS] + [(seconds, count)]
        since, before = self._seen[0]
        self.of = (count - before) / (seconds - since) if seconds > since else 0.0


def _predictions(model: ModelPicture) -> str:
    newest = sorted(model.predictions.items())[-_ARMS:]
    return ", ".join(f"v{version} {arm} {n:,}" for (version, arm), n in newest) or "–"


def _rollout(model: ModelPicture) -> str:
    if model.rollout is None:
        return "no champion yet"
    evidence = model.evidence
    pairs = f": {evidence.paired_scores:,} scored pairs, {evidence.pairs.n:,} matured" if evidence else ""
    return rollout_line(model.rollout) + pairs


def _quality(model: ModelPicture) -> str:
    if (window := model.window) is None:
        return "–"
    found = ", ".join(f"{name} {value:.3f}" for name, value in list(window.quality.metrics.items())[:3])
    return (
        f"window {window.window} of v{window.version}: {found or 'no labels yet'} ({window.quality.labelled:,} labels)"
    )


def _drift(model: ModelPicture) -> str:
    if model.window is None or model.window.verdict == "insufficient_data":
        return "–"
    return drift_line(model.window)


def drift_line(window: WindowMeasured) -> str:
    """The features that have drifted, strongest against its threshold first."""
    drifted = sorted((each for each in window.drift if each.drifted), key=lambda each: -each.value / each.threshold)
    return ", ".join(f"{each.feature} {each.statistic} {each.value:.3f}" for each in drifted[:4]) or "none"


def _alerts(model: ModelPicture) -> str:
    return "; ".join(f"{alert.kind} of {', '.join(alert.features[:4])}" for alert in model.alerts.values()) or "–"


_ROWS = {
    "predictions": _predictions,
    "training": lambda model: model.run,
    "gates": lambda model: model.gates,
    "rollout": _rollout,
    "quality": _quality,
    "drift": _drift,
    "alerts": _alerts,
}
