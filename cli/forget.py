"""`modelbus forget`: an entity taken out of what is kept, and the receipt; `modelbus erasures`: earlier receipts."""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from confluent_kafka import KafkaException
from deltalake.exceptions import DeltaError
from pydantic import TypeAdapter

from cli.client import Json, Registry, fail, registry, say, settings
from cli.letters import Letter, printable, read
from cli.orders import Actor, version_path
from schemas.durations import Duration
from schemas.events.ingestor import Kind
from schemas.events.parts import Cut
from schemas.topics import DATA, LABELS, PREDICTIONS
from shared.erasure import Held, expiries, last_records, names, rows_of
from shared.errors import ModelbusError
from shared.settings import KafkaSettings, S3Settings
from shared.tables import Tables

_WAIT_SECONDS, _ASK_SECONDS = 600.0, 0.5
_UNREGISTERED = ("trained", "rejected")
_WINDOW = TypeAdapter[timedelta](Duration)
_FAMILIES: Mapping[Kind, Any] = {"data": DATA, "labels": LABELS, "predictions": PREDICTIONS}
Streams = Annotated[list[str] | None, typer.Option("--stream", help="Only of this stream; may be repeated.")]


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What is kept of an entity: by table, dead letters, topics and until when, versions that saw its rows."""

    held: dict[str, Held]
    letters: int
    remaining: dict[str, datetime | None]
    affected: list[str]

    def lines(self) -> Iterator[str]:
        for table, held in self.held.items():
            yield f"{table}: {held.rows.num_rows:,} rows in {held.files} files, and every older version of the table"
        yield f"dead letters: {self.letters}"
        for topic, at in self.remaining.items():
            until = f"the log has records until {at.isoformat(timespec='seconds')} at the latest" if at else "for ever"
            yield f"not erased: {topic}, {until}"
        yield f"no longer reproducible bit for bit: {', '.join(self.affected) or 'no registered version'}"


def forget(
    entity: Annotated[str, typer.Argument(help="The entity, as records name it.")],
    *,
    stream: Streams = None,
    reason: Annotated[
        str | None, typer.Option("--reason", "-r", help="Why; it stays on record, so it must not name the entity.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go and what it costs; do nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    actor: Actor = None,
) -> None:
    """Erase an entity from what is kept: rows of all table versions, pinned ones too, and dead letters. For approvers.

    It is of the past: events of the entity that come later are taken as usual. Topics keep its records until these
    expire; the receipt says when that is at the latest. Models stay as they are, but a version trained on its rows
    cannot be reproduced bit for bit any more. Prints the receipt as JSON; keep its `proof`: only that shows whom it is
    about. Exit code 1: nothing of the entity is kept, or it was refused.
    """
    if not dry_run and not reason:
        fail("expected --reason: why this entity is erased stays on record")
    with registry("viewer") as client:
        survey = look(client, entity, stream)
    for line in survey.lines():
        say(printable(line))
    if dry_run:
        return
    if not yes:
        typer.confirm("Erase it for good?", abort=True)
    with registry("approver", actor=actor) as client:
        ordered = client.post("/erasures", entity=entity, streams=stream, reason=reason)
        typer.echo(f"ordered: receipt {ordered['receipt']}, proof {ordered['proof']}", err=True)  # whatever comes now
        receipt = _done(client, ordered["receipt"])
    typer.echo(json.dumps({**receipt, "proof": ordered["proof"]}, indent=2))
    if receipt["told"] is None:
        fail(f"not over after {_WAIT_SECONDS:.0f} s; it goes on: modelbus erasures {ordered['receipt']}")


def erasures(
    receipt: Annotated[str | None, typer.Argument(help="Of one erasure, sha256:…; without it, the newest.")] = None,
) -> None:
    """Receipts of what was erased, as JSON; whom they are about, only those know who kept the proof."""
    with registry("viewer") as client:
        found = client.get("/erasures" if receipt is None else f"/erasures/{receipt}")
    typer.echo(json.dumps(found, indent=2))


def _done(client: Registry, receipt: str) -> Json:
    deadline = time.monotonic() + _WAIT_SECONDS
    while (found := client.get(f"/erasures/{receipt}"))["told"] is None and time.monotonic() < deadline:
        time.sleep(_ASK_SECONDS)
    return found


def look(client: Registry, entity: str, streams: list[str] | None) -> Survey:
    """What would go; ends the command where that is nothing."""
    declared = [each["name"] for each in client.pages("/streams")]
    if unknown := sorted(set(streams or ()) - set(declared)):
        fail(f"stream {unknown[0]!r} is not declared; expected one of {', '.join(declared) or 'none'}")
    wanted = streams or declared
    models = [each["name"] for each in client.pages("/models") if each["stream"] in wanted]
    owners: list[tuple[Kind, str]] = [(kind, name) for name in wanted for kind in ("data", "labels")]
    owners += [("predictions", model) for model in models]
    tables, mine = Tables(settings(S3Settings)), rows_of(entity)
    try:
        held = {_FAMILIES[kind].of(owner): Held.of_newest(tables, kind, owner, mine) for kind, owner in owners}
        letters = {
            each.name: each
            for each in read()
            if isinstance(each, Letter) and each.topic in held and names(entity, each.key, each.value)
        }
        if not letters and not any(each.files for each in held.values()):
            fail(f"nothing is kept of {entity!r} in {', '.join(wanted) or 'no stream'}: no row, no dead letter")
        places = [(each.origin.topic, each.origin.partition, each.origin.offset)
                  for each in letters.values() if each.origin]  # fmt: skip
        remaining = expiries(settings(KafkaSettings), last_records(held, places), datetime.now(UTC))
    except KafkaException as error:
        fail(f"Kafka: {error.args[0].str()}")
    except (ModelbusError, DeltaError, OSError) as error:
        fail(str(error))
    return Survey(
        held={f"{kind}/{owner}": rows for kind, owner in owners if (rows := held[_FAMILIES[kind].of(owner)]).files},
        letters=len(letters),
        remaining=remaining,
        affected=[each for model in models for each in _affected(client, model, held)],
    )


def _affected(client: Registry, model: str, held: Mapping[str, Held]) -> Iterator[str]:
    """Registered versions that could see its rows."""
    for each in client.pages(f"/models/{model}/versions"):
        if each["stage"] in _UNREGISTERED:
            continue
        name = f"{model}:{each['version']}"
        known = client.get(version_path(name))
        window = _WINDOW.validate_python(known["spec"]["training"]["window"])
        rows = held[DATA.of(known["stream_spec"]["stream"])]
        if rows.within(Cut.model_validate(known["cut"]), window):
            yield name
