"""What `modelbus dead-letters redrive` does: look, say, ask, and write back what is due."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.client import actor_name, fail, say
from cli.letters import Letter, Mark, Wanted, kafka_settings, printable, read
from cli.redriver import Redriver, batches
from cli.verdicts import Verdicts
from schemas.topics import MAX_RECORD_BYTES
from shared.errors import Refusal

_ROOM_BYTES = 4096  # of a record, for the header that names its letter and the frame
_NAMED = 20  # of each kind; the rest is counted


@dataclass(kw_only=True)
class Survey:
    """What of the wanted letters is due (record → its first letter), was redriven before, cannot be, or is left out.

    `again` says why today's declaration would refuse a record again; unless it is asked for, such a one is not due.
    """

    due: dict[str, str] = field(default_factory=dict)
    kinds: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    before: dict[str, Mark] = field(default_factory=dict)
    cannot: dict[str, str] = field(default_factory=dict)
    again: dict[str, str] = field(default_factory=dict)

    def names(self) -> set[str]:
        return {*self.due, *self.before, *self.cannot, *self.again}


def redrive(wanted: Wanted, *, anyway: bool, dry_run: bool, yes: bool, actor: str | None) -> None:
    """Raises typer.Exit with code 1, in words, where nothing or not all that was named could be done."""
    verdicts = Verdicts()
    survey = look(wanted, verdicts, anyway=anyway)
    _say(survey, anyway=anyway)
    if missing := sorted(set(wanted.origins) - survey.names()):
        fail(f"there is no dead letter of {', '.join(missing)}")
    if not survey.due and survey.names():
        fail("nothing is left to redrive: a record is redriven once, only whole, and not to die again unless --anyway")
    if dry_run or not survey.due:
        return
    if not yes:
        typer.confirm(f"Redrive {len(survey.due)} records?", abort=True)
    done = _run(wanted, verdicts, actor_name(actor), anyway=anyway)
    Console().print(f"{done} records redriven", highlight=False)
    if wanted.origins and done < len(wanted.origins):
        raise typer.Exit(1)


def look(wanted: Wanted, verdicts: Verdicts, *, anyway: bool) -> Survey:
    """Read letters and marks once; keeps names, not records."""
    survey, marks, kinds = Survey(), {}, {}
    for each in read():
        if isinstance(each, Mark):
            marks[each.name] = each
        elif each in wanted and each.name not in kinds:
            kinds[each.name] = (each.topic, each.reason, each.service)
            if why := _impossible(each):
                survey.cannot[each.name] = why
            else:
                survey.due[each.name] = each.place
            if why := verdicts.refusal(each):
                survey.again[each.name] = why
    survey.before = {name: marks[name] for name in kinds if name in marks}
    survey.due = {name: place for name, place in survey.due.items() if name not in marks}
    survey.cannot = {name: why for name, why in survey.cannot.items() if name not in marks}
    survey.again = {name: why for name, why in survey.again.items() if name in survey.due}
    if not anyway:
        survey.due = {name: place for name, place in survey.due.items() if name not in survey.again}
    survey.kinds.update(kinds[name] for name in survey.due)
    return survey


def _impossible(letter: Letter) -> str | None:
    if letter.origin is None:
        return "the letter does not say where its record stood"
    if letter.truncated:
        return "its value was cut when it was parked; the record itself stands in its own topic"
    size = len(letter.key or b"") + len(letter.value or b"")
    size += sum(len(name) + len(value or b"") for name, value in letter.headers)
    return "it is too large to be written back" if size > MAX_RECORD_BYTES - _ROOM_BYTES else None


def _say(survey: Survey, *, anyway: bool) -> None:
    for (topic, reason, service), count in sorted(survey.kinds.items()):
        _print(f"{count} of {topic}, {reason}, parked by {service}")
    for words, names in (
        ("was redriven before", survey.before),
        ("cannot be redriven", survey.cannot),
        ("would die again", survey.again),
    ):
        for name, why in islice(names.items(), _NAMED):
            _print(f"{name} {words}: {why}")
    again = f"{len(survey.again)} " + ("of them would die again" if anyway else "left out, as they would die again")
    counts = f"{len(survey.before)} redriven before, {len(survey.cannot)} cannot be"
    _print(f"{len(survey.due)} records to redrive, {again}; {counts}")


def _print(words: str) -> None:
    say(printable(words))


def _run(wanted: Wanted, verdicts: Verdicts, actor: str, *, anyway: bool) -> int:
    """Redrive what is due once the redrivers before are fenced; returns how many."""
    done = 0
    columns = (TextColumn("redrive"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        redriver = Redriver(kafka_settings(), actor)
        due = look(wanted, verdicts, anyway=anyway).due
        with Progress(*columns, console=Console()) as progress:
            bar = progress.add_task("redrive", total=len(due))
            for batch in batches(_letters(due)):
                redriver.redrive(batch)
                done += len(batch)
                progress.update(bar, completed=done)
    except (Refusal, KeyboardInterrupt) as error:
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
        fail(f"{why}; {done} records are redriven for certain, and what is will not be again")
    return done


def _letters(due: dict[str, str]) -> Iterator[Letter]:
    places = set(due.values())
    return (each for each in read() if isinstance(each, Letter) and each.place in places)
