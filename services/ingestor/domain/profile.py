"""What a commit's rows look like, column by column: missing, range, categories, class balance."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.events.ingestor import FeatureProfile
from schemas.specs import BoolFeature, CategoryFeature, FloatFeature, StreamSpec
from shared.matrix import COLUMN_PREFIX

MOST_VALUES = 50  # of one column; an event must stay small whatever is declared


def of_features(spec: StreamSpec, rows: pa.Table) -> dict[str, FeatureProfile]:
    """Profile of every feature over the rows of a data table; values that were not declared are flagged, not named.

    They are looked for where the reader flagged any: not in rows that an earlier, wider declaration let pass.
    """
    any_flags = bool(pc.any(pc.greater(pc.list_value_length(rows["flags"]), 0)).as_py())
    profiles = {}
    for name, feature in spec.features.items():
        column = rows[COLUMN_PREFIX + name]
        if isinstance(feature, BoolFeature) or not any_flags:
            profiles[name] = of_column(column)
            continue
        flagged = pc.sum(odd := _odd(feature, column)).as_py() or 0
        known = column.filter(pc.invert(odd)) if flagged and isinstance(feature, CategoryFeature) else column
        profiles[name] = of_column(known).model_copy(update={"flagged": flagged})
    return profiles


def _odd(feature: FloatFeature | CategoryFeature, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Which values are out of range or unseen; a missing one is neither."""
    if isinstance(feature, CategoryFeature):
        seen = pc.is_in(column, value_set=pa.array(feature.values, pa.string()))
        return pc.and_(pc.is_valid(column), pc.invert(seen))
    low = -np.inf if feature.min is None else feature.min
    high = np.inf if feature.max is None else feature.max
    return pc.fill_null(pc.or_(pc.less(column, low), pc.greater(column, high)), False)


def of_column(column: pa.ChunkedArray) -> FeatureProfile:
    """Profile of float64 numbers, or of classes (text or bool); null is missing. A mean beyond float64 is left out.

    >>> of_column(pa.chunked_array([[1.0, None, 3.0]]))
    FeatureProfile(missing=1, flagged=0, min=1.0, max=3.0, mean=2.0, top={})
    >>> of_column(pa.chunked_array([[True, None, True, False]]))
    FeatureProfile(missing=1, flagged=0, min=None, max=None, mean=None, top={'true': 2, 'false': 1})
    """
    if not pa.types.is_floating(column.type):
        return FeatureProfile(missing=column.null_count, top=_top(column.drop_null()))
    if column.null_count == len(column):
        return FeatureProfile(missing=column.null_count)
    chunks = [chunk.to_numpy() for chunk in column.drop_null().chunks if len(chunk)]  # Arrow takes thrice as long
    with np.errstate(over="ignore", invalid="ignore"):
        mean = sum(float(chunk.sum()) for chunk in chunks) / (len(column) - column.null_count)
    return FeatureProfile(
        missing=column.null_count,
        min=min(float(chunk.min()) for chunk in chunks),
        max=max(float(chunk.max()) for chunk in chunks),
        mean=mean if np.isfinite(mean) else None,
    )


def _top(present: pa.ChunkedArray) -> dict[str, int]:
    """The most frequent values and how often they stand; of two as frequent, the one that came first."""
    counted = pc.value_counts(present)
    values, counts = counted.field("values").to_pylist(), counted.field("counts").to_pylist()
    ranked = sorted(zip(values, counts, strict=True), key=lambda each: -each[1])[:MOST_VALUES]
    return {str(value).lower() if isinstance(value, bool) else value: count for value, count in ranked}
