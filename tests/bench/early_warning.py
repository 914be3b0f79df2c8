"""The early warning on seeded replays: how often it cries without a cause, what it says of each fault, and how late.

Replays go through the monitor's own engine, round by round; between rounds the retraining decision is taken as the
monitor takes it, and a run that was asked for stays open.
"""

import math
import tracemalloc
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from schemas.events.monitor import AlertRaised, DataQuarantined, WindowMeasured
from schemas.topics import DATA, LABELS, PREDICTIONS
from services.monitor.domain.clock import micros, moment
from services.monitor.domain.entries import Score
from services.monitor.domain.facts import Run, StreamFacts
from services.monitor.domain.join import Join
from services.monitor.domain.retraining import Wish, wish
from services.monitor.rounds import Engine
from shared.quality import metrics
from tests.bench.figures import Figure, Say
from tests.unit.early_warning import (
    BUDGET,
    Replay,
    Stream,
    autocorrelated,
    independent,
    rain,
    upper_rate,
    weather,
)
from tests.unit.estimate_cases import SHIFTS, case, inputs_of, labels_of
from tests.unit.monitor_cases import START, STREAM, World, engine, facts, rollout

_SEEDS = 200
_QUIET: dict[str, tuple[Stream, int, int]] = {  # stream, rows of the reference, rows of a window
    "independent rows": (independent, 20_000, 1000),
    "independent rows, windows of 100": (independent, 20_000, 100),
    "AR(1), forgotten in 20 rows": (autocorrelated(20), 20_000, 1000),
    "AR(1), forgotten in 400 rows": (autocorrelated(400), 20_000, 1000),
    "weather by the hour": (weather, 57_600, 2000),
    "rain": (rain, 57_600, 2000),
}
_WINDOW = 200  # rows; the fault begins with the sixth window
_BEFORE, _AFTER = 5, 15
_PENDING = 100_000


@dataclass(frozen=True, kw_only=True)
class Event:
    """What happens in one minute; `chance` is that of the label, `delay` when it comes."""

    heat: float | None
    kind: str
    chance: float
    delay: timedelta = timedelta(hours=1)


Fault = Callable[[Event, bool], Event]


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def _shifted(event: Event, by: float) -> Event:
    moved = (event.heat or 0.0) + by
    return replace(event, heat=moved, chance=_sigmoid(moved))


FAULTS: dict[str, Fault] = {
    "none": lambda event, _: event,
    "drift of one feature": lambda event, _: _shifted(event, 1.0),
    "drift of all": lambda event, _: replace(_shifted(event, 1.0), kind="a"),
    "prior shift": lambda event, label: _shifted(event, 1.2) if label else event,
    "concept shift": lambda event, _: replace(event, chance=1 - event.chance),
    "unit error": lambda event, _: replace(event, heat=1000 * (event.heat or 0.0)),
    "missing surge": lambda event, label: replace(event, heat=None) if label else event,
    "frozen sensor": lambda event, _: replace(event, heat=0.25),
    "new category": lambda event, label: replace(event, kind="new") if label else event,
    "labels a day late": lambda event, _: replace(event, delay=timedelta(days=1)),
}


class Faulty(World):
    """One event a minute; the model's score is right about `heat` until something breaks. Labels come when due."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.waiting: list[tuple[int, int, dict[str, object]]] = []

    def minute(self, fault: Fault) -> None:
        rng, index = self.rng, self.made
        self.made += 1
        time, partition = START + timedelta(minutes=index), rng.randrange(STREAM.partitions)
        drawn = rng.gauss(0, 1)
        event = fault(Event(heat=drawn, kind=rng.choice("ab"), chance=_sigmoid(drawn)), rng.random() < 0.5)
        place = {"id": f"e{index}", "entity": f"d{partition}", "time": time}
        offset = self.add(DATA.of("s"), partition, place | {"features": {"heat": event.heat, "kind": event.kind}})
        score = _sigmoid(max(-50.0, min(50.0, event.heat or 0.0)))
        answer = {
            "id": f"e{index}@m:1", "event_id": f"e{index}", "entity": f"d{partition}", "model": "m", "version": 1,
            "arm": "champion", "revision": 1, "partition": partition, "offset": offset, "score": score,
            "label": score >= 0.5, "time": time,
        }  # fmt: skip
        self.add(PREDICTIONS.of("m"), partition, answer)
        known = time + event.delay
        said = place | {"time": known, "label": rng.random() < event.chance}
        self.waiting.append((micros(known), partition, said))
        due = [each for each in self.waiting if each[0] <= micros(time)]
        self.waiting = [each for each in self.waiting if each[0] > micros(time)]
        for _, where, label in due:
            self.add(LABELS.of("s"), where, label)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one replay of a fault led to: alerts with their window, quarantined spans, the request, disagreement."""

    alerts: list[AlertRaised]
    quarantined: int
    asked: Wish | None
    asked_after: float | None  # windows
    disagrees: bool
    expired: int


