"""What a commit's rows look like, column by column: missing, range, categories, class balance."""

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from schemas.events.ingestor import FeatureProfile
from schemas.specs import BoolFeature, CategoryFeature, FloatFeature, StreamSpec
from shared.records import Batch

MOST_VALUES = 50  # of one column; an event must stay small whatever is declared


def of_numbers(column: NDArray[np.float64], flagged: int = 0) -> FeatureProfile:
    """Profile of a float64 column of shape (rows,); NaN is missing. A mean beyond float64 is left out.

    >>> of_numbers(np.array([1.0, np.nan, 3.0]))
    FeatureProfile(missing=1, flagged=0, min=1.0, max=3.0, mean=2.0, top={})
    """
    present = column[~np.isnan(column)]
    missing = len(column) - len(present)
    if not len(present):
        return FeatureProfile(missing=missing, flagged=flagged)
    with np.errstate(over="ignore"):
        mean = float(present.mean())
    return FeatureProfile(
        missing=missing,
        flagged=flagged,
        min=float(present.min()),
        max=float(present.max()),
        mean=mean if np.isfinite(mean) else None,
    )


def of_values(values: Iterable[str | bool | None]) -> FeatureProfile:
    """Profile of a column of classes; None is missing.

    >>> of_values([True, None, True, False])
    FeatureProfile(missing=1, flagged=0, min=None, max=None, mean=None, top={'true': 2, 'false': 1})
    """
    counts = Counter(str(value).lower() if isinstance(value, bool) else value for value in values)
    missing = counts.pop(None, 0)
    return FeatureProfile(missing=missing, top=_top({str(value): count for value, count in counts.items()}))


def of_batch(spec: StreamSpec, batch: Batch) -> dict[str, FeatureProfile]:
    """Profile of every feature over the accepted records of a batch."""
    flags = Counter(flag for flags in batch.flags.values() for flag in flags)
    profiles: dict[str, FeatureProfile] = {}
    for index, (name, feature) in enumerate(spec.features.items()):
        column = batch.matrix[:, index]
        match feature:
            case FloatFeature():
                profiles[name] = of_numbers(column, flags[f"out_of_range:{name}"])
            case CategoryFeature():
                profiles[name] = _of_codes(column, feature.values, flags[f"unseen:{name}"])
            case BoolFeature():
                profiles[name] = _of_codes(column, ("false", "true"), 0)
    return profiles


def _of_codes(column: NDArray[np.float64], values: tuple[str, ...], unseen: int) -> FeatureProfile:
    """NaN stands for missing and for unseen; the flags say how many were unseen."""
    codes = column[~np.isnan(column)].astype(np.intp)
    counts = np.bincount(codes, minlength=len(values))
    top = _top({value: int(count) for value, count in zip(values, counts, strict=True) if count})
    return FeatureProfile(missing=len(column) - len(codes) - unseen, flagged=unseen, top=top)


def _top(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(Counter(counts).most_common(MOST_VALUES))
