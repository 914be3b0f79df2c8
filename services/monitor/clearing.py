"""When what has settled leaves a model's join: when a window closes, or before, where it crowds out what waits.

A window names the places at which the join was cleared before it closed, so that it can be recomputed.
"""

from dataclasses import dataclass

from schemas.events.monitor import Reading
from schemas.specs import StreamSpec
from schemas.topics import PREDICTIONS
from services.monitor.domain.clock import length, moment
from services.monitor.domain.entries import Settled
from services.monitor.domain.state import Cleared, ModelState, StreamState

_KEPT = 100  # places; a window that is longer cannot be recomputed where ids were repeated


@dataclass(frozen=True, kw_only=True)
class Clearing:
    """Of one model's join; `state` is the stream's, `model` the model's part of it."""

    name: str
    spec: StreamSpec
    state: StreamState
    model: ModelState

    def due(self, pending: int) -> bool:
        """Whether what could leave is too much, where so many may be `pending`."""
        clock = self.model.clock
        return clock is not None and self.model.join.crowded(clock - self._delay - self._grace, pending)

    def clear(self, *, closed: bool) -> list[Settled]:
        """Let go of what has settled, which is returned, and of what is too late; `closed`: with a window."""
        model = self.model
        if model.clock is None:
            return []
        if not closed:
            heard = self.state.positions.get(PREDICTIONS.of(self.name), {})
            here = Cleared(dict(heard), dict(self.state.data), dict(self.state.labels), model.clock)
            model.cleared = [*model.cleared, here][-_KEPT:]
        return model.join.expire(model.clock, self._delay, self._grace)

    def told(self) -> tuple[Reading, ...]:
        """Where it was cleared since it was last told."""
        cleared, self.model.cleared = self.model.cleared, []
        return tuple(
            Reading(heard_to=each.heard, data_to=each.data, labels_to=each.labels, clock=moment(each.clock))
            for each in cleared
        )

    @property
    def _delay(self) -> int:
        return length(self.spec.label.delay)

    @property
    def _grace(self) -> int:
        return length(self.spec.lateness)
