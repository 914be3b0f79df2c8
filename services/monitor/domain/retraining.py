"""Whether a model is to be trained again, and when a wish may be said. Times are event time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.events.monitor import Reason
from schemas.events.parts import Offsets
from schemas.specs import ModelSpec
from services.monitor.domain.alerts import Alert
from services.monitor.domain.clock import moment
from services.monitor.domain.facts import ModelFacts, Run, TableVersion

ABANDONED_AFTER = timedelta(days=90)  # or twice `retraining.every`, if longer


@dataclass(frozen=True)
class Wish:
    """Why a model is to be trained now; `since`: the world is thought to have changed then."""

    reason: Reason
    explanation: str
    since: datetime | None = None


def wish(
    model: ModelFacts, *, clock: datetime, matured: Callable[[datetime], int], alerts: Mapping[str, Sequence[Alert]]
) -> Wish | None:
    """The strongest reason to train now, if any.

    One run at a time: while one is open nothing is wished, and reasons that stay are found again afterwards. A
    person's word stands above the cool-down, everything else waits for it after the cut of the last request, whatever
    became of it; so a rejected candidate is tried again only then, and later each time. `matured` counts the labelled
    events that have matured since a time; `alerts` holds the unresolved ones by kind.
    """
    policy = model.spec.retraining
    if model.run is not None and model.run.state != "closed":
        return None
    if model.orders:
        order = model.orders[-1]
        return Wish("person", f"{order.actor}: {order.reason}")
    if model.run is not None and clock < next_attempt(model, model.run):
        return None
    if not model.rollouts:
        return _first(model.spec, matured(clock - model.spec.training.window))
    for reason in ("decay", "drift"):
        if reason in policy.on and alerts.get(reason):
            found = _changed(reason, alerts[reason], model.spec, clock, matured)
            if found is not None:
                return found
    return _further(model, clock, matured) or _schedule(model, clock)


def next_attempt(model: ModelFacts, run: Run) -> datetime:
    """When the cool-down is over: it doubles with each run in a row that was no better, up to the schedule's time."""
    policy = model.spec.retraining
    cooldown = policy.cooldown * 2 ** min(run.misses, 20) if model.rollouts else policy.cooldown
    return run.cut_time + min(cooldown, max(policy.cooldown, policy.every))


def _further(model: ModelFacts, clock: datetime, matured: Callable[[datetime], int]) -> Wish | None:
    """After a change the first run knows little of the new world: again whenever what is known of it has doubled."""
    run, window = model.run, model.spec.training.window
    if run is None or run.since is None or run.reason not in model.spec.retraining.on:
        return None
    newer = matured(run.cut_time)
    if clock - run.since >= window or not newer or 2 * newer < matured(run.since):
        return None
    return Wish(
        run.reason, f"half of what came since {run.since:%F %R} matured after the cut of {run.run_id}", run.since
    )


def _changed(
    reason: Reason, alerts: Sequence[Alert], spec: ModelSpec, clock: datetime, matured: Callable[[datetime], int]
) -> Wish | None:
    """After a dated change nothing is learned of the new world without its rows: wait for enough, but not for ever.

    What changed slowly, or longer ago than the window reaches, is learned from the whole window.
    """
    explanation, window = "; ".join(alert.explanation for alert in alerts), spec.training.window
    changes = [moment(alert.since) for alert in alerts if alert.since is not None]
    if not changes or clock - max(changes) >= window:
        return Wish(reason, explanation)
    if matured(max(changes)) >= spec.training.min_rows:
        return Wish(reason, f"{explanation}; the change is dated {max(changes):%F %R}", max(changes))
    return Wish(reason, explanation) if clock - max(changes) >= window / 2 else None


def _first(spec: ModelSpec, matured_rows: int) -> Wish | None:
    needed = spec.training.min_rows
    if matured_rows < needed:
        return None
    return Wish("first", f"{matured_rows} labelled events have matured, {needed} were asked for")


def _schedule(model: ModelFacts, clock: datetime) -> Wish | None:
    every = model.spec.retraining.every
    if "schedule" not in model.spec.retraining.on or model.run is None or clock < model.run.cut_time + every:
        return None
    return Wish("schedule", f"{every} have passed since the cut of {model.run.run_id}")


def abandoned(model: ModelFacts, clock: datetime) -> bool:
    """Whether an open run has been silent for so much event time that it must have vanished.

    A run whose candidate is being rolled out is not silent.
    """
    run, newest = model.run, model.rollout
    if run is None or run.state != "requested":
        return False
    if newest is not None and newest.challenger is not None:
        return False
    return clock >= run.cut_time + max(ABANDONED_AFTER, 2 * model.spec.retraining.every)


def covering(run: Run, tables: Sequence[TableVersion]) -> dict[str, TableVersion] | None:
    """The table versions, by kind, that hold everything the wish was decided on; None while they do not.

    The last one in the mapping is the one heard last.
    """
    wanted = {"data": run.data_offsets, "labels": run.labels_offsets}
    found: dict[str, TableVersion] = {
        table.kind: table for table in tables if covers(table.offsets, wanted[table.kind])
    }
    return found if len(found) == len(wanted) else None


def covers(offsets: Offsets, wanted: Offsets) -> bool:
    """Whether a vector reaches as far as another in every partition.

    >>> covers({0: 5, 1: 2}, {0: 5}), covers({0: 5}, {0: 5, 1: 1})
    (True, False)
    """
    return all(offsets.get(partition, 0) >= offset for partition, offset in wanted.items())
