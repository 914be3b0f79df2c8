"""A monitor that is killed at any moment, also with its broker: every prediction is counted once.

What the relay was killed over it says again under the same id, and to those who listen that is once. And all that was
said comes out again from the log, bit for bit.
"""

import asyncio
import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from cli.incident import incident
from compose.embedded.stack import Stack
from schemas.envelope import Envelope
from schemas.events.deployer import RolloutChanged, RolloutSwitched
from schemas.events.monitor import AlertRaised, AlertResolved, RolloutMeasured, TrainingRequested, WindowMeasured
from schemas.events.parts import Candidate, Release
from schemas.topics import PREDICTIONS, SHADOW
from services.monitor.history import History
from services.monitor.incident import recomputed
from shared.objects import Objects
from shared.reading import Reader
from shared.settings import S3Settings
from tests.conftest import own_stack  # noqa: F401  # it is this file's stack
from tests.integration.monitor_parts import (
    TRACE,
    Surroundings,
    data,
    label,
    minute,
    model_spec,
    monitor_process,
    until,
)
from tests.unit.monitor_cases import candidate, reference_document

pytestmark = pytest.mark.stack
EVENTS = 3000
BATCH = 600
LONG_WINDOW = 1500
LITTLE = {"MODELBUS_MONITOR_PENDING": "800", "MODELBUS_MONITOR_ROUND_RECORDS": "100"}  # so that it is cleared often
WITH_BROKER = 3  # the life that the broker does not survive either
LIMIT_SECONDS = 240.0  # a life takes a second or two of the processor, and the machine may be busy


