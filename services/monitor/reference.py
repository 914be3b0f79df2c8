"""A version's reference, as its windows need it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.events.parts import Candidate
from schemas.specs import StreamSpec
from services.monitor.domain.bins import Bins
from services.monitor.domain.estimate import Expectation
from services.monitor.domain.faults import limits
from services.monitor.domain.rows import UNSEEN, Values
from shared.matrix import Inputs, Projection

_TEST_SHARE = 0.1  # of a candidate's rows, where its reference does not say


@dataclass(frozen=True, kw_only=True)
class Reference:
    """How a version's inputs are made from a stream's rows, and what they looked like in training."""

    bins: Bins
    projection: Projection
    columns: NDArray[np.intp]  # of the version's features in a stream's rows; one that is gone has -1
    limits: Inputs
    expectation: Expectation
    test_rows: int  # that the version's own metrics were measured on

    @classmethod
    def of(cls, document: Mapping[str, object], candidate: Candidate, spec: StreamSpec) -> "Reference":
        bins = Bins.of(document, [feature.name for feature in candidate.signature.features])
        places = {name: index for index, name in enumerate(spec.features)}
        return cls(
            bins=bins,
            columns=np.array([places.get(feature.name, -1) for feature in candidate.signature.features], dtype=np.intp),
            projection=Projection(candidate.signature, spec),
            limits=limits(bins, spec),
            expectation=Expectation.of(document, bins),
            test_rows=int(str(document.get("test_rows", round(candidate.rows * _TEST_SHARE)))),
        )

    def inputs(self, values: Values, spec: StreamSpec) -> tuple[Inputs, NDArray[np.int64]]:
        """Of rows (n, features of the stream): inputs (n, features), and how many values are unseen (features,)."""
        categories = np.array([feature.type == "category" for feature in spec.features.values()])
        unseen = (values == UNSEEN) & categories
        counted = np.where(self.columns < 0, 0, unseen.sum(axis=0)[self.columns])
        return self.projection(np.where(unseen, np.nan, values).astype(np.float64)), counted
