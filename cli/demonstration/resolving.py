"""Whether one call tells all that stands behind a prediction, and at once."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from cli.client import Registry
from cli.why import version_of

Json = dict[str, Any]
SAMPLE = 100
SEED = 13


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A prediction's answer: how long it took, and what it left open."""

    prediction: str
    seconds: float
    missing: tuple[str, ...]


def sampled(predictions: Sequence[str]) -> list[str]:
    """At random, by a fixed seed."""
    return Random(SEED).sample(predictions, min(SAMPLE, len(predictions)))


def resolved(registry: Registry, predictions: Sequence[str]) -> list[Resolved]:
    """Each asked for by a call of its own."""
    found = []
    for prediction in predictions:
        model, version = version_of(prediction)
        began = time.perf_counter()
        lineage = registry.get(f"/lineage/{model}/{version}")
        seconds = time.perf_counter() - began
        found.append(Resolved(prediction=prediction, seconds=seconds, missing=tuple(missing(lineage))))
    return found


def missing(lineage: Json) -> Iterator[str]:
    """What a whole answer has and this one lacks."""
    run, made_with = lineage["run"] or {}, lineage["made_with"] or {}
    parts = {
        "who asked": run.get("request"),
        "data offsets": lineage["cut"]["data_offsets"],
        "label offsets": lineage["cut"]["labels_offsets"],
        "code": made_with.get("code_version"),
        "libraries": made_with.get("libraries"),
        "gates": lineage["gates"],
        "report": lineage["report"],
        "approvals": lineage["approvals"] or (lineage["approval"] or "none") == "none",
        "rollouts": lineage["rollouts"],
        "trace": lineage["trace_id"],
    }
    yield from (name for name, found in parts.items() if not found)
