"""The features whose values are watched one by one (`slice: true`), and the quality of each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.events.monitor import SliceQuality
from schemas.specs import BoolFeature, CategoryFeature, Costs, StreamSpec
from services.monitor.domain.rows import Values
from services.monitor.domain.sample import Sample

UNKNOWN = -1  # missing, not declared, or the row was not at hand
_LEAST = 50  # labels


@dataclass(frozen=True, kw_only=True)
class Sliced:
    """One feature: where it stands in the stream's rows, and its values by code."""

    name: str
    column: int
    values: tuple[str, ...]


def sliced_features(spec: StreamSpec) -> list[Sliced]:
    """In the order of the declaration."""
    found = []
    for column, (name, feature) in enumerate(spec.features.items()):
        if isinstance(feature, (BoolFeature, CategoryFeature)) and feature.slice:
            values = ("false", "true") if isinstance(feature, BoolFeature) else feature.values
            found.append(Sliced(name=name, column=column, values=values))
    return found


def codes_of(sliced: Sequence[Sliced], values: Values) -> NDArray[np.int32]:
    """The slices (n, sliced features) of stream rows (n, features)."""
    taken = values[:, [each.column for each in sliced]]
    return np.where(np.isnan(taken), UNKNOWN, taken).astype(np.int32)


def quality_by_slice(
    sliced: Sequence[Sliced], codes: NDArray[np.int32], sample: Sample, costs: Costs | None
) -> Iterator[SliceQuality]:
    """Of every value with enough labels; codes are (n, sliced features)."""
    for index, feature in enumerate(sliced if codes.shape[1] == len(sliced) else ()):
        counts = np.bincount(codes[codes[:, index] >= 0, index], minlength=len(feature.values))
        for code, value in enumerate(feature.values):
            if counts[code] >= _LEAST:
                found = sample.where(codes[:, index] == code).quality(costs)
                yield SliceQuality(feature=feature.name, value=value, quality=found)
