"""A registry with a past: the other services' words on a real bus, people over HTTP, all at once; kept by hand, too."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import md5
from random import Random
from typing import Any

import asyncpg
import httpx
from confluent_kafka import Producer

from schemas.envelope import Envelope
from schemas.events.base import Event
from schemas.events.deployer import (
    CorrectionsPublished,
    LoadFailed,
    PredictionsWithdrawn,
    RolloutEnded,
    RolloutSwitched,
    Scoring,
    ScoringMeasured,
)
from schemas.events.ingestor import DatasetCommitted, EntityErased
from schemas.events.monitor import AlertRaised, AlertResolved, DataQuarantined, RolloutMeasured, WindowMeasured
from schemas.events.trainer import TrainingFailed, TrainingProgressed
from schemas.topics import TOPIC_OF
from shared.settings import KafkaSettings
from tests.contract.examples import example
from tests.integration.registry_kit import changed, rejected, requested, trained, validated

DECLARED = """\
stream: rivers
entity: gauge
partitions: 1
lateness: {lateness}
features:
  level: {{type: float, min: 0}}
label: {{type: bool, delay: 1h}}
---
{models}"""
MODEL = """\
model: {name}
stream: rivers
owner: water-board
task: binary
features: [level]
training: {{window: 60d, min_rows: 500, estimators: [logistic_regression]}}
rollout: {{approval: {approval}}}
"""
MODELS = {"flood": "none", "drought": "required", "ice": "four_eyes"}


@dataclass(frozen=True, kw_only=True)
class Serving:
    """Who serves a model since when, as the world itself knows it."""

    since: datetime
    champion: int
    challenger: int | None
    phase: str
    reason: str


@dataclass(kw_only=True)
class World:
    """Speaks for five services and three people."""

    client: httpx.AsyncClient
    tokens: dict[str, str]
    random: Random
    producer: Producer = field(default_factory=lambda: Producer(KafkaSettings().librdkafka() | {"linger.ms": 0}))
    said: dict[str, datetime] = field(default_factory=dict)
    served: dict[str, list[Serving]] = field(default_factory=dict)

    def say(self, event: Event, run_id: str = "run", *, id: str | None = None, twice: bool = False) -> datetime:
        """As its service would; returns when."""
        topic, at = TOPIC_OF[type(event)], datetime.now(UTC)
        about: dict[str, Any] = {"correlation_id": run_id, "causation_id": None, "source": f"modelbus/{topic.writer}"}
        traceparent = f"00-{md5(run_id.encode()).hexdigest()}-{uuid.uuid4().hex[:16]}-01"
        heard = Envelope(id=id or str(uuid.uuid4()), time=at, traceparent=traceparent, event=event, **about)
        for _ in range(1 + twice):
            headers: Any = heard.headers()
            self.producer.produce(topic.name, key=event.key.encode(), value=event.encode(), headers=headers)
        self.producer.poll(0)
        self.said[heard.id] = at
        return at

    async def act(self, path: str, role: str, name: str, status: int = 200) -> None:
        headers = {"Authorization": f"Bearer {self.tokens[role]}", "X-Actor": name}
        word = "text" if path.endswith("comments") else "reason"
        answer = await self.client.post(path, json={word: f"{name} says so"}, headers=headers)
        assert answer.status_code == status, answer.text

    async def forget(self) -> None:
        """An entity is erased, and the ingestor says what it took."""
        headers = {"Authorization": f"Bearer {self.tokens['approver']}", "X-Actor": "bob"}
        asked = {"entity": "G-17", "streams": ["rivers"], "reason": "its owner asked"}
        answer = await self.client.post("/erasures", json=asked, headers=headers)
        assert answer.status_code == 200, answer.text
        erased = EntityErased.model_validate(example(EntityErased.model_json_schema()))
        self.say(erased.model_copy(update={"receipt": answer.json()["receipt"]}))

    async def apply(self, lateness: str) -> None:
        text = DECLARED.format(
            lateness=lateness,
            models="---\n".join(MODEL.format(name=name, approval=approval) for name, approval in MODELS.items()),
        )
        headers = {"Authorization": f"Bearer {self.tokens['operator']}", "Content-Type": "text/yaml", "X-Actor": "ann"}
        answer = await self.client.post("/apply", content=text, headers=headers)
        assert answer.status_code == 200, answer.text

    async def look(self, path: str, **parameters: str) -> Any:
        headers = {"Authorization": f"Bearer {self.tokens['viewer']}"}
        answer = await self.client.get(path, params=parameters, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def version_of(self, model: str, run_id: str, *stages: str) -> int:
        """The version of a run, once it is in one of these stages."""

        async def found() -> int | None:
            page = await self.look(f"/models/{model}/versions")
            return next((e["version"] for e in page["items"] if e["run_id"] == run_id and e["stage"] in stages), None)

        return await until(found)

    async def live(self, model: str, runs: int) -> None:
        """The life of a model, from its first run on."""
        lives = _Life(self, model)
        for number in range(runs):
            await lives.run(f"{model}-{number}")


class _Life:
    def __init__(self, world: World, model: str) -> None:
        self.world, self.model = world, model
        self.revision, self.champion = 0, 0

    def of(self, event: Event, **fields: Any) -> Event:
        """An event of this model, and of its candidate."""
        if hasattr(event, "candidate"):
            spec = event.candidate.spec.model_copy(update={"model": self.model})
            fields["candidate"] = event.candidate.model_copy(update={"model": self.model, "spec": spec})
        return event.model_copy(update={"model": self.model} | fields)

    async def run(self, run_id: str) -> None:
        say, random = self.world.say, self.world.random
        say(self.of(requested(run_id)), run_id)
        for done in range(random.randrange(3)):
            say(TrainingProgressed(model=self.model, run_id=run_id, stage="searching", done=done, total=3), run_id)
        if random.random() < 0.15:
            say(TrainingFailed(model=self.model, run_id=run_id, reason="crashed", explanation="signal 9"), run_id)
            return
        say(self.of(trained(run_id)), run_id)
        self.watch()
        if self.champion and random.random() < 0.2:
            say(self.of(rejected(run_id)), run_id)
            return
        say(self.of(validated(run_id)), run_id, twice=random.random() < 0.5)
        if await self.decided(run_id):
            self.roll_out(await self.world.version_of(self.model, run_id, "registered", "approved"))

    async def decided(self, run_id: str) -> bool:
        """Whether people let it out."""
        policy, act = MODELS[self.model], self.world.act
        await act(f"/models/{self.model}/comments", "operator", "ann")
        if policy == "none":
            return True
        version = await self.world.version_of(self.model, run_id, "awaiting_approval")
        path = f"/models/{self.model}/versions/{version}"
        if self.champion and self.world.random.random() < 0.3:
            await act(f"{path}/refuse", "approver", "cy")
            await act(f"{path}/retire", "operator", "ann")
            return False
        await act(f"{path}/approve", "approver", "bob")
        if policy == "four_eyes":
            await act(f"{path}/approve", "approver", "bob")
            await act(f"{path}/approve", "approver", "cy")
        return True

    def roll_out(self, version: int) -> None:
        if not self.champion:
            self.champion = version
            self.serve("serving", version)
            return
        self.serve("shadow", self.champion, version)
        self.measure(version)
        self.serve("canary", self.champion, version, share=0.25)
        self.measure(version)
        good = self.world.random.random() < 0.6
        if good:
            self.champion = version
        self.serve("serving", self.champion)
        outcome = "promoted" if good else "rolled_back"
        about: dict[str, Any] = {"model": self.model, "version": version, "revision": self.revision}
        self.world.say(RolloutEnded(outcome=outcome, reason=f"{outcome} at {self.revision}", **about))
        if not good:
            span = {"from_revision": self.revision - 1, "until_revision": self.revision}
            self.world.say(PredictionsWithdrawn(model=self.model, version=version, cause="worse", **span))
            self.world.say(CorrectionsPublished(count=7, partitions={0: 7}, **about))
            self.world.say(LoadFailed(explanation="not there", **about))

    def serve(self, phase: str, champion: int, challenger: int | None = None, share: float = 0) -> None:
        self.revision += 1
        reason = f"step {self.revision}"
        event = self.of(changed(self.revision, phase, champion, challenger, share), reason=reason)
        known = Serving(since=self.world.say(event), champion=champion, challenger=challenger, phase=phase,
                        reason=reason)  # fmt: skip
        self.world.served.setdefault(self.model, []).append(known)
        switched = {"model": self.model, "stream": "rivers", "partition": 0, "offset": self.revision * 10}
        self.world.say(RolloutSwitched(revision=self.revision, **switched))

    def measure(self, challenger: int) -> None:
        about = {"revision": self.revision, "champion": self.champion, "challenger": challenger}
        measured = RolloutMeasured.model_validate(example(RolloutMeasured.model_json_schema()))
        for _ in range(2):
            self.world.say(self.of(measured, measured_at=datetime.now(UTC), **about))
            scoring = Scoring(batches=3, records=30, seconds={"champion": 0.1, "challenger": 0.7})
            self.world.say(ScoringMeasured(model=self.model, scoring=scoring, **about))

    def watch(self) -> None:
        """Windows, tables, alerts and quarantines, whose order against the rest must not matter."""
        say, number = self.world.say, len(self.world.said)
        window = WindowMeasured.model_validate(example(WindowMeasured.model_json_schema()))
        say(self.of(window, version=max(self.champion, 1), window=number))
        table = DatasetCommitted.model_validate(example(DatasetCommitted.model_json_schema()))
        say(table.model_copy(update={"stream": "rivers", "table": "rivers/data", "version": number}))
        alert = AlertRaised.model_validate(example(AlertRaised.model_json_schema()))
        say(self.of(alert, alert=f"{self.model}-{number}"))
        if number % 2:
            over = {"model": self.model, "alert": f"{self.model}-{number}", "resolved_at": datetime.now(UTC)}
            say(AlertResolved(explanation="over", **over))
        broken = DataQuarantined.model_validate(example(DataQuarantined.model_json_schema()))
        say(broken.model_copy(update={"stream": "rivers"}))


async def until(found: Callable[[], Awaitable[Any]], seconds: float = 60) -> Any:
    """What it finds, as soon as it is something."""
    async with asyncio.timeout(seconds):
        while not (what := await found()):  # noqa: ASYNC110  # nothing tells when it is so
            await asyncio.sleep(0.02)
        return what


async def settled(pool: asyncpg.Pool, ids: set[str]) -> None:
    """Until the registry has heard these events and the bus all that it says."""

    async def is_settled() -> bool:
        heard = {row["event_id"] for row in await pool.fetch("SELECT event_id FROM inbox")}
        return ids <= heard and not await pool.fetchval("SELECT count(*) FROM outbox")

    await until(is_settled)


async def dump(pool: asyncpg.Pool) -> dict[str, list[str]]:
    """Every row of every table but the outbox, sorted."""
    found: dict[str, list[str]] = {}
    for row in await pool.fetch("SELECT name, content FROM dumped() ORDER BY name, content"):
        found.setdefault(row["name"], []).append(row["content"])
    return found
