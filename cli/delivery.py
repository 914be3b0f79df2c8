"""`modelbus delivery`: how fast and how safely new versions of a model go live."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any

import typer

from cli.client import registry, show
from cli.orders import Model, model_path


def delivery(model: Model, as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False) -> None:
    """Lead time, deployment frequency, change failure rate and time to restore of MODEL, by the clock."""
    with registry("viewer") as client:
        found = client.get(f"{model_path(model)}/delivery")
    show(found, told, width=22, as_json=as_json)


def told(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The measures in words."""
    yield "deployments", str(found["deployments"])
    yield "lead time", _span(found["lead_seconds"], "from a training's request to champion, the median")
    yield "deployment frequency", _number(found["per_week"], ",.2f", " a week")
    yield "change failure rate", _number(found["failure_rate"], ".1%", f", {found['failures']} were taken back")
    yield "time to restore", _span(found["restore_seconds"], "from a bad champion to the one before, the median")


def _span(seconds: float | None, what: str) -> str:
    return "nothing to measure yet" if seconds is None else f"{timedelta(seconds=round(seconds))}, {what}"


def _number(value: float | None, form: str, what: str) -> str:
    return "nothing to measure yet" if value is None else f"{value:{form}}{what}"
