"""`modelbus why`: from a prediction to all that made the version which answered it."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from cli.client import registry, show
from cli.orders import version_parts

Json = dict[str, Any]


def why(
    prediction: Annotated[
        str, typer.Argument(metavar="PREDICTION", help="Its id, such as e1@flight-delay:3, or MODEL:VERSION alone.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """What stands behind a prediction: its version's run, who asked for it, data, code, gates, approvals, rollouts."""
    model, version = version_of(prediction)
    with registry("viewer") as client:
        found = client.get(f"/lineage/{model}/{version}")
    show(found, told, width=10, as_json=as_json)


def version_of(prediction: str) -> tuple[str, int]:
    """Model and version inside a prediction's id, or alone; event ids may hold any sign.

    >>> version_of("a@b:1@flight-delay:3")
    ('flight-delay', 3)

    Raises:
        typer.BadParameter: it is not a prediction's id.
    """
    event, at, name = prediction.rpartition("@")
    parts = version_parts(name)
    if parts is None or (at and not event):
        expected = "[<event id>@]<model>:<version>, such as e1@flight-delay:3"
        raise typer.BadParameter(f"expected a prediction's id, {expected}; got {prediction!r}")
    return parts


def told(found: Json) -> Iterator[tuple[str, str]]:
    """The lineage, line by line: what, and in words."""
    yield "version", f"{found['model']}:{found['version']}, {found['stage'].replace('_', ' ')}"
    yield "run", f"{found['run_id']}, made {found['created_at'][:19]}"
    if run := found["run"]:
        yield "asked by", f"{run['reason'] or 'not heard'}: {run['request'] or 'not heard'}"
    yield from _made_from(found)
    for erased in found["erasures"]:
        yield "erased", f"at {erased['erased_at'][:19]}, of what it may have learned from; receipt {erased['receipt']}"
    yield from _made_with(found)
    for name, artifact in (found["artifacts"] | {"report": found["report"]}).items():
        if artifact:
            yield name, artifact["digest"]
    for gate in found["gates"]:
        yield "gate", f"{gate['name']} {gate['verdict'].replace('_', ' ')}: {gate['reason']}"
    yield from _decided(found)
    for comment in found["comments"]:
        yield "comment", f"{comment['actor']} at {comment['at'][:19]}: {comment['text']}"
    yield "trace", found["trace_id"] or "none"


def _made_from(found: Json) -> Iterator[tuple[str, str]]:
    cut, stream = found["cut"], found["stream_spec"]["stream"]
    for kind in ("data", "labels"):
        offsets = " ".join(f"{each}@{offset}" for each, offset in sorted(cut[f"{kind}_offsets"].items(), key=_number))
        yield kind, f"{stream}, table version {cut[f'{kind}_version']}, partition@offset: {offsets or 'none'}"
    yield "cut", f"{cut['time'][:19]} in event time, {found['rows']:,} rows"


def _made_with(found: Json) -> Iterator[tuple[str, str]]:
    yield "seed", str(found["seed"])
    if made := found["made_with"]:
        yield "code", made["code_version"]
        yield "lock", made["lock_hash"] or "none was deployed"
        yield "libraries", ", ".join(f"{name} {version}" for name, version in sorted(made["libraries"].items()))
        yield "python", made["python"]
    else:
        yield "code", f"not known: {found['unreadable']}"


def _decided(found: Json) -> Iterator[tuple[str, str]]:
    if not found["approvals"]:
        yield "approval", f"{found['approval'] or 'none'}; nobody has said yes"
    for approval in found["approvals"]:
        yield "approval", f"{approval['actor']} at {approval['at'][:19]}: {approval['reason']}"
    for rollout in reversed(found["rollouts"]):
        revisions = ", ".join(str(step["revision"]) for step in rollout["steps"])
        outcome = (rollout["outcome"] or "not over yet").replace("_", " ")
        why = f": {rollout['reason']}" if rollout["reason"] else ""
        yield "rollout", f"revisions {revisions}, since {rollout['started_at'][:19]}, {outcome}{why}"
    if not found["rollouts"]:
        yield "rollout", "never"


def _number(offset: tuple[str, int]) -> int:
    return int(offset[0])
