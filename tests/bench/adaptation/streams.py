"""The streams: river's generators with one change or more at known places, and the flights of a year.

An event of a generated stream comes every ten minutes, so that 20,000 of them take 139 days; its label comes a day
later. Of the flights every fifteenth plane is taken.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import msgspec
import pandas as pd
from river.datasets import synth

from examples.flights.departures import Features, departures
from schemas.declarations import parse
from schemas.specs import ModelSpec, StreamSpec

EVENTS = 20_000
CHANGE = 8_000
RETURN = 14_000
WIDTH = 2_000  # events that a gradual change takes
_START = datetime(2013, 1, 1, tzinfo=UTC)
_EVERY = timedelta(minutes=10)
_DELAY = timedelta(days=1)
_ENTITIES = 500
_PLANES = 15
_FLIGHTS = Path(__file__).parents[3] / "examples" / "flights" / "demo.yaml"
Rows = Iterator[tuple[dict[Any, Any], Any]]
Kind = Literal["sudden", "gradual", "recurring", "incremental", "a year"]


@dataclass(frozen=True, kw_only=True)
class Stream:
    """n events in time order; `changes` are the events at which the world is known to change."""

    name: str
    kind: Kind
    spec: StreamSpec
    model: ModelSpec
    features: list[dict[str, Any]]
    labels: list[bool | str]
    times: list[datetime]
    known: list[datetime | None]  # when the label comes, if ever
    entities: list[str]
    changes: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def values(self) -> list[bytes]:
        """The records of its data topic."""
        columns = zip(self.entities, self.times, self.features, strict=True)
        return [
            msgspec.json.encode({"id": f"e{index}", "entity": entity, "time": time, "features": features})
            for index, (entity, time, features) in enumerate(columns)
        ]


@dataclass(frozen=True, kw_only=True)
class Generated:
    """A generator's rows; they are made when they are asked for."""

    kind: Kind
    rows: Callable[[], Rows]
    classes: int = 2
    bools: bool = False
    changes: tuple[int, ...] = (CHANGE,)

    def stream(self, name: str) -> Stream:
        rows = list(islice(self.rows(), EVENTS))
        columns = [str(column) for column in rows[0][0]]
        declared = {f"x{column}": {"type": "bool" if self.bools else "float"} for column in columns}
        spec = StreamSpec.model_validate(
            {
                "stream": "s", "entity": "device", "partitions": 1, "features": declared, "lateness": "1h",
                "label": {"delay": _DELAY} | _label(self.classes),
            }
        )  # fmt: skip
        times = [_START + index * _EVERY for index in range(EVENTS)]
        return Stream(
            name=name,
            kind=self.kind,
            spec=spec,
            model=_model("binary" if self.classes == 2 else "multiclass", list(declared)),
            features=[
                {f"x{key}": bool(value) if self.bools else float(value) for key, value in x.items()} for x, _ in rows
            ],
            labels=[bool(y) if self.classes == 2 else f"c{y}" for _, y in rows],
            times=times,
            known=[time + _DELAY for time in times],
            entities=[f"d{index * 7919 % _ENTITIES}" for index in range(EVENTS)],
            changes=self.changes,
        )


def _label(classes: int) -> dict[str, Any]:
    if classes == 2:
        return {"type": "bool"}
    return {"type": "category", "values": [f"c{code}" for code in range(classes)]}


def _model(task: str, features: list[str]) -> ModelSpec:
    """A policy for some 144 events a day; what it does not name is the platform's default."""
    return ModelSpec.model_validate(
        {
            "model": "m", "stream": "s", "owner": "bench", "task": task, "features": features,
            "training": {
                "window": "60d", "min_rows": 1000, "trials": 4,
                "estimators": ["hist_gradient_boosting", "logistic_regression"],
            },
            "gates": {"roc_auc": {"min": 0.5, "not_worse_than_champion": 0.01}},
            "rollout": {"shadow": 200, "canary": [0.5], "margin": 0.02, "max_labels": 3000},
            "monitoring": {"window": 500},
        }
    )  # fmt: skip


def _then(*parts: tuple[Rows, int]) -> Rows:
    """So many rows of each, one after the other."""
    return chain.from_iterable(islice(rows, count) for rows, count in parts)


def _sudden(before: Any, after: Any) -> Rows:
    return _then((iter(before), CHANGE), (iter(after), EVENTS))


def _recurring(before: Any, after: Any) -> Rows:
    first = iter(before)
    return _then((first, CHANGE), (iter(after), RETURN - CHANGE), (first, EVENTS))


def _gradual(before: Any, after: Any) -> Rows:
    return iter(synth.ConceptDriftStream(before, after, position=CHANGE, width=WIDTH, seed=1))


