"""`modelbus replay`: what would another version have predicted? A past span scored again, on a copy."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from confluent_kafka import KafkaException
from deltalake.exceptions import DeltaError
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.client import fail, registry, say, settings
from cli.orders import Version, version_path
from cli.span import Part, Span
from schemas.events.parts import Release
from schemas.specs import StreamSpec
from services.deployer.domain.comparison import Answer, Comparison, Served
from services.deployer.replay import Replay, Replayed
from services.deployer.view import loaded
from shared.errors import ModelbusError
from shared.objects import Objects
from shared.reading import Reader
from shared.settings import KafkaSettings, S3Settings
from shared.tables import Tables

Json = dict[str, Any]
Write = Callable[[list[Json]], None]
_BATCH_RECORDS = 5000
_WHEN = TypeAdapter[datetime](datetime)
_SCHEMA = pa.schema(
    [
        ("event_id", pa.string()), ("entity", pa.string()), ("time", pa.timestamp("us", "UTC")),
        ("partition", pa.int32()), ("offset", pa.int64()), ("version", pa.int32()), ("score", pa.float64()),
        ("label", pa.string()), ("probabilities", pa.string()), ("flags", pa.list_(pa.string())),
        ("served_version", pa.int32()), ("served_arm", pa.string()), ("served_score", pa.float64()),
        ("served_label", pa.string()), ("truth", pa.string()),
    ]
)  # fmt: skip


def replay(
    version: Version,
    since: Annotated[str, typer.Option("--from", help="Event time, inclusive: 2013-02-01, or 2013-02-01T12:00Z.")],
    until: Annotated[str, typer.Option("--to", help="Event time, exclusive.")],
    out: Annotated[Path | None, typer.Option(help="Write each answer: FILE.parquet or FILE.jsonl.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Score a past span again with any version, rejected and retired ones too, and compare with what was served.

    Reads the log where it still reaches back so far, the Delta table before that. Joins no consumer group, writes to
    no topic, moves no metric.
    """
    span = time_of("--from", since), time_of("--to", until)
    if span[0] >= span[1]:
        fail(f"--from {since} is not before --to {until}: there is nothing between")
    if out is not None and out.suffix not in {".parquet", ".jsonl"}:
        fail(f"{out}: expected a name that ends with .parquet or .jsonl")
    release, spec = asked(version)
    try:
        version_of = loaded(release, Objects(settings(S3Settings)).get_now(release.candidate.onnx.digest))
        with Reader(settings(KafkaSettings), "modelbus.cli", _BATCH_RECORDS) as reader, _writing(out) as write:
            tables = Tables(settings(S3Settings))
            past = Span(spec=spec, since=span[0], until=span[1], reader=reader, tables=tables)
            said = _replayed(Replay(version_of, spec), release, past, write)
    except KafkaException as error:
        fail(f"Kafka: {error.args[0].str()}")
    except (ModelbusError, DeltaError, OSError) as error:
        fail(f"{version}: {error}")
    if not said["rows"]:
        fail(f"no record of {spec.stream} lies between {since} and {until}")
    if as_json:
        typer.echo(json.dumps({"model": release.candidate.model, "version": release.version, **said}, indent=2))
        return
    for line in _told(version, said, out):
        say(line)


def time_of(name: str, text: str) -> datetime:
    try:
        time = _WHEN.validate_python(text)
    except ValidationError:
        fail(f"{name}: expected a time, such as 2013-02-01T12:00Z, got {text!r}")
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def asked(version: str) -> tuple[Release, StreamSpec]:
    """The version as the record has it, and its stream as it is declared now."""
    with registry("viewer") as client:
        found = client.get(version_path(version))
        model = client.get(f"/models/{found['model']}")
        spec = client.get(f"/streams/{model['stream']}")["spec"]
    candidate = {**found, **found["artifacts"]}
    names = ("model", "run_id", "spec", "stream_spec", "cut", "signature", "onnx", "skops", "manifest", "reference")
    said = {name: candidate[name] for name in (*names, "metrics", "rows")}
    release = Release.model_validate({"version": found["version"], "candidate": said})
    return release, StreamSpec.model_validate(spec)


