"""SIGKILL, at random, to see everything come back."""

import random
from collections import Counter

from compose.embedded.supervisor import Supervisor

_PARTS = frozenset({"kafka", "postgres", "s3", "zipkin"})


class Killer:
    """Kills one running service process at a time; the supervisor starts it again. Belongs to the event loop."""

    def __init__(self, supervisor: Supervisor, *, every_seconds: float, seed: int, now: float) -> None:
        self.killed: Counter[str] = Counter()
        self._supervisor = supervisor
        self._every_seconds = every_seconds
        self._next = now + every_seconds
        self._random = random.Random(seed)

    def turn(self, now: float) -> str | None:
        """Kill when it is time; returns whom."""
        if now < self._next:
            return None
        self._next = now + self._every_seconds
        running = [each.name for each in self._supervisor.status() if each.pid is not None and each.name not in _PARTS]
        if not running:
            return None
        victim = self._random.choice(running)
        self._supervisor.kill(victim)
        self.killed[victim] += 1
        return victim
