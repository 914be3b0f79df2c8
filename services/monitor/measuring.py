"""What a round says of one model: rollout evidence, closed windows, drift, faults, decay, and the alerts they make."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from schemas.events.monitor import Estimated, FeatureDrift, Quality, WindowMeasured
from schemas.specs import StreamSpec
from schemas.topics import PREDICTIONS
from services.monitor.alerting import Alerting
from services.monitor.clearing import Clearing
from services.monitor.comparing import Comparing, Seen, far
from services.monitor.domain.alerts import Alert
from services.monitor.domain.clock import moment
from services.monitor.domain.course import drift_of, finding
from services.monitor.domain.decay import decayed
from services.monitor.domain.drift import DRIFTS_SHARE, by_effect, windows_per_year
from services.monitor.domain.entries import Entry, Settled, fitted
from services.monitor.domain.estimate import SELECTIVE
from services.monitor.domain.facts import ModelFacts
from services.monitor.domain.faults import faults
from services.monitor.domain.groups import bucket_of
from services.monitor.domain.pairs import Evidence, is_pair
from services.monitor.domain.realised import Feedback, baseline_of, feedback_of
from services.monitor.domain.rows import Rows
from services.monitor.domain.slices import Sliced, sliced_features
from services.monitor.domain.state import ModelState, StreamState, Vector, VersionState
from services.monitor.domain.windows import Window
from services.monitor.filling import Closed, Filling
from services.monitor.intake import Answer, Passed, Taken
from services.monitor.joining import Joining
from services.monitor.reference import Reference
from services.monitor.words import SERVES_NO_MORE, Word, event_id
from shared.quality import main_metric

_KEPT = 3  # versions
_ESTIMATES_KEPT = 1000  # windows of a version
_FAULTY_KEPT = 100


@dataclass(kw_only=True)
class Measuring:
    """One model's measurements; `state` is the stream's, `model` the model's part of it."""

    name: str
    facts: ModelFacts
    spec: StreamSpec
    stream_revision: int
    state: StreamState
    model: ModelState
    references: Mapping[int, Reference]
    seen: dict[str, list[Seen]] = field(default_factory=dict)  # in this round, by rollout

    # -- served predictions are joined and fill windows

    def serve(self, answers: Sequence[Answer], rows: Rows) -> list[Answer]:
        """Served answers, each partition in order. For their windows: who answers an input again brings none."""
        joining = Joining(model=self.model, stream=self.spec, sliced=self._sliced)
        served, fresh = joining.serve(answers, rows)
        revisions = {each.score.revision for each in answers}
        if any(self.facts.rollouts[revision].challenger is not None for revision in revisions):
            for answer, entry in fresh:
                self.scored(answer, entry)
        return served

    def pass_over(self, passed: Sequence[Passed]) -> None:
        """Served predictions that are sampled out."""
        _move(self.model.answered, passed)
        self.model.join.pass_over(len(passed))

    @property
    def filling(self) -> Filling:
        """What fills its windows."""
        return Filling(spec=self.facts.spec, stream=self.spec, versions=self.model.versions, references=self.references)

    @property
    def clearing(self) -> Clearing:
        """What lets go of what has settled."""
        return Clearing(name=self.name, spec=self.spec, state=self.state, model=self.model)

    # -- scores and matured predictions are evidence

    def shadow(self, taken: Taken) -> None:
        """The other arm's answers, of one partition in order."""
        _move(self.model.shadowed, [*taken.answers, *taken.passed])
        for said in taken.answers:
            self.scored(said, self.model.join.shadow(said.id, said.partition, said.time, said.score))

    def scored(self, answer: Answer, entry: Entry | None) -> None:
        """An arm of a rollout scored an event; `entry` is what is known of it now, if it was the first to."""
        rollout = self.facts.rollouts[answer.score.revision]
        if entry is None or rollout.challenger is None:
            return
        if answer.score.version in {rollout.champion, rollout.challenger}:
            entry.bucket = bucket_of(answer.entity)
            seen = Seen(answer, entry, is_pair(rollout, entry.served, entry.shadow))
            self.seen.setdefault(f"{rollout.champion}:{rollout.challenger}", []).append(seen)

    def compare(self, rows: Rows) -> None:
        """What the arms scored in this round, once all of it was heard."""
        for key, seen in self.seen.items():
            compared = Comparing(task=self.facts.spec.task, spec=self.spec, references=self.references, seen=seen)
            compared.into(self.evidence(key), rows, self.state.clock.high)

    def settle(self, settled: Sequence[Settled]) -> None:
        """Matured events, whose scores may be older than the newest declared class."""
        task, classes = self.facts.spec.task, len(self.spec.label.values)
        self.model.settled += len(settled)
        settled = fitted(settled, classes)
        by_version: dict[int, list[Settled]] = {}
        for each in settled:
            by_version.setdefault(each.served.version, []).append(each)
        for version, mine in by_version.items():
            state = self.model.versions.setdefault(version, VersionState())
            state.realised.add(mine, self.facts.spec.monitoring.window)
        pairs: dict[str, list[Settled]] = {}
        for each in settled:
            rollout = self.facts.rollouts[each.served.revision]
            if is_pair(rollout, each.served, each.shadow):
                pairs.setdefault(f"{rollout.champion}:{rollout.challenger}", []).append(each)
        for key, mine in pairs.items():
            self.evidence(key).settle(task, mine)

    def part(self, settled: Sequence[Settled]) -> None:
        """All that left the join at once: where its blocks begin follows from the places at which it is cleared."""
        classes, window = len(self.spec.label.values), self.facts.spec.monitoring.window
        for version in sorted({each.served.version for each in settled}):
            mine = fitted([each for each in settled if each.served.version == version], classes)
            self.model.versions.setdefault(version, VersionState()).losses.add(self.facts.spec.task, mine, window)

    def evidence(self, key: str) -> Evidence:
        champion, challenger = (int(part) for part in key.split(":"))
        began = Evidence(champion=champion, challenger=challenger, since=self.model.clock)
        return self.model.evidence.setdefault(key, began)

    # -- and what is said of it

    def words(self, closed: Sequence[Closed]) -> list[Word]:
        """Everything there is to say after a round, at the vectors that the state stands at."""
        said: list[Word] = []
        for each in closed:
            said += self.window(each)
        alerting = self._alerting(self.state.clock.high or 0)
        for version in sorted(self.model.versions):
            said += self._over(alerting, version)
        return said + alerting.missed(self.facts, self.model) + self._rollout()

    def _rollout(self) -> list[Word]:
        rollout, spec = self.facts.rollout, self.facts.spec
        if rollout is None or rollout.challenger is None or self.model.clock is None:
            return []
        evidence = self.model.evidence.get(f"{rollout.champion}:{rollout.challenger}")
        if evidence is None or not evidence.news(rollout, spec.rollout):
            return []
        doubted = rollout.champion in self.model.versions and self._quality(rollout.champion).disagrees
        found, scores = evidence.metrics(spec.task), far(evidence, self.references)
        event = evidence.tell(rollout, self.name, self.model.clock, measured=found, scores=scores, doubted=doubted)
        numbers = rollout.revision, event.pairs.n, event.pairs_of_revision.n, event.paired_scores
        return [Word(event=event, id=event_id(event.event, self.name, *numbers), after=rollout.said)]

    def window(self, closed: Closed) -> list[Word]:
        """What there is to say of a closed window; the detectors of its version move on by it."""
        version, window = closed.version, closed.window
        alerting = self._alerting(window.time_max)
        bins = self.references[version].bins
        found = faults(window, bins)
        drift = self._drift(window, version, faulty=bool(found))
        drifted = [each for each in drift if each.drifted]
        alarms = self.model.versions[version]
        said = [self._measured(closed, drift, self._estimated(window, version))]
        absent = self.model.absent.look(self.model.settled, self.model.join.counts.expired)
        if absent is not None:
            said += alerting.hear(self.model.unlabelled, "operations", version, window.number, absent)
        said += alerting.hear(alarms.data_fault, "data_fault", version, window.number, found)
        if found:
            said.append(alerting.quarantined(self.spec.stream, window, version, found))
            alarms.faulty = [*alarms.faulty, (window.time_min, window.time_max)][-_FAULTY_KEPT:]
        else:  # what is broken says nothing of the rest: a faulty window neither alarms of drift nor clears it
            findings = [finding(each, alarms.courses[each.feature]) for each in by_effect(drifted)]
            said += alerting.hear(alarms.drift, "drift", version, window.number, findings)
        return said + self._decay(alerting, version, window.number)

    def _drift(self, window: Window, version: int, *, faulty: bool) -> tuple[FeatureDrift, ...]:
        bins, spec = self.references[version].bins, self.facts.spec
        if window.with_inputs < window.predictions / 2:
            return ()
        a_year = windows_per_year(window.time_min, window.time_max)
        effects = self.references[version].expectation.effects(spec.task, bins, window.counts)
        courses = None if faulty else self.model.versions[version].courses
        return drift_of(
            bins,
            window.counts,
            start=window.time_min,
            false_alarms=spec.monitoring.false_alarms_per_year * DRIFTS_SHARE / a_year,
            courses=courses,
            effects=effects,
        )

    def _estimated(self, window: Window, version: int) -> Estimated | None:
        """Remembered, to be held against what is realised once labels have come."""
        reference, spec, mine = self.references[version], self.facts.spec, self.model.versions[version]
        found = reference.expectation.estimate(spec.task, reference.bins, window.counts, window.cells, spec.costs)
        if found is not None and self.spec.label.feedback == "selective":
            found = found.model_copy(update={"biased": True, "limits": f"{found.limits}; {SELECTIVE}"})
        if found is not None:
            value = found.metrics[main_metric(spec.task)[0]]
            mine.estimates = [*mine.estimates, (window.time_min, window.time_max, value)][-_ESTIMATES_KEPT:]
        return found

    def _quality(self, version: int) -> Quality:
        mine = self.model.versions[version]
        return mine.realised.quality(self.facts.spec.task, self.facts.spec.costs, mine.estimates, self._feedback)

    def _measured(self, closed: Closed, drift: tuple[FeatureDrift, ...], estimated: Estimated | None) -> Word:
        window, counts, spec = closed.window, self.model.join.counts, self.facts.spec
        realised = self.model.versions[closed.version].realised
        event = WindowMeasured(
            model=self.name,
            version=closed.version,
            window=window.number,
            predictions_from=window.start,
            predictions_to=closed.end,
            data_to=dict(self.state.data),
            labels_to=dict(self.state.labels),
            time_min=moment(window.time_min),
            time_max=moment(window.time_max),
            predictions=window.predictions,
            verdict="measured" if drift else "insufficient_data",
            drift=drift,
            quality=self._quality(closed.version),
            joined=counts.joined,
            pending=counts.pending,
            expired=counts.expired,
            sampled_out=counts.sampled_out,
            clock=None if self.model.clock is None else moment(self.model.clock),
            heard_to=dict(self.state.positions.get(PREDICTIONS.of(self.name), {})),
            estimated=estimated,
            arms=realised.by_arm(spec.task, spec.costs, self._feedback),
            slices=realised.by_slice(self._sliced, spec.task, spec.costs, self._feedback),
            model_revision=self.facts.revision,
            stream_revision=self.stream_revision,
            cleared=self.clearing.told(),
        )
        return Word(event=event, id=event_id(event.event, self.name, closed.version, window.number))

    def _decay(self, alerting: Alerting, version: int, number: int) -> list[Word]:
        state, spec = self.model.versions[version], self.facts.spec
        candidate, reference = self.facts.releases.get(version), self.references.get(version)
        if candidate is None or reference is None:
            return []
        baseline = baseline_of(spec.task, candidate.metrics, reference.test_rows)
        if baseline is None or not state.realised.due(spec.monitoring.window):
            return []
        return alerting.hear(state.decay, "decay", version, number, decayed(state, spec, baseline, self._feedback))

    def _over(self, alerting: Alerting, version: int) -> list[Word]:
        """Alerts about a version that serves no more are over with it."""
        state = self.model.versions[version]
        if version in self.facts.live or not self.facts.live:
            return []
        closed = [alarm.close() for alarm in (state.data_fault, state.drift, state.decay)]
        return [alerting.resolved(alert, f"version {version} {SERVES_NO_MORE}") for alert in closed if alert]

    def open_alerts(self) -> dict[str, list[Alert]]:
        """Unresolved alerts about versions that serve, by kind."""
        states = [self.model.versions[version] for version in sorted(self.facts.live & self.model.versions.keys())]
        alarms = {"drift": [each.drift for each in states], "decay": [each.decay for each in states]}
        return {kind: [alarm.open for alarm in some if alarm.open] for kind, some in alarms.items()}

    def forget(self) -> None:
        """Versions and rollouts that are over: only the newest are kept beside the live ones."""
        versions, live = self.model.versions, self.facts.live
        kept = {*live, *sorted(versions)[-_KEPT:]}
        self.model.versions = {version: state for version, state in versions.items() if version in kept}
        self.model.evidence = {
            key: each for key, each in self.model.evidence.items() if {each.champion, each.challenger} <= kept
        }

    @cached_property
    def _sliced(self) -> list[Sliced]:
        return sliced_features(self.spec)

    @property
    def _feedback(self) -> Feedback:
        return feedback_of(self.spec.label)

    def _alerting(self, without_clock: int) -> Alerting:
        return Alerting(model=self.name, now=moment(without_clock if self.model.clock is None else self.model.clock))


def _move(vector: Vector, answers: Sequence[Answer | Passed]) -> None:
    """On to behind these inputs."""
    for partition in {each.input_partition for each in answers}:
        furthest = max(each.input_offset for each in answers if each.input_partition == partition)
        vector[partition] = max(vector.get(partition, 0), furthest + 1)
