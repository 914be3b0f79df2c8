"""SIGKILL, at random, to see everything come back."""

import random
from collections import Counter

from compose.embedded.supervisor import Supervisor

_PARTS = frozenset({"kafka", "postgres", "s3", "zipkin"})


class Killer:
    """Kills one service process at a time; the supervisor starts it again. Belongs to the event loop.

    The next is killed when all are back: where that takes longer than the time between two kills, nothing would ever
    get done.
    """

    def __init__(self, supervisor: Supervisor, *, every_seconds: float, seed: int, now: float) -> None:
        self.killed: Counter[str] = Counter()
        self._supervisor = supervisor
        self._every_seconds = every_seconds
        self._next = now + every_seconds
        self._random = random.Random(seed)

    def turn(self, now: float) -> str | None:
        """Kill when it is time; returns whom."""
        services = [each for each in self._supervisor.status() if each.name not in _PARTS]
        if not services or now < self._next or not all(each.ready for each in services):
            return None
        self._next = now + self._every_seconds
        victim = self._random.choice(services).name
        self._supervisor.kill(victim)
        self.killed[victim] += 1
        return victim
