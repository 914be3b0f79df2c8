"""`modelbus dead-letters`: the records that could not be handled, why, and what became of them."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

import typer
from pydantic import TypeAdapter, ValidationError
from rich.text import Text

from cli import redrive as redriving
from cli.client import counted, fail, say, show_table, table
from cli.letters import Letter, Mark, Reason, Wanted, printable, read
from cli.orders import Actor
from schemas.durations import Duration
from shared.dead_letters import original_headers

app = typer.Typer(help="Records that could not be handled, and why.", no_args_is_help=True)
_SHOWN_CHARACTERS: Final = 4000
_SHOWN_HEADERS: Final = 40
_HEADER_CHARACTERS: Final = 200
_SINCE: Final = TypeAdapter[datetime](datetime)
_AGO: Final = TypeAdapter[Duration](Duration)
Stream = Annotated[str | None, typer.Option(help="Only of this stream's (or model's) topics.")]
Topic = Annotated[str | None, typer.Option(help="Only of this topic.")]
Service = Annotated[str | None, typer.Option(help="Only parked by this service.")]
Why = Annotated[Reason | None, typer.Option(help="Only parked for this reason.")]
Since = Annotated[str | None, typer.Option(help="Only parked since: 2h (ago), or 2026-01-31T12:00Z.")]


@app.command("list")
def list_letters(
    *,
    stream: Stream = None,
    topic: Topic = None,
    service: Service = None,
    reason: Why = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
) -> None:
    """The newest dead letters, one a record however often it was parked."""
    wanted = Wanted(stream=stream, topic=topic, service=service, reason=reason, since=_time(since))
    found, marks, count = _newest(wanted, limit)
    columns = ("letter", "record", "reason", "by", "written", "redriven", "bytes", "error")
    made = table(*columns, frame=False)
    for letter in found.values():
        redriven = f"to {marks[letter.name].copy}" if letter.name in marks else "–"
        written = letter.written.isoformat(sep=" ", timespec="seconds")
        cells = (letter.place, letter.name, letter.reason, letter.service, written, redriven)
        size = str(len(letter.value or b""))
        made.add_row(*(Text(printable(cell)) for cell in (*cells, size, letter.error)))
    show_table(made)
    say(f"{len(found):,} of {counted(count, 'record')}")


def _newest(wanted: Wanted, limit: int) -> tuple[dict[str, Letter], dict[str, Mark], int]:
    """By their records: the newest letters, all marks, and how many records are wanted in all."""
    found: dict[str, Letter] = {}
    marks: dict[str, Mark] = {}
    seen: set[str] = set()
    for each in read():
        if isinstance(each, Mark):
            marks[each.name] = each
        elif each.name not in seen and each in wanted:
            seen.add(each.name)
            found[each.name] = each
            if len(found) > limit:
                found.pop(next(iter(found)))
    return found, marks, len(seen)


@app.command("show")
def show_letter(
    name: Annotated[
        str, typer.Argument(help="PARTITION/OFFSET of the letter, or TOPIC/PARTITION/OFFSET of its record.")
    ],
) -> None:
    """One dead letter: why, its headers, its key and its bytes; control characters are escaped."""
    letter, mark = _find(name)
    facts = [
        ("letter", letter.place),
        ("record", letter.name),
        ("reason", letter.reason),
        ("error", letter.error),
        ("by", letter.service),
        ("attempts", letter.attempts),
        ("written", letter.written.isoformat()),
        ("redriven", str(mark) if mark else "no"),
        *_headers(original_headers(letter.headers)),
        ("key", _text(letter.key)),
        ("value", _text(letter.value)),
    ]
    if letter.truncated:
        size = _text(dict(letter.headers)["dlq-truncated"])
        facts.append(("cut", f"the value as it was sent had {size} bytes"))
    made = table("fact", "value", frame=False)
    made.show_header = False
    for fact, value in facts:
        made.add_row(Text(printable(fact)), Text(printable(value)))
    show_table(made)


def _find(name: str) -> tuple[Letter, Mark | None]:
    letter, marks = None, {}
    for each in read():
        if isinstance(each, Mark):
            marks[each.name] = each
        elif letter is None and name in {each.place, each.name}:
            letter = each
    if letter is None:
        fail(f"there is no dead letter {name}; see `modelbus dead-letters list`")
    return letter, marks.get(letter.name)


@app.command("redrive")
def redrive(
    *,
    stream: Stream = None,
    topic: Topic = None,
    service: Service = None,
    reason: Why = None,
    since: Since = None,
    origin: Annotated[
        list[str] | None, typer.Option(help="Only this record: TOPIC/PARTITION/OFFSET; may be repeated.")
    ] = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also what would be refused again; nobody is asked.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    actor: Actor = None,
) -> None:
    """Write records back to where they came from, once each, after what was wrong with their readers is repaired.

    Key, value and headers are those of the record as it was sent; a header says which letter it comes from. What the
    declaration of its stream would refuse again, as it is today, is told and left out.
    """
    wanted = Wanted(
        stream=stream, topic=topic, service=service, reason=reason, since=_time(since), origins=origin or ()
    )
    redriving.redrive(wanted, anyway=anyway, dry_run=dry_run, yes=yes, actor=actor)


def _time(since: str | None) -> datetime | None:
    if since is None:
        return None
    try:
        return datetime.now(UTC) - _AGO.validate_python(since)
    except ValidationError:
        pass
    try:
        time = _SINCE.validate_python(since)
    except ValidationError:
        raise typer.BadParameter(f"expected a duration such as 2h, or a time, got {since!r}") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _headers(found: Sequence[tuple[str, bytes | None]]) -> Iterator[tuple[str, str]]:
    """The first of them, each cut: a terminal is no place for thousands."""
    for name, value in found[:_SHOWN_HEADERS]:
        yield f"header {name[:_HEADER_CHARACTERS]}", _text(value, _HEADER_CHARACTERS)
    if (rest := len(found) - _SHOWN_HEADERS) > 0:
        yield "headers", f"{rest} more"


def _text(value: bytes | None, most: int = _SHOWN_CHARACTERS) -> str:
    if value is None:
        return "(none)"
    text = printable(value.decode(errors="backslashreplace"))
    rest = len(text) - most
    return text if rest <= 0 else f"{text[:most]}… ({rest} more characters, {len(value)} bytes in all)"