def _replayed(replay: Replay, release: Release, past: Span, write: Write) -> Json:
    parts = past.parts()
    comparison = Comparison(task=release.candidate.spec.task, spec=past.spec)
    columns = (TextColumn("replay"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("replay", total=sum(part.size for part in parts))
        for part in parts:
            answers: list[Replayed] = []
            for found, size in past.replayed(replay, part):
                answers += found
                progress.advance(bar, size)
            if answers:
                write(_compared(answers, release, past, part, comparison))
    return {"refused": replay.refused, **comparison.said()}


def _compared(answers: list[Replayed], release: Release, past: Span, part: Part, comparison: Comparison) -> list[Json]:
    """The rows of a partition as they are written down, each held against what was served and what came of it."""
    served = past.served(release.candidate.model, part.partition, answers[0].offset, answers[-1].offset + 1)
    truths = past.truths(part.partition)
    rows = []
    for each in answers:
        then, truth = served.get(each.offset), truths.get(each.event_id)
        now = None if each.score is None else Answer(each.score, each.label, each.probabilities)
        comparison.add(now, then, truth)
        rows.append(_row(each, release.version, then, truth))
    return rows


def _row(each: Replayed, version: int, then: Served | None, truth: Any) -> Json:
    beside = {} if then is None else {"served_version": then.version, "served_arm": then.arm}
    said = {} if then is None else {"served_score": then.answer.score, "served_label": then.answer.label}
    return {**each._asdict(), "version": version, **beside, **said, "truth": truth}


@contextmanager
def _writing(out: Path | None) -> Iterator[Write]:
    """What writes rows to the file, if there is to be one."""
    with ExitStack() as opened:
        if out is None:
            yield lambda _: None
        elif out.suffix == ".jsonl":
            lines = opened.enter_context(out.open("wb"))
            yield lambda rows: lines.writelines(msgspec.json.encode(row) + b"\n" for row in rows)
        else:
            table = opened.enter_context(pq.ParquetWriter(out, _SCHEMA))
            yield lambda rows: table.write_table(pa.Table.from_pylist([_flat(row) for row in rows], _SCHEMA))


def _flat(row: Json) -> Json:
    """Labels of any type as text, as the table of predictions has them."""
    texts = {name: _text(row.get(name)) for name in ("label", "served_label", "truth", "probabilities")}
    return {**row, **texts}


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else msgspec.json.encode(value).decode()


def _told(version: str, said: Json, out: Path | None) -> Iterator[str]:
    more = f"; {said['refused']:,} records break the stream's contract" if said["refused"] else ""
    more += f"; {said['not_answered']:,} have no finite answer" if said["not_answered"] else ""
    yield f"{version} answers {said['rows']:,} records{more}"
    for other, found in said["beside"].items():
        yield f"{found['rows']:,} of them were served by version {other}: {_beside(found)}"
    if said["not_served"]:
        yield f"{said['not_served']:,} were served by no version"
    then, now = said["metrics"]["served"], said["metrics"]["replayed"]
    if now:
        yield f"over {said['labelled']:,} labelled records of these, {version} beside what was served:"
    for name, value in now.items():
        yield f"  {name:<18}{value:.4f}  {then[name]:.4f}" if name in then else f"  {name:<18}{value:.4f}"
    if out is not None:
        yield f"written to {out}"


def _beside(found: Json) -> str:
    if found["equal_scores"] == found["rows"]:
        return "every answer is equal"
    equal = f"{found['equal_scores']:,} answers are equal, " if found["equal_scores"] else ""
    return f"{equal}{found['changed_labels']:.1%} of the labels change, scores by up to {found['furthest_score']:.3g}"