async def test_killed_at_any_moment_counts_are_conserved_and_nothing_is_said_twice(
    stack: Stack, tmp_path: Path
) -> None:
    world = Surroundings(stack)
    await world.declare()
    await _serve(world)
    rng, log = random.Random(11), tmp_path / "monitor.log"

    async with monitor_process(log) as kill:
        for life, start in enumerate(range(0, EVENTS, BATCH), 1):
            await until(lambda life=life: log.read_bytes().count(b"is ready") >= life, LIMIT_SECONDS)  # type: ignore[misc]
            _flow(world, range(start, start + BATCH), rng)
            for _ in range(rng.randrange(4)):
                _heard(world)  # lets it get somewhere
            if start + BATCH < EVENTS:
                await kill()
            if life == WITH_BROKER:
                stack.supervisor.kill("kafka")
        await until(
            lambda: len(_windows(_heard(world))) == EVENTS // 200 and _matured(world) >= 0.9 * EVENTS - 200,
            LIMIT_SECONDS,
        )

    said = _heard(world)
    windows = _windows(said)
    assert [each.window for each in windows] == list(range(EVENTS // 200))
    assert all(later.predictions_from == sooner.predictions_to for sooner, later in pairwise(windows))
    assert sum(each.predictions for each in windows) == EVENTS
    assert all(each.predictions == 200 for each in windows)
    last = windows[-1]
    assert last.joined + last.pending + last.expired + last.sampled_out == EVENTS
    assert last.expired == 0
    grown = [each.event.pairs.n for each in said if isinstance(each.event, RolloutMeasured)]
    assert grown == sorted(grown)
    assert not [each for each in said if isinstance(each.event, TrainingRequested)]
    measured = [each for each in said if isinstance(each.event, RolloutMeasured)]
    assert {each.causation_id for each in measured} == {world.model.model + "-rollout-2"}
    assert {each.correlation_id for each in measured} == {world.model.model + "-2"}
    assert {(each.traceparent or "").split("-")[1] for each in measured} == {TRACE.split("-")[1]}
    await _comes_out_again(world, said)
    await _is_told_of(world, next(each.event.alert for each in said if isinstance(each.event, AlertRaised)))


async def test_windows_come_out_again_through_the_places_at_which_the_join_was_cleared(
    stack: Stack, tmp_path: Path
) -> None:
    world = Surroundings(stack)
    world.model = model_spec(world.model.model, world.stream.stream, monitoring={"window": LONG_WINDOW})
    await world.declare()
    await _serve(world)
    rng, log = random.Random(7), tmp_path / "monitor.log"

    async with monitor_process(log, **LITTLE) as kill:
        for start in range(0, EVENTS, BATCH):
            _flow(world, range(start, start + BATCH), rng, untidy=0.1)
            closed = (start + BATCH) // LONG_WINDOW
            await until(lambda closed=closed: len(_windows(_heard(world))) >= closed, LIMIT_SECONDS)  # type: ignore[misc]
            if start + BATCH == EVENTS // 5 * 3:
                await kill()

    windows = _windows(_heard(world))
    assert all(each.cleared for each in windows)
    assert not any(each.sampled_out for each in windows)
    assert windows[-1].expired > 0
    await _comes_out_again(world, _heard(world))


async def _comes_out_again(world: Surroundings, said: list[Envelope]) -> None:
    """Every window, and the alert of the scores that are not those of the reference, however many read."""
    with Reader(world.kafka, "tests") as reader:
        history = await asyncio.to_thread(History.of, reader, world.model.model)
    of_windows = [each for each in said if isinstance(each.event, WindowMeasured | AlertRaised | AlertResolved)]
    assert {type(each.event) for each in of_windows} >= {WindowMeasured, AlertRaised}

    for parallel in (1, 3):
        again = recomputed(history, history.cuts(), kafka=world.kafka, objects=Objects(S3Settings()), parallel=parallel)
        *_, verdict = await asyncio.to_thread(list, again)
        assert (verdict.equal, verdict.different) == (len(of_windows), [])


async def _is_told_of(world: Surroundings, alert: str) -> None:
    command = typer.Typer()
    command.command()(incident)

    arguments = (alert, "--parallel", "3", "--window", "300")
    told = await asyncio.to_thread(lambda: CliRunner().invoke(command, arguments, catch_exceptions=False))
    unknown = await asyncio.to_thread(lambda: CliRunner().invoke(command, ["nobody"], catch_exceptions=False))

    assert told.exit_code == 0, told.output
    assert "equal, bit for bit" in told.stdout
    assert "windows of 300" in told.stdout
    assert (unknown.exit_code, "there is no alert 'nobody'" in unknown.stderr) == (1, True)


async def _serve(world: Surroundings) -> None:
    """Version 1 serves, version 2 scores in the shadow."""
    artifact = await Objects(S3Settings()).put(json.dumps(reference_document()).encode())
    releases = [
        Release(version=version, candidate=_candidate(world, version, reference=artifact)) for version in (1, 2)
    ]
    said = {
        "model": world.model.model,
        "stream_spec": world.stream,
        "share": 0,
        "salt": "",
        "step": 0,
        "reason": "tests",
    }
    first = RolloutChanged(**said, revision=1, phase="serving", champion=releases[0], challenger=None)
    then = RolloutChanged(**said, revision=2, phase="shadow", champion=releases[0], challenger=releases[1])
    world.say(first, event_id=world.model.model + "-rollout-1")
    world.say(then, event_id=world.model.model + "-rollout-2", correlation_id=world.model.model + "-2")
    for partition in range(world.stream.partitions):
        place = {"model": world.model.model, "stream": world.stream.stream, "partition": partition, "offset": 0}
        world.say(RolloutSwitched(**place, revision=2))


def _candidate(world: Surroundings, version: int, **changes: object) -> Candidate:
    return candidate(version, world.stream, world.model, **changes)


def _flow(world: Surroundings, indices: range, rng: random.Random, untidy: float = 0.0) -> None:
    """Events, their answers by both versions, and the labels of an hour before.

    Of the `untidy` share labels never come, and served answers come again when all others have.
    """
    records = [data(i, minute(i), heat=rng.gauss(0, 1), kind=rng.choice("ab")) for i in indices]
    places: dict[str, tuple[int, int]] = {}
    world.publish("data", records, places)
    labelled = [i for i in indices if i >= 60 and rng.random() >= untidy]
    world.publish("labels", [label(i - 60, minute(i), i % 3 == 0) for i in labelled])
    answers = [
        (family, _answer(world, version, record, places[record["id"]]))
        for record in records
        for version, family in ((1, PREDICTIONS), (2, SHADOW))
    ]
    answers += [each for each in answers if each[0] is PREDICTIONS and rng.random() < untidy]
    for family, answer in answers:
        world.producer.produce(family.of(world.model.model), msgspec.json.encode(answer), answer["entity"])
    world.producer.flush(30)


def _answer(world: Surroundings, version: int, record: dict[str, Any], place: tuple[int, int]) -> dict[str, Any]:
    partition, offset = place
    return {
        "id": f"{record['id']}@{world.model.model}:{version}",
        "event_id": record["id"],
        "entity": record["entity"],
        "model": world.model.model,
        "version": version,
        "arm": "champion" if version == 1 else "shadow",
        "revision": 2,
        "partition": partition,
        "offset": offset,
        "score": 0.3 + 0.1 * version,
        "label": False,
        "time": record["time"],
    }


def _heard(world: Surroundings) -> list[Envelope]:
    """As an inbox hears it: an id once. What is said under one id is always the same."""
    said: dict[str, Envelope] = {}
    for each in world.heard():
        assert said.setdefault(each.id, each).event == each.event
    return list(said.values())


def _windows(said: list[Envelope]) -> list[WindowMeasured]:
    return sorted((each.event for each in said if isinstance(each.event, WindowMeasured)), key=lambda each: each.window)


def _matured(world: Surroundings) -> int:
    return max((each.event.pairs.n for each in _heard(world) if isinstance(each.event, RolloutMeasured)), default=0)
