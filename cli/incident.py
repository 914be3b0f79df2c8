"""`modelbus incident`: an alert, computed again from the log; and what another configuration would have said."""

import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer
from confluent_kafka import KafkaException
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.client import fail, say, settings
from schemas.events.monitor import AlertRaised
from schemas.specs import Monitoring
from services.monitor.history import History, alert_of
from services.monitor.incident import Verdict, recomputed
from services.monitor.recomputation import Cut
from shared.errors import ModelbusError
from shared.objects import Objects
from shared.reading import Reader
from shared.settings import KafkaSettings, S3Settings

Json = dict[str, Any]
_BATCH_RECORDS = 5000


def incident(
    alert: Annotated[str, typer.Argument(metavar="ALERT_ID", help="As `modelbus status` names it.")],
    parallel: Annotated[int, typer.Option(min=1, max=32, help="So many readers share the partitions.")] = 1,
    window: Annotated[int | None, typer.Option(min=100, help="Had windows been so many predictions?")] = None,
    false_alarms_per_year: Annotated[
        float | None, typer.Option(min=0.001, help="Had so many false alarms been accepted?")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Compute an alert again from the records below the offsets that its windows name: is it what was said?

    All windows of its model up to the alert's are read and measured, since its detectors rest on them. Exit code 0:
    everything came out equal, bit for bit. 1: it did not, and what differs. With another configuration, also what that
    would have raised over the same span.
    """
    try:
        with Reader(settings(KafkaSettings), "modelbus.cli", _BATCH_RECORDS) as reader:
            said = alert_of(reader, alert)
            history = History.of(reader, said.model)
        cuts = _until(history.cuts(), said)
        verdict = _recomputed(history, cuts, parallel)
        asked = _asked(cuts, said, window, false_alarms_per_year)
        otherwise = None if asked is None else _recomputed(history, cuts, parallel, asked)
    except KafkaException as error:
        fail(f"Kafka: {error.args[0].str()}")
    except (ModelbusError, OSError) as error:
        fail(f"{alert}: {error}")
    if as_json:
        typer.echo(json.dumps(_said(said, cuts, verdict, asked, otherwise), indent=2))
    else:
        for line in _told(said, cuts, verdict, asked, otherwise):
            say(line)
    if verdict.different:
        raise typer.Exit(1)


def _until(cuts: Sequence[Cut], alert: AlertRaised) -> list[Cut]:
    """Up to the one that holds the alert's window."""
    place = alert.version, alert.window
    ends = [index for index, cut in enumerate(cuts) if place in {(each.version, each.window) for each in cut.windows}]
    if not ends:
        fail(f"{alert.alert}: its window was not said")
    return list(cuts[: ends[0] + 1])


def _asked(
    cuts: Sequence[Cut], alert: AlertRaised, window: int | None, false_alarms: float | None
) -> Monitoring | None:
    """The configuration that is asked for, where it is another one."""
    if window is None and false_alarms is None:
        return None
    declared = cuts[-1].facts.models[alert.model].spec.monitoring
    changes = {"window": window, "false_alarms_per_year": false_alarms}
    return declared.model_copy(update={name: value for name, value in changes.items() if value is not None})


def _recomputed(history: History, cuts: Sequence[Cut], parallel: int, asked: Monitoring | None = None) -> Verdict:
    verdict, columns = Verdict(), (TextColumn("recompute"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("recompute", total=len(cuts))
        kafka, objects = settings(KafkaSettings), Objects(settings(S3Settings))
        steps = recomputed(history, cuts, kafka=kafka, objects=objects, parallel=parallel, asked=asked)
        for each in steps:
            verdict = each
            progress.advance(bar)
    return verdict


def _said(
    alert: AlertRaised, cuts: Sequence[Cut], verdict: Verdict, asked: Monitoring | None, otherwise: Verdict | None
) -> Json:
    found: Json = {
        "alert": alert.model_dump(mode="json"),
        "windows": sum(len(cut.windows) for cut in cuts),
        "equal": verdict.equal,
        "different": verdict.different,
    }
    if asked is not None and otherwise is not None:
        raised = [each.model_dump(mode="json") for each in otherwise.alerts()]
        found["otherwise"] = {"monitoring": asked.model_dump(mode="json"), "raised": raised}
    return found


def _told(
    alert: AlertRaised, cuts: Sequence[Cut], verdict: Verdict, asked: Monitoring | None, otherwise: Verdict | None
) -> Iterator[str]:
    yield f"{alert.alert} ({alert.severity} {alert.kind}, {alert.raised_at:%F %R}): {alert.explanation}"
    windows = sum(len(cut.windows) for cut in cuts)
    if verdict.different:
        yield f"NOT equal: of what was said with {windows} windows, {len(verdict.different)} came out different:"
        yield from (f"  {each}" for each in verdict.different)
    else:
        yield f"equal, bit for bit: {verdict.equal} events of {windows} windows, recomputed from the log"
    if asked is None or otherwise is None:
        return
    yield f"with windows of {asked.window} and {asked.false_alarms_per_year:g} false alarms a year there had been:"
    for each in otherwise.alerts():
        yield f"  {each.raised_at:%F %R}  {each.kind}: {each.explanation}"
    if not otherwise.alerts():
        yield "  no alert"