def replayed(fault: Fault, seed: int) -> Found:
    """`_BEFORE` windows without and `_AFTER` with the fault."""
    world, watched, serving = Faulty(seed), engine(), facts(rollout(1))
    run = Run(
        run_id="m-1", number=1, state="closed", reason="first", explanation="", cut_time=START - timedelta(days=2),
        data_offsets={}, labels_offsets={}, outcome="serving",
    )  # fmt: skip
    serving = replace(serving, models={"m": replace(serving.models["m"], run=run)})
    said, asked, after = [], None, None
    for minute in range((_BEFORE + _AFTER) * _WINDOW):
        world.minute(fault if minute >= _BEFORE * _WINDOW else FAULTS["none"])
        if minute % 50 == 49:
            said += [word.event for word in watched.take(world.lanes(watched), serving)]
            found = _wished(watched, serving) if asked is None else None
            if found:
                asked, after = found, (minute + 1) / _WINDOW - _BEFORE
    windows = [each for each in said if isinstance(each, WindowMeasured)]
    return Found(
        alerts=[each for each in said if isinstance(each, AlertRaised)],
        quarantined=sum(isinstance(each, DataQuarantined) for each in said),
        asked=asked,
        asked_after=after,
        disagrees=any(each.quality.disagrees for each in windows),
        expired=watched.state.models["m"].join.counts.expired,
    )


def _wished(watched: Engine, known: StreamFacts) -> Wish | None:
    state = watched.state
    if state.matured_until is None:
        return None
    until = state.matured_until

    def matured(since: object) -> int:
        return state.matured.within(micros(since), until)  # type: ignore[arg-type]  # a datetime

    alerts = watched.measuring("m", known).open_alerts()
    return wish(known.models["m"], clock=moment(until), matured=matured, alerts=alerts)


def early_warnings(say: Say, seeds: int = 5) -> Table:
    """The table: for each fault what was raised and how late, over seeds, and what the system did by itself."""
    title = (
        f"early warning: windows of {_WINDOW} rows; late: windows from the fault's beginning to the word, worst seed"
    )
    table = Table("fault", "raised, in seeds", "late", "by itself", "labels contradict the estimate", title=title)
    for name, fault in FAULTS.items():
        found = [replayed(fault, seed) for seed in range(seeds)]
        table.add_row(name, *_told(found))
        say(f"{name}: done")
    return table


def _told(found: list[Found]) -> Iterator[str]:
    raised = {(alert.kind, alert.features[0] if alert.features else "") for each in found for alert in each.alerts}
    first = {
        key: [min(late) for each in found if (late := [_late(a) for a in each.alerts if _key(a) == key])]
        for key in sorted(raised)
    }
    yield "\n".join(f"{kind} {name}: {len(late)} of {len(found)}" for (kind, name), late in first.items()) or "nothing"
    yield "\n".join(f"{max(late):.0f}" for late in first.values())
    yield "\n".join(_done(found)) or "nothing"
    yield f"{sum(each.disagrees for each in found)} of {len(found)}"


def _key(alert: AlertRaised) -> tuple[str, str]:
    return alert.kind, alert.features[0] if alert.features else ""


def _late(alert: AlertRaised) -> float:
    """Windows since the fault began, by event time."""
    since = alert.raised_at - (START + timedelta(minutes=_BEFORE * _WINDOW))
    return math.ceil(since / timedelta(minutes=_WINDOW))


def _done(found: list[Found]) -> Iterator[str]:
    if spans := sum(each.quarantined for each in found):
        yield f"{spans / len(found):.0f} windows quarantined"
    asked = [each for each in found if each.asked and each.asked_after is not None]
    if asked:
        reasons = sorted({each.asked.reason for each in asked if each.asked})
        since = sum(each.asked.since is not None for each in asked if each.asked)
        late = max(each.asked_after or 0.0 for each in asked)
        yield f"training for {', '.join(reasons)} in {len(asked)}, {late:.1f} windows late, {since} on what came since"
    if expired := sum(each.expired for each in found):
        yield f"{expired / len(found):.0f} predictions expired"


def quiet(say: Say) -> Iterator[Figure]:
    """Alarms a year without drift, by the 95 % upper bound, beside the declared ones."""
    for name, (stream, reference, window) in _QUIET.items():
        replay = Replay(stream=stream, reference=reference, window=window)
        alarms = sum(len(replay(seed)) for seed in range(_SEEDS))
        say(f"{name}: {alarms} alarms in {_SEEDS} replays of {replay.windows} windows")
        upper = upper_rate(alarms, _SEEDS * replay.windows)
        yield Figure(what=f"no drift, {name}: alarms a year", unit="95 % bound", ours=upper, ceiling=BUDGET, most=1)


def estimates() -> Figure:
    """The largest error of an estimated ROC AUC over seeds and covariate shifts."""
    errors = []
    for seed in range(5):
        served, rng = case("binary", seed), np.random.default_rng(100 + seed)
        for shift in SHIFTS.values():
            inputs = inputs_of(rng, 10_000, *shift)
            realised = metrics("binary", labels_of("binary", rng, inputs), served.outputs(inputs)[:, 0])
            errors.append(abs(served.estimate(inputs).metrics["roc_auc"] - realised["roc_auc"]))
    return Figure(what="estimated ROC AUC, largest error of 25", unit="AUC", ours=max(errors), ceiling=0.02, most=1)


def memory() -> Figure:
    """Of a join with as many pending predictions as it may hold."""
    tracemalloc.start()
    join = Join()
    join.expire(0, 0, 0)  # from then on it knows what is dated too far ahead
    for index in range(_PENDING):
        join.serve(f"event-{index:012d}", index % 4, index, Score(1, 1, "champion", (index / _PENDING,)))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    snapshot = len(msgspec.msgpack.encode(join)) / _PENDING
    what = f"a pending prediction in memory; {snapshot:.0f} bytes in the snapshot"
    return Figure(what=what, unit="bytes", ours=held / _PENDING)


async def measure(_: Namespace, say: Say) -> list[Figure]:
    """The figures; prints the table of faults by the way."""
    Console(width=160).print(early_warnings(say))
    return [*quiet(say), estimates(), memory()]
