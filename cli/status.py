"""`modelbus status`: everything at a glance."""

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from cli.client import registry, say, show_table, table

Json = dict[str, Any]


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print the registry's answer as it is, for scripts.")] = False,
) -> None:
    """Show streams, models, who serves, what is being trained or rolled out, alerts and tables."""
    with registry("viewer") as client:
        found = client.get("/status")
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        show_table(overview(found))
        for line in came_to_nothing(found["models"]):
            say(line)


def overview(found: Json) -> RenderableType:
    """The registry's /status as tables."""
    if not found["streams"]:
        return "nothing is declared yet; try `modelbus apply FILE`"
    parts = [models(found["models"])]
    if found["tables"]:
        parts.append(tables(found["tables"]))
    if any(model["open_alerts"] for model in found["models"]):
        parts.append(alerts(found["models"]))
    return Group(*parts)


def models(found: list[Json]) -> Table:
    """One row a model: champion, challenger, run, quality, alerts."""
    names = ("model", "stream", "champion", "challenger", "last run", "last window", "alerts")
    made = table(*names, title="models")
    for model in found:
        cells = (model["name"], model["stream"], champion(model), challenger(model), run(model["run"]),
                 window(model["window"]), str(len(model["open_alerts"]) or "–"))  # fmt: skip
        made.add_row(*map(escape, cells))
    return made


def champion(model: Json) -> str:
    """Such as `v3 (frozen)`."""
    serving = model["serving"]
    if serving["champion"] is None:
        waiting = ", ".join(f"v{version}" for version in model["awaiting"])
        return f"none; {waiting} await approval" if waiting else "none"
    return f"v{serving['champion']}{' (frozen)' if serving['frozen'] else ''}"


def challenger(model: Json) -> str:
    """Such as `v4 canary 25 % · 812 pairs`."""
    serving = model["serving"]
    if serving["challenger"] is None:
        waiting = ", ".join(f"v{version}" for version in model["awaiting"])
        return f"{waiting} await approval" if waiting and serving["champion"] is not None else "–"
    share = f" {serving['share']:.0%}" if serving["phase"] == "canary" else ""
    evidence = (model["rollout"] or {}).get("evidence")
    pairs = f" · {evidence['pairs']['n']} pairs" if evidence else ""
    return f"v{serving['challenger']} {serving['phase']}{share}{pairs}"


def run(found: Json | None) -> str:
    """Such as `training (searching 3/12)` or `failed: insufficient_data`."""
    if found is None:
        return "–"
    reason = f" for {found['reason']}" if found["reason"] else ""
    if found["state"] == "training" and found["stage"]:
        return f"training{reason} ({found['stage']} {found['done']}/{found['total']})"
    version = f" as v{found['version']}" if found["version"] else ""
    failure = f": {found['failure']}" if found["failure"] else ""
    return f"{found['state']}{version}{reason}{failure}"


def came_to_nothing(found: list[Json]) -> Iterator[str]:
    """Why the last run of a model brought no version that may serve, and where all of it stands."""
    for model in found:
        last = model["run"]
        if last and last["state"] in {"rejected", "failed"}:
            card = f"; `modelbus card {model['name']}:{last['version']}` tells more" if last["version"] else ""
            yield f"{model['name']}: the last run was in vain: {last['explanation']}{card}"


def window(found: Json | None) -> str:
    """Such as `v3 #12: roc_auc 0.912, roc_auc 0.905 estimated without labels, 2 drifted`."""
    if found is None:
        return "–"
    metrics = ", ".join(f"{name} {value:.3f}" for name, value in list(found["quality"]["metrics"].items())[:2])
    drifted = sum(each["drifted"] for each in found["drift"])
    parts = (metrics, bias(found["quality"]), estimate(found), f"{drifted} drifted" if drifted else "")
    words = [each for each in parts if each]
    return f"v{found['version']} #{found['window']}: {', '.join(words) or found['verdict']}"


def bias(quality: Json) -> str:
    """Where decisions hide labels."""
    if quality.get("biased"):
        return "biased: only what was answered with true has labels"
    return f"weighted by lot, worth {quality['effective']:.0f} labels" if quality.get("effective") else ""


def estimate(found: Json) -> str:
    """What the newest predictions are worth if inputs lead to labels as in training; and whether labels contradict."""
    if not found.get("estimated"):
        return ""
    name, value = next(iter(found["estimated"]["metrics"].items()))
    disagrees = ", which labels contradict" if found["quality"].get("disagrees") else ""
    biased = ", biased like the labels it was learned from" if found["estimated"].get("biased") else ""
    return f"{name} {value:.3f} estimated without labels{biased}{disagrees}"


def tables(found: list[Json]) -> Table:
    """One row a table: version, rows, the event time it reaches."""
    made = table("table", "version", "rows", "rejected", "until", title="tables")
    for each in found:
        until = (each["time_max"] or "–")[:16]
        made.add_row(
            escape(each["name"]), str(each["version"]), f"{each['rows_total']:,}", str(each["rejected_total"]), until
        )
    return made


def alerts(found: list[Json]) -> Table:
    """Every alert that holds; its name tells model, kind and version."""
    made = table("alert", "severity", "since", "what", title="alerts")
    for model in found:
        for alert in model["open_alerts"]:
            cells = (alert["alert"], alert["severity"], alert["raised_at"][:16], alert["explanation"])
            made.add_row(*map(escape, cells))
    return made
