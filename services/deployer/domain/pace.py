"""A challenger beside its champion as the scorers see them: records it leaves unanswered, and how long it takes.

A batch is what is scored at once, a fifth of what is consumed at once at most. Both arms answer the same one, one after
the other on one thread, so like is compared with like: a batch is slow when the challenger takes more than three times
as long as the champion and longer than its declared `latency_p99_ms` (5 without one) and 50 µs a record allow. A pause
of the machine makes single batches slow, a slow model most of them. What is measured: from the batch's matrix to its
answers; not what waits, is decoded, sent or committed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.events.deployer import Arm, Scoring
from schemas.events.parts import Release

SLOWER = 3.0
MIN_BATCHES = 50
MIN_UNANSWERED = 10
_DEFAULT_MS = 5.0
_RECORD_SECONDS = 50e-6
_MOST_UNANSWERED = 0.001  # of the records, more than the champion's


class Compared(NamedTuple):
    """One batch of one model under one revision."""

    model: str
    revision: int
    scoring: Scoring


def compared(challenger: Release, records: int, seconds: Mapping[Arm, float], unanswered: Mapping[Arm, int]) -> Scoring:
    """What one batch adds."""
    declared = challenger.candidate.spec.gates.latency_p99_ms or _DEFAULT_MS
    allowed = declared / 1000 + records * _RECORD_SECONDS
    slow = seconds["challenger"] > max(SLOWER * seconds["champion"], allowed)
    return Scoring(
        batches=1, slow_batches=int(slow), records=records, unanswered=dict(unanswered), seconds=dict(seconds)
    )


def cause_of(scoring: Scoring) -> str | None:
    """Why a challenger falls, if it does.

    >>> arms = {"champion": 0, "challenger": 30}
    >>> cause_of(Scoring(batches=9, slow_batches=0, records=9000, unanswered=arms, seconds={}))
    'left 30 of 9000 records unanswered, the champion 0'
    """
    by_champion, by_challenger = (scoring.unanswered.get(arm, 0) for arm in ("champion", "challenger"))
    if by_challenger - by_champion >= max(MIN_UNANSWERED, _MOST_UNANSWERED * scoring.records):
        return f"left {by_challenger} of {scoring.records} records unanswered, the champion {by_champion}"
    if scoring.batches >= MIN_BATCHES and scoring.slow_batches > scoring.batches / 2:
        slow = f"slow in {scoring.slow_batches} of {scoring.batches} batches"
        return f"{slow}: {_average(scoring, 'challenger')} ms each, the champion {_average(scoring, 'champion')} ms"
    return None


def _average(scoring: Scoring, arm: Arm) -> str:
    return f"{1000 * scoring.seconds.get(arm, 0.0) / scoring.batches:.2f}"


@dataclass(kw_only=True)
class Tally:
    """What a scorer has committed of each revision and not said yet; said when it has doubled, so seldom.

    What is left when a process ends is never said: sums then are of a little less than what was scored. Where nothing
    is exactly once it is what was delivered: what is answered again is counted again.
    """

    unsaid: dict[tuple[str, int], Scoring] = field(default_factory=dict)
    said: dict[tuple[str, int], Scoring] = field(default_factory=dict)

    def add(self, each: Compared) -> None:
        key = each.model, each.revision
        self.unsaid[key] = self.unsaid.get(key, Scoring()).plus(each.scoring)

    def due(self, revisions: Mapping[str, int]) -> list[Compared]:
        """What is to be said now of the revisions that are served; those before are forgotten."""
        self.unsaid = {key: each for key, each in self.unsaid.items() if revisions.get(key[0]) == key[1]}
        self.said = {key: each for key, each in self.said.items() if revisions.get(key[0]) == key[1]}
        due = [key for key, each in self.unsaid.items() if _worth_saying(each, self.said.get(key, Scoring()))]
        found = [Compared(*key, self.unsaid.pop(key)) for key in due]
        for each in found:
            key = each.model, each.revision
            self.said[key] = self.said.get(key, Scoring()).plus(each.scoring)
        return found


def _worth_saying(unsaid: Scoring, said: Scoring) -> bool:
    missing, told = (each.unanswered.get("challenger", 0) for each in (unsaid, said))
    return unsaid.batches >= max(MIN_BATCHES, said.batches) or missing >= max(MIN_UNANSWERED, told)