def _moving(generator: Any, **speed: float) -> Rows:
    """Still until the change, and moving from then on."""
    rows = iter(generator)
    yield from islice(rows, CHANGE)
    for name, value in speed.items():
        setattr(generator, name, value)
    yield from rows


def _sea(variant: int) -> synth.SEA:
    return synth.SEA(variant=variant, noise=0.1, seed=variant + 1)


def _agrawal(function: int) -> synth.Agrawal:
    return synth.Agrawal(classification_function=function, perturbation=0.05, seed=function + 1)


def _led(swapped: int) -> synth.LEDDrift:
    return synth.LEDDrift(seed=swapped + 1, noise_percentage=0.1, irrelevant_features=True, n_drift_features=swapped)


def _hyperplane(seed: int) -> synth.Hyperplane:
    return synth.Hyperplane(seed=seed, n_features=10, n_drift_features=10, noise_percentage=0.05)


def _rbf(model: int) -> synth.RandomRBFDrift:
    return synth.RandomRBFDrift(seed_model=model, seed_sample=model, n_classes=4, n_features=10, n_centroids=20,
                                n_drift_centroids=20)  # fmt: skip


_TWICE = (CHANGE, RETURN)
_GENERATED = {
    "sea-sudden": Generated(kind="sudden", rows=lambda: _sudden(_sea(2), _sea(3))),
    "sea-gradual": Generated(kind="gradual", rows=lambda: _gradual(_sea(2), _sea(3))),
    "sea-recurring": Generated(kind="recurring", rows=lambda: _recurring(_sea(2), _sea(3)), changes=_TWICE),
    "agrawal-sudden": Generated(kind="sudden", rows=lambda: _sudden(_agrawal(0), _agrawal(2))),
    "agrawal-gradual": Generated(kind="gradual", rows=lambda: _gradual(_agrawal(0), _agrawal(2))),
    "agrawal-recurring": Generated(kind="recurring", rows=lambda: _recurring(_agrawal(0), _agrawal(2)), changes=_TWICE),
    "led-sudden": Generated(kind="sudden", rows=lambda: _sudden(_led(0), _led(4)), classes=10, bools=True),
    "led-gradual": Generated(kind="gradual", rows=lambda: _gradual(_led(0), _led(4)), classes=10, bools=True),
    "hyperplane-sudden": Generated(kind="sudden", rows=lambda: _sudden(_hyperplane(1), _hyperplane(2))),
    "hyperplane-moving": Generated(kind="incremental", rows=lambda: _moving(_hyperplane(1), mag_change=0.001)),
    "rbf-sudden": Generated(kind="sudden", rows=lambda: _sudden(_rbf(1), _rbf(2)), classes=4),
    "rbf-moving": Generated(kind="incremental", rows=lambda: _moving(_rbf(1), change_speed=0.0001), classes=4),
}
NAMES = (*_GENERATED, "flights")
ON_STACK = ("agrawal-sudden", "sea-recurring")


def stream_of(name: str) -> Stream:
    return _flights() if name == "flights" else _GENERATED[name].stream(name)


def _flights() -> Stream:
    """Where no change is known, each month's first departure stands for one."""
    frame = departures()
    frame = frame[[crc32(str(plane).encode()) % _PLANES == 0 for plane in frame["entity"]]].reset_index(drop=True)
    spec, model = _declared()
    times = [time.to_pydatetime() for time in frame["time"]]
    months = pd.Series(times).dt.month
    columns = list(Features.__struct_fields__)
    return Stream(
        name="flights",
        kind="a year",
        spec=spec,
        model=model,
        features=[
            {str(name): None if pd.isna(value) else value for name, value in row.items()}
            for row in frame[columns].to_dict("records")
        ],
        labels=frame["late"].tolist(),
        times=times,
        known=[None if pd.isna(time) else time.to_pydatetime() for time in frame["landed"]],
        entities=frame["entity"].tolist(),
        changes=tuple(months.index[months.diff() > 0].tolist()[1:]),
    )


def _declared() -> tuple[StreamSpec, ModelSpec]:
    """The flights as they are declared, with the counts of a fifteenth of them and answers that are to be accurate."""
    declared = parse(_FLIGHTS.read_text())
    spec = next(each for each in declared if isinstance(each, StreamSpec))
    model = next(each for each in declared if isinstance(each, ModelSpec))
    few = _model("binary", list(model.features))
    changed = {"training": few.training, "rollout": few.rollout, "monitoring": few.monitoring, "costs": None}
    return spec.model_copy(update={"partitions": 1}), model.model_copy(update=changed)
