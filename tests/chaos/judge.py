"""The laws, over what a plain reader found in topics and tables; pure, so a doctored record proves each."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from services.deployer.domain.arms import is_canary
from tests.chaos.feed import Event

Place = tuple[int, int]  # partition, offset


class Answer(NamedTuple):
    """A prediction or shadow score: where it stands, and what it says of which input record."""

    stands: Place
    answers: Place
    event_id: str
    version: int
    arm: str
    revision: int
    timestamp_ms: int


class Letter(NamedTuple):
    """A dead letter of the stream; `number` is the header that the record came with."""

    origin: Place
    reason: str
    number: int
    key: bytes | None
    value: bytes | None


class Rollout(NamedTuple):
    """Who serves under a revision."""

    champion: int
    challenger: int | None
    share: float
    salt: str


@dataclass(frozen=True, kw_only=True)
class ModelEvidence:
    """Of one model. `answers` and `shadows` partition by partition in their order; `rows` are places in its topic."""

    answers: Sequence[Answer]
    shadows: Sequence[Answer] = ()
    rows: Sequence[Place] = ()
    rollouts: Mapping[int, Rollout] = field(default_factory=dict)
    switches: Mapping[Place, int] = field(default_factory=dict)  # from this input place on: this revision


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that is judged. `sent` is the stream as it was to be fed, `asked` what stands where in its topic."""

    sent: Sequence[Event]
    asked: Mapping[Place, int]  # the number of the event there
    letters: Sequence[Letter] = ()
    rows: Sequence[Place] = ()
    models: Mapping[str, ModelEvidence] = field(default_factory=dict)

    def event(self, place: Place) -> Event:
        return self.sent[self.asked[place]]

    def places(self, *, accepted: bool) -> Iterator[Place]:
        return (place for place, number in self.asked.items() if (self.sent[number].fate == "accepted") == accepted)


@dataclass(frozen=True, kw_only=True)
class Violation:
    """A law that was broken, and at which input record."""

    law: str
    what: str
    place: Place


def judged(evidence: Evidence) -> list[Violation]:
    """Every violation of every law; empty is good."""
    return [violation for law in LAWS.values() for violation in law(evidence)]


def fed_whole(evidence: Evidence) -> Iterator[Violation]:
    """The stream stands in its topic as it was fed: otherwise nothing below means anything."""
    yield from _once("fed", evidence.asked.values(), range(len(evidence.sent)), lambda number: (-1, number))


def answered_once(evidence: Evidence) -> Iterator[Violation]:
    """Each accepted record has one prediction a model, by champion or canary, and where it says so."""
    for model, found in evidence.models.items():
        accepted = list(evidence.places(accepted=True))
        yield from _once(f"answered once by {model}", (each.answers for each in found.answers), accepted, _itself)
        for each in found.answers:
            number = evidence.asked.get(each.answers)
            if number is None or evidence.sent[number].id != each.event_id or each.arm == "shadow":
                yield Violation(law="answered once", what=f"{model}: {each} is no answer to it", place=each.answers)


def in_order(evidence: Evidence) -> Iterator[Violation]:
    """An entity's predictions stand in the order of its records."""
    for model, found in evidence.models.items():
        last: dict[str, tuple[int, int]] = {}
        for each in found.answers:
            entity, _, sequence = each.event_id.rpartition(".")
            now = each.stands[0], int(sequence)
            partition, before = last.get(entity, (now[0], -1))
            if now[0] != partition or now[1] < before:
                what = f"{model}: {each.event_id} after {entity}.{before} of partition {partition}"
                yield Violation(law="order", what=what, place=each.answers)
            last[entity] = now


