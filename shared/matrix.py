"""From a stream's columns to a version's input: the same numbers in training, validation and serving."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.events.parts import Signature, SignatureFeature
from schemas.specs import BoolFeature, CategoryFeature, StreamSpec

Matrix = NDArray[np.float64]
Inputs = NDArray[np.float32]
COLUMN_PREFIX = "f_"  # of feature columns in the data table, so that no feature hides a column of the record


def signature_of(spec: StreamSpec, features: Sequence[str], classes: Sequence[str]) -> Signature:
    """The signature of a version trained now on these features of a stream."""
    return Signature(features=tuple(_column(spec, name) for name in features), classes=tuple(classes))


def _column(spec: StreamSpec, name: str) -> SignatureFeature:
    feature = spec.features[name]
    values = feature.values if isinstance(feature, CategoryFeature) else ()
    return SignatureFeature(name=name, type=feature.type, values=values)


def matrix_of(spec: StreamSpec, table: pa.Table) -> Matrix:
    """Stream matrix of a data table, float64 of shape (rows, features of the stream), as the decoder makes it."""
    matrix = np.full((table.num_rows, len(spec.features)), np.nan)
    for index, (name, feature) in enumerate(spec.features.items()):
        if (column := COLUMN_PREFIX + name) not in table.column_names:
            continue  # the feature was declared after these rows were written
        values = table[column].to_pylist()
        if isinstance(feature, CategoryFeature):
            codes = {value: float(code) for code, value in enumerate(feature.values)}
            matrix[:, index] = [codes.get(value, np.nan) for value in values]
        elif isinstance(feature, BoolFeature):
            matrix[:, index] = [np.nan if value is None else float(value) for value in values]
        else:
            matrix[:, index] = table[column].to_numpy()
    return matrix


class Projection:
    """Takes a version's columns out of a stream's matrix, translating categories where the declared values moved.

    A feature that the stream has given up since is missing to the versions that knew it.
    """

    def __init__(self, signature: Signature, spec: StreamSpec) -> None:
        indices = {name: index for index, name in enumerate(spec.features)}
        self._indices = np.array([indices.get(feature.name, 0) for feature in signature.features], np.intp)
        self._gone = [column for column, feature in enumerate(signature.features) if feature.name not in indices]
        self._lookups = {
            column: _lookup(feature, spec) for column, feature in enumerate(signature.features) if _moved(feature, spec)
        }

    def __call__(self, matrix: Matrix) -> Inputs:
        """Stream matrix (n, features of the stream) → inputs (n, features of the version), float32."""
        inputs = matrix[:, self._indices].astype(np.float32)
        if self._gone:
            inputs[:, self._gone] = np.nan
        for column, lookup in self._lookups.items():
            codes = inputs[:, column]
            inputs[:, column] = lookup[np.where(np.isnan(codes), len(lookup) - 1, codes).astype(np.intp)]
        return inputs


def _moved(feature: SignatureFeature, spec: StreamSpec) -> bool:
    declared = spec.features.get(feature.name)
    return isinstance(declared, CategoryFeature) and declared.values != feature.values


def _lookup(feature: SignatureFeature, spec: StreamSpec) -> NDArray[np.float32]:
    """The stream's code → the version's code; NaN for values the version has not seen, and last for missing."""
    declared = spec.features[feature.name]
    assert isinstance(declared, CategoryFeature)
    known = {value: code for code, value in enumerate(feature.values)}
    return np.array([*(known.get(value, np.nan) for value in declared.values), np.nan], dtype=np.float32)
