"""`modelbus rollouts`: how each version came to serve or fell, and exactly what a version answered."""

import json
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer
from confluent_kafka import KafkaException
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from cli.client import Registry, fail, registry, say, settings, show_table, table
from cli.evidence import words_of
from cli.orders import Model, Version, model_path, version_path
from cli.radius import Part, Served, total
from cli.status import challenger, champion
from schemas.specs import Rollout as Policy
from schemas.topics import PREDICTIONS
from shared.errors import Fault
from shared.reading import Message, Reader, prediction_of
from shared.settings import KafkaSettings

Json = dict[str, Any]
AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]
app = typer.Typer(help="How versions came to serve or fell, and what they answered.", no_args_is_help=True)
_BATCH_RECORDS = 5000


@app.command("show")
def show(
    model: Model,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Who serves MODEL now, and its rollouts: revisions, shares, where partitions switched, what is known, the end."""
    where = model_path(model)
    with registry("viewer") as client:
        declared = client.get(where)
        found = [rollout for rollout, _ in zip(client.pages(f"{where}/rollouts"), range(limit), strict=False)]
        policies = [_policy(client, rollout) for rollout in found]
    if as_json:
        typer.echo(json.dumps({"serving": declared["serving"], "rollouts": found}, indent=2))
        return
    live = {"serving": declared["serving"], "awaiting": [], "rollout": None}
    revision = declared["serving"]["rollout_revision"]
    say(f"{model} at revision {revision}: champion {champion(live)}, challenger {challenger(live)}")
    if not found:
        say("no version has been rolled out yet; `modelbus status` tells what came of its last run")
    for rollout, policy in zip(reversed(found), reversed(policies), strict=True):
        show_table(_steps(rollout))
        for line in (*words_of(rollout, policy), *_end(rollout)):
            say(line)


def _policy(client: Registry, rollout: Json) -> Policy:
    """As it was declared when the version was made."""
    version = client.get(f"/models/{rollout['model']}/versions/{rollout['version']}")
    return Policy.model_validate(version["spec"]["rollout"])


def _steps(rollout: Json) -> Table:
    title = f"\nversion {rollout['version']}, since {rollout['started_at'][:19]}"
    columns = ("revision", "at", "phase", "champion", "challenger", "share", "switched (partition@offset)", "reason")
    made = table(*columns, title=title, frame=False)
    for step in rollout["steps"]:
        switched = " ".join(f"{each}@{offset}" for each, offset in sorted(step["switched"].items(), key=_number))
        frozen = " (frozen)" if step["frozen"] else ""
        tried = f"v{step['challenger']}" if step["challenger"] else "–"
        cells = (str(step["revision"]), step["at"][:19], step["phase"] + frozen, f"v{step['champion']}", tried,
                 f"{step['share']:.0%}", switched or "nowhere yet", step["reason"])  # fmt: skip
        made.add_row(*map(escape, cells))
    return made


def _number(switched: tuple[str, int]) -> int:
    return int(switched[0])


def _end(rollout: Json) -> Iterator[str]:
    if rollout["outcome"] is None:
        yield "not over yet"
        return
    yield f"{rollout['outcome'].replace('_', ' ')} at {rollout['ended_at'][:19]}: {rollout['reason']}"
    if withdrawn := rollout["withdrawn"]:
        done = withdrawn.get("corrections")
        corrected = "corrections under way" if done is None else f"{done:,} corrections"
        yield f"withdrawn: revisions {withdrawn['from_revision']}–{withdrawn['until_revision']}, {corrected}"


@app.command("blast-radius")
def blast_radius(
    version: Version,
    as_json: AsJson = False,
) -> None:
    """Exactly which predictions a version served, counted by partition from the topic as consumers read it."""
    with registry("viewer") as client:
        found = client.get(version_path(version))
        model, number = found["model"], found["version"]
        rollouts = list(client.pages(f"/models/{model}/rollouts"))
    served = Served.of(number, (step for rollout in rollouts for step in rollout["steps"]))
    parts = counted(model, served) if served.revisions else {}
    whole = total(parts.values())
    withdrawn = next((each["withdrawn"] for each in rollouts if each["version"] == number and each["withdrawn"]), None)
    if as_json:
        said = {
            "model": model,
            "version": number,
            "revisions": served.revisions,
            "total": {name: value for name, value in whole.said().items() if not name.endswith("_offset")},
            "partitions": {partition: part.said() for partition, part in parts.items()},
            "withdrawn": withdrawn,
        }
        typer.echo(json.dumps(said, indent=2))
        return
    if parts:
        show_table(_table(parts))
    for line in _sum(version, served, whole, withdrawn):
        say(line)


def counted(model: str, served: Served) -> dict[int, Part]:
    """Of each partition; only the stretch of the version's revisions is read, for revisions rise in a partition."""
    topic, found = PREDICTIONS.of(model), {}
    first, last = served.revisions[0], served.revisions[-1]
    columns = (TextColumn("count"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    try:
        with (
            Reader(settings(KafkaSettings), "modelbus.cli", _BATCH_RECORDS) as reader,
            Progress(*columns, console=Console(stderr=True), transient=True) as progress,
        ):
            for partition, span in reader.spans(topic).items():
                start = reader.first(topic, partition, span, _reached(first))
                end = reader.first(topic, partition, (start, span[1]), _reached(last + 1))
                bar = progress.add_task("count", total=end - start)
                found[partition] = part = Part()
                for batch in reader.read(topic, partition, start, end):
                    _take(part, batch, served)
                    progress.update(bar, completed=batch[-1].offset() + 1 - start)
    except KafkaException as error:
        fail(f"{topic}: {error.args[0].str()}")
    except Fault as error:
        fail(str(error))
    return found


def _reached(revision: int) -> Callable[[Message], bool | None]:
    def reached(message: Message) -> bool | None:
        prediction = prediction_of(message)
        return None if prediction is None else prediction.revision >= revision

    return reached


def _take(part: Part, batch: list[Message], served: Served) -> None:
    for message in batch:
        prediction = prediction_of(message)
        if prediction and prediction.version == served.version:
            part.take(prediction, served.revision_at(prediction.partition, prediction.offset))


def _table(parts: dict[int, Part]) -> Table:
    columns = ("partition", "predictions", "as champion", "as canary", "input offsets", "entities", "event times")
    made = table(*columns, frame=False)
    for partition, part in parts.items():
        arms = (f"{part.arms[arm]:,}" for arm in ("champion", "canary"))
        offsets = f"{part.first_offset}–{part.last_offset}" if part.predictions else "–"
        made.add_row(str(partition), f"{part.predictions:,}", *arms, offsets, f"{len(part.entities):,}", _times(part))
    return made


def _times(part: Part) -> str:
    if part.first_time is None or part.last_time is None:
        return "–"
    return f"{part.first_time:%Y-%m-%d %H:%M:%S} – {part.last_time:%Y-%m-%d %H:%M:%S}"


def _sum(name: str, served: Served, whole: Part, withdrawn: Json | None) -> Iterator[str]:
    if not served.revisions:
        yield f"{name} never served: nothing to take back"
        return
    revisions = ", ".join(map(str, served.revisions))
    yield f"{name} served under revisions {revisions}"
    yield f"{whole.predictions:,} predictions for {len(whole.entities):,} entities, {_times(whole)}"
    yield "each within its fences" if not whole.beyond else f"{whole.beyond:,} of them are not where the fences say"
    if withdrawn:
        done = withdrawn.get("corrections")
        yield "withdrawn; corrections are under way" if done is None else f"withdrawn, with {done:,} corrections"