def parked_once(evidence: Evidence) -> Iterator[Violation]:
    """Each bad record has one dead letter by origin, byte for byte, with the right reason; good ones have none."""
    yield from _once("parked", {each.origin for each in evidence.letters}, evidence.places(accepted=False), _itself)
    for letter in evidence.letters:
        if letter.origin in evidence.asked:
            event = evidence.event(letter.origin)
            wanted = Letter(letter.origin, event.fate, event.number, event.entity.encode(), event.value)
            if letter != wanted:
                short = [str(each)[:60] for each in (*letter[1:], *wanted[1:])]
                yield Violation(law="parked as it was", what=" ".join(short), place=letter.origin)


def tabled_once(evidence: Evidence) -> Iterator[Violation]:
    """The tables' rows are the accepted records, and the predictions."""
    yield from _once("rows of data", evidence.rows, evidence.places(accepted=True), _itself)
    for model, found in evidence.models.items():
        stands = [each.stands for each in found.answers]
        yield from _once(f"rows of {model}", found.rows, stands, _itself)


def fenced(evidence: Evidence) -> Iterator[Violation]:
    """From where a partition switched on, and not before, its revision serves, by the versions that it names."""
    for model, found in evidence.models.items():
        revisions = _revisions(evidence, found.switches)
        for each in (*found.answers, *found.shadows):
            if each.answers not in revisions:
                continue  # told by another law
            wanted = revisions[each.answers]
            rollout = found.rollouts.get(wanted)
            if each.revision != wanted or rollout is None:
                what = f"{model}: answered under revision {each.revision}, past the fence of {wanted}"
                yield Violation(law="fence", what=what, place=each.answers)
            elif (each.version, each.arm) not in _allowed(rollout, each.event_id.rpartition(".")[0]):
                what = f"{model}: {each.arm} {each.version} under revision {wanted}, {rollout}"
                yield Violation(law="fence", what=what, place=each.answers)


def paired(evidence: Evidence) -> Iterator[Violation]:
    """While a challenger is tried, the other arm's score of each accepted record stands beside its prediction."""
    for model, found in evidence.models.items():
        revisions = _revisions(evidence, found.switches)
        tried = {number for number, rollout in found.rollouts.items() if rollout.challenger is not None}
        wanted = [place for place in evidence.places(accepted=True) if revisions[place] in tried]
        yield from _once(f"shadow of {model}", (each.answers for each in found.shadows), wanted, _itself)


Law = Callable[[Evidence], Iterable[Violation]]
LAWS: Mapping[str, Law] = {
    law.__name__: law for law in (fed_whole, answered_once, in_order, parked_once, tabled_once, fenced, paired)
}


def _allowed(rollout: Rollout, entity: str) -> set[tuple[int | None, str]]:
    if rollout.challenger is None:
        return {(rollout.champion, "champion")}
    if is_canary(entity, rollout.salt, rollout.share):
        return {(rollout.challenger, "canary"), (rollout.champion, "shadow")}
    return {(rollout.champion, "champion"), (rollout.challenger, "shadow")}


def _revisions(evidence: Evidence, switches: Mapping[Place, int]) -> dict[Place, int]:
    """Under which revision each input record is to be answered; 0 where there is none yet."""
    found, starts = {}, sorted(switches.items(), reverse=True)
    now = (-1, 0)  # partition, revision
    for place in sorted(evidence.asked):
        if place[0] != now[0]:
            now = place[0], 0
        while starts and starts[-1][0] <= place:
            (partition, _), revision = starts.pop()
            if partition == place[0]:
                now = partition, max(now[1], revision)
        found[place] = now[1]
    return found


def _itself(place: Place) -> Place:
    return place


def _once(law: str, found: Iterable[Any], wanted: Iterable[Any], place_of: Callable[[Any], Place]) -> list[Violation]:
    """What is not found exactly as often as it is wanted."""
    counts, expected = Counter(found), Counter(wanted)
    wrong = sorted(each for each in counts.keys() | expected.keys() if counts[each] != expected[each])
    return [
        Violation(law=law, what=f"expected {expected[each]}, found {counts[each]} of {each}", place=place_of(each))
        for each in wrong
    ]
