"""Which features a candidate leans on: how much worse it is when one is exchanged between rows.

Breiman: Random Forests, Machine Learning 45, 2001, section 10. Features that say the same share what they are worth.
"""

import numpy as np

from services.validator.domain.evidence import Evidence
from shared.quality import main_metric, metrics

_MOST_ROWS, _REPEATS = 2000, 3


def importance(evidence: Evidence) -> dict[str, float]:
    """Mean fall of the main metric by feature, largest first; of at most 2000 held-out rows."""
    rows = np.random.default_rng(evidence.seed).permutation(len(evidence.rows.truth))[:_MOST_ROWS]
    inputs, truth = evidence.rows.inputs[rows], evidence.rows.truth[rows]
    metric, higher_is_better = main_metric(evidence.task)
    before = metrics(evidence.task, truth, evidence.rows.answers[rows]).get(metric)
    if before is None:
        return {}
    found = {}
    for column, feature in enumerate(evidence.signature.features):
        generator, after = np.random.default_rng([evidence.seed, column]), []
        for _ in range(_REPEATS):
            exchanged = inputs.copy()
            exchanged[:, column] = generator.permutation(exchanged[:, column])
            after.append(metrics(evidence.task, truth, evidence.rows.predict(exchanged))[metric])
        found[feature.name] = (1 if higher_is_better else -1) * (before - float(np.mean(after)))
    return dict(sorted(found.items(), key=lambda item: -item[1]))
