"""`modelbus value`: what retraining and rollbacks were worth, by the cost matrix."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from confluent_kafka import KafkaException
from deltalake.exceptions import DeltaError

from cli.client import fail, registry, say, settings
from cli.orders import Model, model_path
from cli.replay import asked, time_of
from cli.span import Part, Span
from schemas.specs import Costs, ModelSpec, StreamSpec
from services.deployer.domain.comparison import Answer, Served
from services.deployer.domain.value import Account, Fall, Sum, falls
from services.deployer.replay import Replay
from services.deployer.serving import Version
from services.deployer.view import loaded
from shared.errors import ModelbusError
from shared.objects import Objects
from shared.reading import Reader
from shared.settings import KafkaSettings, S3Settings
from shared.tables import Tables

Json = dict[str, Any]
_BATCH_RECORDS = 5000
_EVER = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


def value(
    model: Model,
    since: Annotated[str | None, typer.Option("--from", help="Event time, inclusive; else from the beginning.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Event time, exclusive; else to the end.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """What retraining and rollbacks of MODEL earned, by its costs: labelled records as they were served, and as they
    would have been by the first champion, had it never been replaced, and by what was taken back, had it stayed.

    Scores past records again, as `modelbus replay` does; reads whole partitions into memory.
    """
    span = (
        _EVER[0] if since is None else time_of("--from", since),
        _EVER[1] if until is None else time_of("--to", until),
    )
    costs, first, fallen = _past_of(model)
    try:
        account = _account(model, costs, first, fallen, span)
    except KafkaException as error:
        fail(f"Kafka: {error.args[0].str()}")
    except (ModelbusError, DeltaError, OSError) as error:
        fail(f"{model}: {error}")
    said = {"model": model, "first": first, **_said(account)}
    if as_json:
        typer.echo(json.dumps(said, indent=2))
        return
    for line in _told(said):
        say(line)


def _past_of(model: str) -> tuple[Costs, int, list[Fall]]:
    """Costs, the first champion, and what was taken back."""
    with registry("viewer") as client:
        spec = ModelSpec.model_validate(client.get(model_path(model))["spec"])
        rollouts = list(client.pages(f"{model_path(model)}/rollouts"))
    if spec.task != "binary" or spec.costs is None:
        fail(f"{model} declares no costs; expected costs: {{false_positive: …, false_negative: …}} of a binary model")
    steps = sorted((step for each in rollouts for step in each["steps"]), key=lambda step: step["revision"])
    if not steps:
        fail(f"{model} has had no champion yet")
    taken_back = sorted(each["version"] for each in rollouts if each["outcome"] == "rolled_back")
    return spec.costs, steps[0]["champion"], list(falls(steps, taken_back))


def _account(model: str, costs: Costs, first: int, fallen: Sequence[Fall], span: tuple[datetime, datetime]) -> Account:
    account = Account(costs=costs)
    with Reader(settings(KafkaSettings), "modelbus.cli", _BATCH_RECORDS) as reader:
        version, spec = _loaded(model, first)
        past = Span(spec=spec, since=span[0], until=span[1], reader=reader, tables=Tables(settings(S3Settings)))
        others = [(fall, _loaded(model, fall.version)[0]) for fall in fallen]
        for part in past.parts():
            labelled = _Labelled(past=past, part=part, model=model)
            for _, answer, served, truth in labelled.answered_by(version):
                account.retrained(answer, served, truth)
            for fall, fell in others:
                for offset, answer, served, truth in labelled.answered_by(fell):
                    if fall.holds(part.partition, offset):
                        account.rolled_back(fall.version, answer, served, truth)
    return account


def _loaded(model: str, version: int) -> tuple[Version, StreamSpec]:
    release, spec = asked(f"{model}:{version}")
    return loaded(release, Objects(settings(S3Settings)).get_now(release.candidate.onnx.digest)), spec


class _Labelled:
    """The served and labelled records of a partition, answered again by any version."""

    def __init__(self, *, past: Span, part: Part, model: str) -> None:
        self._past, self._part = past, part
        self._served = past.served(model, part.partition, 0, 2**62)
        self._truths = past.truths(part.partition)

    def answered_by(self, version: Version) -> Iterator[tuple[int, Answer, Served, bool]]:
        """Offset, the version's answer, what was served, and what came of it."""
        replay = Replay(version, self._past.spec)
        for found, _ in self._past.replayed(replay, self._part):
            for each in found:
                served, truth = self._served.get(each.offset), self._truths.get(each.event_id)
                if each.score is not None and served is not None and truth is not None:
                    yield each.offset, Answer(each.score, each.label), served, bool(truth)


def _said(account: Account) -> Json:
    return {
        "retraining": {version: _sum(found) for version, found in sorted(account.retraining.items())},
        "rollbacks": {version: _sum(found) for version, found in sorted(account.rollbacks.items())},
        "earned": {
            "retraining": sum(found.earned for found in account.retraining.values()),
            "rollbacks": sum(found.earned for found in account.rollbacks.values()),
        },
    }


def _sum(found: Sum) -> Json:
    return {"labelled": found.labelled, "cost": found.served, "instead": found.instead, "earned": found.earned}


def _told(said: Json) -> Iterator[str]:
    yield f"had version {said['first']} never been replaced:"
    for version, found in said["retraining"].items():
        yield f"  v{version} served {found['labelled']:,} labelled records at a cost of {_beside(found)}"
    for version, found in said["rollbacks"].items():
        yield f"had v{version} not been taken back: {found['labelled']:,} labelled records cost {_beside(found)}"
    earned = said["earned"]
    yield f"earned by retraining {earned['retraining']:,.6g}, by rollbacks {earned['rollbacks']:,.6g}"


def _beside(found: Json) -> str:
    return f"{found['cost']:,.6g} instead of {found['instead']:,.6g}: {found['earned']:+,.6g}"
