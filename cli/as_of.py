"""`modelbus as-of`: what was live at an instant, and why."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from cli.client import registry, show
from cli.orders import Model, model_path

Json = dict[str, Any]


def as_of(
    model: Model,
    at: Annotated[
        datetime,
        typer.Argument(
            formats=[
                "%Y-%m-%dT%H:%M:%S",
                "%Y-%m-%dT%H:%M",
                "%Y-%m-%d",
                "%Y-%m-%dT%H:%M%z",
                "%Y-%m-%dT%H:%M:%S.%f%z",
                "%Y-%m-%dT%H:%M:%S%z",
            ],
            help="By the clock, not event time; UTC unless it says otherwise.",
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """What was live at an instant, and why: who served, since when, asked for and approved by whom; what people did."""
    instant = at if at.tzinfo else at.replace(tzinfo=UTC)
    with registry("viewer") as client:
        found = client.get(f"{model_path(model)}/as-of", at=instant.isoformat())
    show(found, told, width=12, as_json=as_json)


def told(found: Json) -> Iterator[tuple[str, str]]:
    """The answer, line by line: what, and in words."""
    declared, serving = found["declared"], found["serving"]
    yield "declared", f"revision {declared['revision']}, by {declared['actor']}: {declared['reason']}"
    if serving is None:
        yield "serving", "nobody yet"
    else:
        frozen = ", frozen" if serving["frozen"] else ""
        yield "serving", f"revision {serving['revision']}, {serving['phase']}{frozen}: {serving['reason']}"
    for role in ("champion", "challenger"):
        if live := found[role]:
            yield from _live(role, live, serving["share"])
    stages = ", ".join(f"v{version} {stage.replace('_', ' ')}" for version, stage in found["stages"].items())
    yield "versions", stages or "none"
    yield "alerts", ", ".join(found["open_alerts"]) or "none"
    for act in found["acts"]:
        yield "act", f"{act['at'][:19]} {act['actor']} {act['action']} {act['subject']}: {act['reason']}"


def _live(role: str, live: Json, share: float) -> Iterator[tuple[str, str]]:
    part = f", {share:.0%} of the traffic" if role == "challenger" else ""
    yield role, f"v{live['version']}{part}, since {live['since'][:19]}: {live['because']}"
    yield "  asked for", live["asked"] or "not heard"
    gates = [f"{gate['name']} {gate['verdict'].replace('_', ' ')}" for gate in live["gates"]]
    yield "  gates", ", ".join(gates) or "none"
    for approval in live["approvals"]:
        yield "  approved", f"{approval['actor']} at {approval['at'][:19]}: {approval['reason']}"
