"""What goes wrong and when, how the stream is fed, when rollouts switch: pure functions of a seed."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tests.chaos.judge import Rollout

PIECE_SECONDS = 0.1
TRANSACTION_SECONDS = 3
SALT = "a-salt"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """`kind` happens to `target` (a process, or its line to a part) at a time from the start; 0 s is a moment."""

    at: float
    kind: str
    target: str
    seconds: float = 0.0
    detail: str = ""

    def __str__(self) -> str:
        lasts = f"for {self.seconds:.1f} s" if self.seconds else ""
        return " ".join(filter(None, [f"{self.at:6.1f} s {self.kind} {self.target}", self.detail, lasts]))


class Sort(NamedTuple):
    """A sort of fault: whom it can befall, and for how long."""

    kind: str
    targets: Sequence[str]
    seconds: tuple[float, float] = (0.0, 0.0)
    details: Sequence[str] = ("",)


@dataclass(frozen=True, kw_only=True)
class Crew:
    """How many processes there are."""

    scorers: int = 3
    ingestors: int = 2
    models: int = 2
    partitions: int = 6
    entities: int = 2000

    @property
    def scorer_names(self) -> list[str]:
        return [f"scorer-{slot}" for slot in range(self.scorers)]

    @property
    def ingestor_names(self) -> list[str]:
        return [f"ingestor-{number}" for number in range(self.ingestors)]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A whole run. `turns` are the times at which each model's next revision is said."""

    seed: int
    crew: Crew
    events: int
    faults: Sequence[Fault]
    turns: Sequence[float]
    seconds: float

    def pieces(self) -> list[int]:
        """How many events are fed in each tenth of a second: mostly few, now and then a flood."""
        rng = random.Random(f"{self.seed}/pieces")
        weights = [min(rng.paretovariate(1.1), 60.0) for _ in range(int(self.seconds / PIECE_SECONDS))]
        total, done, pieces = sum(weights), 0.0, []
        for weight in weights:
            before, done = round(done), done + weight * self.events / total
            pieces.append(round(done) - before)
        return pieces


def sorts(crew: Crew) -> list[Sort]:
    """All there are."""
    scorers, ingestors = crew.scorer_names, crew.ingestor_names
    to_kafka = [f"{name}/kafka" for name in (*scorers, *ingestors)]
    to_stores = [f"{name}/{part}" for name in ingestors for part in ("s3", "postgres")]
    lines = [*to_kafka, *to_stores]
    requests = ("EndTxn", "TxnOffsetCommit", "Produce")
    return [
        Sort("kill", scorers),
        Sort("kill", ingestors),
        Sort("kill", ["kafka"]),
        Sort("kill", ["s3", "postgres"]),
        Sort("freeze", scorers, (1.5 * TRANSACTION_SECONDS, 4 * TRANSACTION_SECONDS)),
        Sort("freeze", ingestors, (3, 12)),
        Sort("freeze", ["kafka"], (2, 8)),
        Sort("leave", scorers),
        Sort("leave", ingestors),
        Sort("join", ["scorer-9"], (5, 12)),
        Sort("twin", scorers, (4, 8)),
        Sort("cut", to_kafka, (3, 10)),
        Sort("cut", to_stores, (3, 10)),
        Sort("hold", lines, (3, 10)),
        Sort("delay", lines, (5, 15), ("0.1", "0.3", "1.0")),
        Sort("mute", lines, (4, 10)),
        Sort("deafen", lines, (4, 10)),
        Sort("reset", lines),
        Sort("lose request", [f"{name}/kafka" for name in scorers], (1, 1), requests),
        Sort("lose answer", [f"{name}/kafka" for name in scorers], (1, 1), requests),
        Sort("silence after", [f"{name}/kafka" for name in scorers], (8, 8), requests),
        Sort("lose request", to_stores, (1, 1), ("commit",)),
        Sort("lose answer", to_stores, (1, 1), ("commit",)),
        Sort("outage", ["s3"], (30, 30)),
        Sort("outage", ["postgres"], (30, 30)),
    ]


def few_sorts(crew: Crew) -> list[Sort]:
    """One of each nature, as short as it can be and still bite."""
    to_stores = [f"{name}/{part}" for name in crew.ingestor_names for part in ("s3", "postgres")]
    to_kafka = [f"{name}/kafka" for name in crew.scorer_names]
    return [
        Sort("kill", [*crew.scorer_names, *crew.ingestor_names]),
        Sort("kill", ["kafka"]),
        Sort("freeze", crew.scorer_names, (1.5 * TRANSACTION_SECONDS, 2 * TRANSACTION_SECONDS)),
        Sort("leave", crew.scorer_names),
        Sort("cut", to_stores, (3, 4)),
        Sort("reset", to_kafka),
        Sort("lose answer", to_stores, (1, 1), ("commit",)),
        Sort("silence after", to_kafka, (5, 5), ("EndTxn",)),
    ]


def planned(seed: int, *, faults: int, events: int, crew: Crew) -> Plan:
    """A long run: each sort comes before any comes again."""
    rng = random.Random(f"{seed}/faults")
    return _planned(rng, _struck(rng, sorts(crew), faults, gap=(4, 9)), seed=seed, events=events, crew=crew)


def brief(seed: int, *, events: int = 15_000) -> Plan:
    """Half a minute for a small crew: few sorts, each once."""
    rng, crew = random.Random(f"{seed}/faults"), Crew(scorers=2, ingestors=1, models=1, partitions=4, entities=200)
    few = few_sorts(crew)
    return _planned(rng, _struck(rng, few, len(few), gap=(1.0, 2.0)), seed=seed, events=events, crew=crew)


def _struck(rng: random.Random, sorts: Sequence[Sort], faults: int, gap: tuple[float, float]) -> list[Fault]:
    found, now, free = list[Fault](), gap[0], dict[str, float]()
    while len(found) < faults:
        for sort in rng.sample(sorts, k=len(sorts)):
            target, detail = rng.choice(sort.targets), rng.choice(sort.details)
            seconds = round(rng.uniform(*sort.seconds), 1)
            whose = target.partition("/")[0]
            at = round(max(now, free.get(whose, 0.0)), 1)
            found.append(Fault(at=at, kind=sort.kind, target=target, seconds=seconds, detail=detail))
            free[whose] = at + seconds + gap[0]
            now += rng.uniform(*gap)
    return sorted(found[:faults], key=lambda fault: fault.at)


def _planned(rng: random.Random, faults: Sequence[Fault], *, seed: int, events: int, crew: Crew) -> Plan:
    end = max(fault.at + fault.seconds for fault in faults) + 4
    turns = sorted(round(rng.uniform(2, end - 3), 1) for _ in range(max(5, len(faults) // 4)))
    return Plan(seed=seed, crew=crew, events=events, faults=faults, turns=turns, seconds=end)


def rollouts(count: int) -> Iterator[Rollout]:
    """Revisions from 1 on: each challenger from shadow to champion; every second one is then rolled back."""
    champion, challenger = 1, 2
    for number in range(count):
        step, turn = number % 5, number // 5
        if step < 3:
            yield Rollout(champion, challenger, (0.0, 0.1, 0.25)[step], SALT)
        elif step == 3:
            yield Rollout(challenger, None, 0.0, SALT)
        else:
            champion = challenger if turn % 2 else champion
            challenger += 1
            yield Rollout(champion, None, 0.0, SALT)
