"""The features whose values are watched one by one (`slice: true`), and the quality of each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from zlib import crc32

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
    """The slices (n, 1 + sliced features) of stream rows (n, features); first which features they are of."""
    taken = values[:, [each.column for each in sliced]]
    codes = np.where(np.isnan(taken), UNKNOWN, taken).astype(np.int32)
    return np.column_stack([np.full(len(codes), _mark(sliced), np.int32), codes])


def _mark(sliced: Sequence[Sliced]) -> int:
    """Other features, or these in another order, have another."""
    return crc32("\n".join(each.name for each in sliced).encode()) >> 1


def quality_by_slice(
    sliced: Sequence[Sliced], codes: NDArray[np.int32], sample: Sample, costs: Costs | None
) -> Iterator[SliceQuality]:
    """Of every value with enough labels; codes are as `codes_of`, and those of other features count for none."""
    if codes.shape[1] != 1 + len(sliced):
        return
    mine = codes[:, 0] == _mark(sliced)
    for index, feature in enumerate(sliced, 1):
        counts = np.bincount(codes[mine & (codes[:, index] >= 0), index], minlength=len(feature.values))
        for code, value in enumerate(feature.values):
            if counts[code] >= _LEAST:
                found = sample.where(mine & (codes[:, index] == code)).quality(costs)
                yield SliceQuality(feature=feature.name, value=value, quality=found)
