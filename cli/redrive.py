"""What `modelbus dead-letters redrive` does: look, say, ask, and write back what is due."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.client import RegistryError, actor_name, counted, fail, say, settings
from cli.letters import Letter, Mark, Wanted, printable, read
from cli.redriver import Redriver, batches
from cli.verdicts import Verdicts
from schemas.topics import MAX_RECORD_BYTES
from shared.errors import Refusal
from shared.settings import KafkaSettings

_ROOM_BYTES = 4096  # of a record, for the header that names its letter and the frame
_NAMED = 20  # of each kind; the rest is counted


@dataclass(kw_only=True)
class Survey:
    """What of the wanted letters is due (record → its first letter), was redriven before, cannot be, or is left out:

    `again` says of each of these why today's declaration of its stream would refuse it again.
    """

    due: dict[str, str] = field(default_factory=dict)
    kinds: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    before: dict[str, Mark] = field(default_factory=dict)
    cannot: dict[str, str] = field(default_factory=dict)
    again: dict[str, str] = field(default_factory=dict)

    def names(self) -> set[str]:
        return {*self.due, *self.before, *self.cannot, *self.again}


def redrive(wanted: Wanted, *, anyway: bool, dry_run: bool, yes: bool, actor: str | None) -> None:
    """What would die again goes only `anyway`; then the registry is not asked.

    Raises:
        typer.Exit: with code 1, in words, where not all that was named could be done, or nothing of what there is.
    """
    try:
        survey = look(wanted, None if anyway else Verdicts())
    except RegistryError as error:
        fail(f"{error}; without the registry nobody can tell what would die again: --anyway does not ask")
    _say(survey)
    if missing := sorted(set(wanted.origins) - survey.names()):
        fail(f"there is no dead letter of {', '.join(missing)}")
    if not survey.due and survey.names():
        hint = "; --anyway takes along what would die again" if survey.again else ""
        fail(f"nothing is left to redrive: a record is redriven once, and only whole{hint}")
    if dry_run or not survey.due:
        return
    if not yes:
        typer.confirm(f"Redrive {counted(len(survey.due), 'record')}?", abort=True)
    done = _run(wanted, survey, actor_name(actor))
    say(f"{counted(done, 'record')} redriven")
    if (named := len(set(wanted.origins))) > done:
        fail(f"{named - done} of those named were not")


def look(wanted: Wanted, verdicts: Verdicts | None = None) -> Survey:
    """Read letters and marks once; keeps names, not records.

    Raises:
        RegistryError: the registry does not answer, when there are verdicts to be asked for.
    """
    survey, marks, kinds = Survey(), {}, {}
    for each in read():
        if isinstance(each, Mark):
            marks[each.name] = each
        elif each in wanted and each.name not in kinds:
            kinds[each.name] = (each.topic, each.reason, each.service)
            if why := _impossible(each):
                survey.cannot[each.name] = why
            elif verdicts and (why := verdicts.refusal(each)):
                survey.again[each.name] = why
            else:
                survey.due[each.name] = each.place
    survey.before = {name: marks[name] for name in kinds if name in marks}
    survey.due = {name: place for name, place in survey.due.items() if name not in marks}
    survey.cannot = {name: why for name, why in survey.cannot.items() if name not in marks}
    survey.again = {name: why for name, why in survey.again.items() if name not in marks}
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


def _say(survey: Survey) -> None:
    for (topic, reason, service), count in sorted(survey.kinds.items()):
        _print(f"{count} of {topic}, {reason}, parked by {service}")
    counts = [f"{counted(len(survey.due), 'record')} to redrive"]
    for words, short, names in (
        ("was redriven before", "redriven before", survey.before),
        ("cannot be redriven", "cannot be", survey.cannot),
        ("is left out, as it would die again", "left out, as they would die again", survey.again),
    ):
        for name, why in islice(names.items(), _NAMED):
            _print(f"{name} {words}: {why}")
        if names:
            counts.append(f"{len(names)} {short}")
    _print("; ".join(counts))


def _print(words: str) -> None:
    say(printable(words))


def _run(wanted: Wanted, survey: Survey, actor: str) -> int:
    """Redrive what was due, and still is once the redrivers before are fenced; returns how many."""
    done = 0
    columns = (TextColumn("redrive"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        redriver = Redriver(settings(KafkaSettings), actor)
        due = {name: place for name, place in look(wanted).due.items() if name in survey.due}
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
