"""One run: feed, switch and strike by the plan, wait until all has come to rest, and judge."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

from confluent_kafka import KafkaException
from deltalake.exceptions import DeltaError

from schemas.events.ingestor import Kind
from schemas.topics import DATA
from tests.chaos import evidence, feed, judge
from tests.chaos.judge import Evidence, Rollout
from tests.chaos.plan import PIECE_SECONDS, Fault, Plan, rollouts
from tests.chaos.report import Report, counts_of, longest_wait_seconds, near
from tests.chaos.striking import Striker
from tests.chaos.world import START_SECONDS, STREAM, World, opened
from tests.scoring_world import until

REST_SECONDS = 240.0


@dataclass(kw_only=True)
class Progress:
    """How far a run is, for whoever watches; `say` hears of each fault and switch."""

    say: Callable[[str], None]
    fed: int = 0
    struck: int = 0


async def run(plan: Plan, folder: Path, progress: Progress) -> Report:
    """Carry the plan out in a world below `folder`."""
    marks = [time.monotonic()]
    async with opened(plan.crew, folder) as world:
        course = Course(plan=plan, world=world, progress=progress)
        await course.start()
        marks.append(time.monotonic())
        await course.carry_out()
        marks.append(time.monotonic())
        progress.say("all is fed; waiting for rest")
        rested = await course.at_rest()
        marks.append(time.monotonic())
        progress.say("reading what there is" if rested else f"no rest in {REST_SECONDS:.0f} s; reading what there is")
        asked = await asyncio.to_thread(evidence.asked, STREAM)
        found = await asyncio.to_thread(course.evidence, asked)
        restarts = world.restarts()
    violations = judge.judged(found)
    marks.append(time.monotonic())
    spans = zip(("start", "chaos", "rest", "judge"), marks, marks[1:], strict=False)
    return Report(
        plan=plan,
        log=course.striker.log,
        violations=violations,
        counts=counts_of(found),
        restarts=restarts,
        rested=rested,
        seconds={name: round(until - since, 1) for name, since, until in spans},
        longest_wait_seconds=longest_wait_seconds(found, asked),
        near={violation.what: near(violation, asked, found, course.striker.log) for violation in violations[:20]},
    )


@dataclass(kw_only=True)
class Course:
    """A plan under way. `sent` is the stream, `told` each model's revisions; models take turns with the plan's."""

    plan: Plan
    world: World
    progress: Progress
    sent: Sequence[feed.Event] = field(init=False)
    told: Sequence[Sequence[Rollout]] = field(init=False)
    striker: Striker = field(init=False)

    def __post_init__(self) -> None:
        plan, models = self.plan, self.plan.crew.models
        self.sent = list(feed.events(plan.seed, plan.events, plan.crew.entities))
        self.told = [list(rollouts(1 + len(plan.turns[model::models]))) for model in range(models)]
        self.striker = Striker(self.world)

    async def start(self) -> None:
        """Everybody up, and every partition served by the first revisions."""
        world = self.world
        for model, revisions in enumerate(self.told):
            world.switch(model, 1, revisions[0])
        assert await asyncio.to_thread(world.producer.flush, 30) == 0
        names = [*world.crew.scorer_names, *world.crew.ingestor_names]
        await world.supervisor.start(*(world.process(name) for name in names))
        await until(lambda: self._switched([1] * len(self.told)), START_SECONDS)

    async def carry_out(self) -> None:
        """All of the plan, to its end."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._feed(began))
            tasks.create_task(self._switch(began))
            for fault in self.plan.faults:
                tasks.create_task(self._strike(fault, began))

    async def _strike(self, fault: Fault, began: float) -> None:
        await asyncio.sleep(began + fault.at - time.monotonic())
        self.progress.say(str(fault))
        await self.striker.strike(fault)
        self.progress.struck += 1

    async def _switch(self, began: float) -> None:
        models = self.plan.crew.models
        for number, at in enumerate(self.plan.turns):
            await asyncio.sleep(began + at - time.monotonic())
            model, revision = number % models, number // models + 2
            rollout = self.told[model][revision - 1]
            self.world.switch(model, revision, rollout)
            self.progress.say(f"{at:6.1f} s model {model}, revision {revision}: {rollout}")

    async def _feed(self, began: float) -> None:
        """At the plan's pace, whatever breaks; the producer waits for a broker that is away."""
        topic, left, producer = DATA.of(STREAM), iter(self.sent), self.world.producer
        for number, size in enumerate(self.plan.pieces()):
            await asyncio.sleep(began + number * PIECE_SECONDS - time.monotonic())
            for event in islice(left, size):
                producer.produce(topic, event.value, event.entity, headers=[(feed.NUMBER, b"%d" % event.number)])
            producer.poll(0)
            self.progress.fed += size
        assert await asyncio.to_thread(producer.flush, 120) == 0, "the stream could not be fed"

    async def at_rest(self) -> bool:
        """Whether everything comes to an end: offsets, switches, rows, letters."""
        world, accepted = self.world, sum(event.fate == "accepted" for event in self.sent)
        tables: list[tuple[Kind, str]] = [
            ("data", STREAM),
            *(("predictions", spec.model) for spec in world.declared.models),
        ]
        last = [len(revisions) for revisions in self.told]
        ends = (
            lambda: evidence.unanswered(STREAM, world.crew.partitions) == 0,
            lambda: self._switched(last),
            lambda: all(evidence.count_of(*each) >= accepted for each in tables),
            lambda: len({each.origin for each in evidence.letters(DATA.of(STREAM))}) >= len(self.sent) - accepted,
        )
        try:
            for end in ends:
                await until(partial(_holds, end), REST_SECONDS, every=0.5)
        except AssertionError:
            return False
        return True

    def _switched(self, revisions: Sequence[int]) -> bool:
        """Whether every partition of every model serves its revision."""
        names = [spec.model for spec in self.world.declared.models]
        return all(
            evidence.served(name) == dict.fromkeys(range(self.world.crew.partitions), revision)
            for name, revision in zip(names, revisions, strict=True)
        )

    def evidence(self, asked: evidence.Asked) -> Evidence:
        """All that is to be judged."""
        names = [spec.model for spec in self.world.declared.models]
        return evidence.gathered(self.sent, asked, STREAM, dict(zip(names, self.told, strict=True)))


def _holds(condition: Callable[[], bool]) -> bool:
    """A part that is still coming back answers no."""
    try:
        return condition()
    except (KafkaException, DeltaError, OSError):
        return False
