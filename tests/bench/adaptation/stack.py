"""Ours through the running stack: a producer of events and labels, Kafka, six services, and the predictions that came.

The producer waits while a run is under way or somebody is behind, as the demo's does: a second of fitting is no day of
the stream's. What serves is found out from the topics alone; the oracle and the forest are those of the same stream.
"""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from heapq import merge
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import yaml
from rich.console import Console

from cli.client import Registry
from cli.demonstration.plan import Declared, Plan
from cli.demonstration.reading import read_all, said
from cli.demonstration.run import Demonstration
from compose.embedded.up import running
from examples.flights.departures import Record
from schemas.events.deployer import RolloutChanged
from schemas.topics import LIFECYCLE, PREDICTIONS
from services.deployer.answers import answers_of
from shared import records
from shared.matrix import Projection
from shared.objects import Objects
from shared.runtime import Model
from shared.settings import KafkaSettings, S3Settings
from tests.bench.adaptation.contestants import Answer, Contest, hits_of
from tests.bench.adaptation.platform import Told
from tests.bench.adaptation.streams import Stream


def through_the_stack(stream: Stream, beside: Contest, console: Console) -> Contest:
    """The contest once more; `beside` lends the contestants that need no stack."""
    with TemporaryDirectory() as folder:
        answers, static, told = asyncio.run(_run(stream, Path(folder), console))
    hits = beside.hits | {"ours": hits_of(stream, answers), "static": hits_of(stream, static)}
    start = max(beside.start, next(index for index, answer in enumerate(answers) if answer is not None))
    return replace(beside, name=f"{stream.name}, stack", start=start, hits=hits, told=told)


async def _run(stream: Stream, folder: Path, console: Console) -> tuple[list[Answer], list[Answer], list[Told]]:
    plan = Plan(
        folder=folder / "stack",
        start=stream.times[0],
        until=stream.times[-1],  # the labels that come later move no clock
        pace=timedelta(days=1),  # a second: rollouts and training are to follow it
        exit=True,
        records=lambda start, until: _records(stream),
    )
    text = yaml.safe_dump_all(each.model_dump(mode="json", exclude_none=True) for each in (stream.spec, stream.model))
    declared = Declared(text=text, stream=stream.spec, models=(stream.model,))
    async with running(plan.folder) as stack:
        os.environ.update(stack.environment)  # for the settings that clients of this process read
        with Registry("operator", actor="bench") as registry:
            registry.apply(text, source=stream.name, reason="the adaptation benchmark")
        await Demonstration(plan=plan, declared=declared, stack=stack, console=console).follow()
        return await asyncio.to_thread(_read, stream)


def _records(stream: Stream) -> Iterator[Record]:
    data = (
        Record("data", entity, time, value)
        for entity, time, value in zip(stream.entities, stream.times, stream.values, strict=True)
    )
    come = sorted((at, index) for index, at in enumerate(stream.known) if at is not None)
    labels = (Record("label", stream.entities[index], at, _label(stream, index, at)) for at, index in come)
    return merge(data, labels, key=lambda each: each.time)


def _label(stream: Stream, index: int, at: datetime) -> bytes:
    place = {"id": f"e{index}", "entity": stream.entities[index], "time": at}
    return msgspec.json.encode(place | {"label": stream.labels[index]})


def _read(stream: Stream) -> tuple[list[Answer], list[Answer], list[Told]]:
    """What was answered, what the first version would have, and when each next one became champion."""
    answers: list[Answer] = [None] * len(stream)
    champions: dict[int, int] = {}
    for raw in read_all(KafkaSettings(), [PREDICTIONS.of(stream.model.model)]):
        answer = records.PREDICTIONS.decode(raw.value)
        index = int(answer.event_id.removeprefix("e"))
        answers[index] = answer.label
        if answer.arm == "champion":
            champions[answer.version] = min(index, champions.get(answer.version, index))
    first, *later = sorted(champions)
    told = [Told(at=champions[version], what=f"version {version} promoted") for version in later]
    return answers, _of_version(stream, first), told


def _of_version(stream: Stream, version: int) -> list[Answer]:
    changed = next(
        event.event
        for raw in read_all(KafkaSettings(), [topic.name for topic in LIFECYCLE])
        if (event := said(raw)) and isinstance(event.event, RolloutChanged) and event.event.champion.version == version
    )
    candidate = changed.champion.candidate
    model = Model(Objects(S3Settings()).get_now(candidate.onnx.digest), candidate.signature)
    batch = records.StreamDecoder(stream.spec).decode(stream.values)
    scores = model.score(np.ascontiguousarray(Projection(candidate.signature, stream.spec)(batch.matrix)))
    return list(answers_of(version, candidate.spec, candidate.signature.classes, scores).labels)
