"""The platform on one stream, in one process and by event time alone: every decision is made by the services' own code.

What the bus does between them is done here by hand: a few events are scored under the newest revision, the monitor
takes a round, and what it says goes to the rollout. A run takes no event time.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import msgspec

from schemas.events.base import Event
from schemas.events.deployer import RolloutChanged, RolloutEnded
from schemas.events.monitor import AlertRaised, DataQuarantined, RolloutMeasured
from schemas.events.parts import Candidate, Release, Span
from schemas.topics import DATA, LABELS, PREDICTIONS, SHADOW
from services.deployer.answers import answers_of
from services.deployer.decoding import ColumnDecoder, Columns
from services.deployer.domain.arms import is_canary
from services.deployer.domain.entrant import Entrant
from services.deployer.domain.rollout import Decision
from services.deployer.domain.rollout import Rollout as Deployment
from services.deployer.predictions import Arm, Taken, outputs_of, rows_of
from services.monitor.domain import retraining
from services.monitor.domain.clock import Clock, length, micros, moment
from services.monitor.domain.facts import ModelFacts, Rollout, Run, Said, StreamFacts
from services.monitor.domain.state import StreamState
from services.monitor.intake import Intake, Lane, Record
from services.monitor.reference import Reference
from services.monitor.rounds import Engine
from services.monitor.settings import Settings
from shared.child import JobFailed
from shared.matrix import Projection
from shared.runtime import Model
from tests.bench.adaptation.training import Past

ROUND = 20  # events
MISSES = ("rejected", "rolled_back")


@dataclass(frozen=True, kw_only=True)
class Told:
    """Something that happened, and after how many events."""

    at: int
    what: str


@dataclass(kw_only=True)
class Platform:
    """One stream with one model."""

    past: Past
    facts: StreamFacts = field(init=False)
    engine: Engine = field(init=False)
    deployment: Deployment = field(init=False)
    changed: RolloutChanged | None = None
    answers: list[bool | str | None] = field(default_factory=list)  # what was served, an entry an event
    told: list[Told] = field(default_factory=list)
    first: Candidate | None = None

    def __post_init__(self) -> None:
        spec, model = self.past.stream.spec, self.past.stream.model
        served = dict.fromkeys(range(spec.partitions), 0)
        self.facts = StreamFacts(spec=spec, models={model.model: ModelFacts(spec=model, served_from=served)})
        state = StreamState(clock=Clock(leap=length(spec.lateness)))
        self.engine = Engine(state=state, limits=Settings(), intake=Intake(spec=spec))
        self.deployment = Deployment(model=model.model)
        self._decoder, self._models, self._quarantined = ColumnDecoder(spec), dict[int, Model](), list[Span]()
        self._labels, self._offsets = self._due(), dict[str, int]()

    @property
    def _model(self) -> ModelFacts:
        return self.facts.models[self.deployment.model]

    def _know(self, **changes: object) -> None:
        self.facts = replace(self.facts, models={self.deployment.model: replace(self._model, **changes)})  # type: ignore[arg-type]

    def run(self) -> "Platform":
        """Through the whole stream."""
        count = len(self.past.stream)
        for start in range(0, count, ROUND):
            self._round(start, min(count, start + ROUND))
        return self

    def _round(self, start: int, end: int) -> None:
        name, stream = self.deployment.model, self.past.stream
        records = stream.values[start:end]
        served, shadow = self._scored(start, records)
        lanes = {
            DATA.of(stream.spec.stream): records,
            PREDICTIONS.of(name): served,
            SHADOW.of(name): shadow,
            LABELS.of(stream.spec.stream): list(self._labels(stream.times[end - 1])),
        }
        for word in self.engine.take(
            {(topic, 0): self._lane(topic, values) for topic, values in lanes.items()}, self.facts
        ):
            self._hear(word.event)
        self._decide()

    def _lane(self, topic: str, values: Sequence[bytes]) -> Lane:
        start = self._offsets.get(topic, 0)
        self._offsets[topic] = start + len(values)
        records: list[Record] = [(start + index, value) for index, value in enumerate(values)]
        return Lane(records=records, at_end=True)

    def _due(self) -> Callable[[datetime], Iterator[bytes]]:
        """The labels that have come by a time and not before."""
        stream = self.past.stream
        waiting = sorted(((at, index) for index, at in enumerate(stream.known) if at is not None), reverse=True)

        def due(now: datetime) -> Iterator[bytes]:
            while waiting and waiting[-1][0] <= now:
                at, index = waiting.pop()
                place = {"id": f"e{index}", "entity": stream.entities[index], "time": at}
                yield msgspec.json.encode(place | {"label": stream.labels[index]})

        return due

    # -- scorers

    def _scored(self, start: int, records: Sequence[bytes]) -> tuple[list[bytes], list[bytes]]:
        """What the live versions answer: served and in shadow."""
        changed = self.changed
        if changed is None:
            self.answers += [None] * len(records)
            return [], []
        columns = self._decoder.decode(records)
        canary = [is_canary(entity, changed.salt, changed.share) for entity in columns.entities.strings()]
        arms: list[Arm] = ["shadow" if each else "champion" for each in canary]
        said, labels = self._answered(changed, changed.champion, arms, columns, start)
        if changed.challenger is not None:
            others: list[Arm] = ["canary" if each else "shadow" for each in canary]
            also, challenging = self._answered(changed, changed.challenger, others, columns, start)
            said = [*said, *also]
            labels = [new if each else old for each, new, old in zip(canary, challenging, labels, strict=True)]
        self.answers += labels
        served = PREDICTIONS.of(changed.model)
        return [v for topic, v in said if topic == served], [v for topic, v in said if topic != served]

    def _answered(
        self, changed: RolloutChanged, release: Release, arms: Sequence[Arm], columns: Columns, start: int
    ) -> tuple[list[tuple[str, bytes]], list[bool | str | None]]:
        candidate, count = release.candidate, len(columns.matrix)
        inputs = Projection(candidate.signature, self.past.stream.spec)(columns.matrix)
        scores = self._models[release.version].score(inputs)
        answers = answers_of(release.version, candidate.spec, candidate.signature.classes, scores)
        offsets = range(start, start + count)
        taken = Taken(partitions=[0] * count, offsets=offsets, keys=[b""] * count, values=[b""] * count)
        outputs = outputs_of(changed, answers, arms, rows_of(columns, taken))
        return [(each[0], each[1]) for each in outputs if each is not None], list(answers.labels)

    # -- what is heard

    def _hear(self, event: Event) -> None:
        if isinstance(event, RolloutMeasured):
            self._roll(self.deployment.measured(event, switched=self.past.stream.spec.partitions))
        elif isinstance(event, DataQuarantined):
            self._quarantined.append(event.span)
            self._tell(f"quarantined: {event.explanation}")
        elif isinstance(event, AlertRaised):
            self._tell(f"{event.kind}: {event.explanation}")

    def _roll(self, decision: Decision) -> None:
        self.deployment = decision.rollout
        for said in decision.said:
            if isinstance(said.event, RolloutChanged):
                self._follow(said.event)
            elif isinstance(said.event, RolloutEnded):
                self._tell(f"version {said.event.version} {said.event.outcome}: {said.event.reason}")
                self._close(said.about.release.candidate.run_id, said.event.outcome)

    def _follow(self, changed: RolloutChanged) -> None:
        """As the monitor remembers a revision, and as the scorers load it."""
        self.changed = changed
        for release in (changed.champion, changed.challenger):
            if release is not None and release.version not in self._models:
                self._load(release)
        rollout = Rollout(
            revision=changed.revision,
            phase=changed.phase,
            champion=changed.champion.version,
            challenger=changed.challenger.version if changed.challenger else None,
            said=Said(event_id=f"rollout-{changed.revision}"),
        )
        self._know(rollouts={**self._model.rollouts, changed.revision: rollout})
        if changed.phase == "serving":
            self._close(changed.champion.candidate.run_id, "serving")

    def _load(self, release: Release) -> None:
        candidate, shelf, name = release.candidate, self.past.shelf, self.deployment.model
        self._models[release.version] = Model(shelf.get_now(candidate.onnx.digest), candidate.signature)
        document = msgspec.json.decode(shelf.get_now(candidate.reference.digest))
        self.engine.references[name, release.version] = Reference.of(document, candidate, self.past.stream.spec)
        self._know(releases={**self._model.releases, release.version: candidate})

    def _close(self, run_id: str, outcome: str) -> None:
        run = self._model.run
        if run is None or run.run_id != run_id or run.state == "closed":
            return
        missed = outcome.startswith(MISSES)
        misses = run.misses + 1 if missed else 0 if outcome in {"serving", "promoted"} else run.misses
        self._know(run=replace(run, state="closed", outcome=outcome, misses=misses))

    # -- training

    def _decide(self) -> None:
        """As the monitor does between rounds; the run is over at once."""
        state, model = self.engine.state, self._model
        if state.matured_until is None:
            return
        until = state.matured_until
        alerts = self.engine.measuring(model.spec.model, self.facts).open_alerts() if model.rollouts else {}
        wish = retraining.wish(
            model,
            clock=moment(until),
            matured=lambda since: state.matured.within(micros(since), until),
            alerts=alerts,
        )
        if wish is not None:
            self._train(wish, moment(until))

    def _train(self, wish: retraining.Wish, cut_time: datetime) -> None:
        last = self._model.run
        number = last.number + 1 if last else 1
        run = Run(
            run_id=f"{self.deployment.model}-{number}",
            number=number,
            state="requested",
            reason=wish.reason,
            explanation=wish.explanation,
            cut_time=cut_time,
            data_offsets={},
            labels_offsets={},
            since=wish.since,
            misses=last.misses if last else 0,
        )
        self._tell(f"training {number} for {wish.reason}: {wish.explanation}")
        self._know(run=run)
        try:
            candidate = self.past.train(self._model.spec, run.run_id, cut_time, self._quarantined, wish.since)
        except JobFailed as error:
            self._tell(f"training {number} failed: {error}")
            self._close(run.run_id, f"failed: {error}")
            return
        self._judge(candidate, number)

    def _judge(self, candidate: Candidate, number: int) -> None:
        champion = self.changed.champion if self.changed else None
        refused = self.past.refusal(candidate, champion)
        if refused:
            self._tell(f"version {number} rejected: {refused}")
            self._close(candidate.run_id, f"rejected: {refused}")
            return
        self.first = self.first or candidate
        release = Release(version=number, candidate=candidate)
        self._roll(self.deployment.approved(Entrant(release=release, correlation_id=candidate.run_id)))

    def _tell(self, what: str) -> None:
        self.told.append(Told(at=len(self.answers), what=what))
