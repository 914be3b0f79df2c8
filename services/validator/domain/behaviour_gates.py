"""How the candidate behaves when its inputs change: disturbed at random, one feature raised, one feature exchanged."""

from collections.abc import Callable, Mapping

import numpy as np

from schemas.specs import CategoryFeature, FloatFeature, Gates, RobustnessGate
from services.validator.domain.evidence import Evidence
from services.validator.domain.gate import Check, Measured
from shared.matrix import Inputs
from shared.quality import Floats, main_metric, metrics

_REPEATS = 3
_FAR = 10.0  # standard deviations, where no range is declared
_STEPS = (0.1, 0.5, 1.0)  # of a feature's standard deviation
_LEAST_CHANGE = 1e-6  # float32 rounding of an ensemble's sum
_MAX_VIOLATIONS = 0.01


class Robustness(Check):
    """Fall of the main metric when inputs are disturbed; the mean of three seeded disturbances, the worst kind counts.

    Noise: normal, with the declared share of each float feature's standard deviation. With the declared probability:
    missing, a value of a feature that is not required goes missing; unseen, a category is one that the stream does not
    declare; extremes, a number lies at an end of its declared range, or ten standard deviations from the mean.
    """

    name = "robustness"

    def asked(self, gates: Gates) -> float | None:
        return gates.robustness.max_drop if gates.robustness else None

    def measure(self, evidence: Evidence, threshold: float) -> Measured:
        gate = evidence.spec.gates.robustness
        assert gate
        drops = {kind: _drop(evidence, disturbed) for kind, disturbed in _disturbances(evidence, gate).items()}
        kind, value = max(drops.items(), key=lambda item: np.nan_to_num(item[1], nan=np.inf))
        metric, _ = main_metric(evidence.task)
        asked = {
            "noise": f"noise of {gate.noise:.1%} of the spread",
            "missing": f"{gate.missing:.1%} missing values",
            "unseen": f"{gate.unseen:.1%} unseen categories",
            "extremes": f"{gate.extremes:.1%} extreme values",
        }
        return Measured(
            value=value,
            passed=value <= threshold,
            reason=f"{metric} gets worse by {value:.4f} under {asked[kind]}; expected at most {threshold:g}",
            detail={"drops": drops},
        )


def _drop(evidence: Evidence, disturbed: list[Inputs]) -> float:
    metric, higher_is_better = main_metric(evidence.task)
    after = [
        metrics(evidence.task, evidence.rows.truth, evidence.rows.predict(each)).get(metric, float("nan"))
        for each in disturbed
    ]
    return (1 if higher_is_better else -1) * (evidence.metrics.get(metric, float("nan")) - float(np.mean(after)))


def _disturbances(evidence: Evidence, gate: RobustnessGate) -> Mapping[str, list[Inputs]]:
    """Of each kind that is asked for, so many disturbed copies of the inputs; equal for equal seeds."""
    generator = np.random.default_rng(evidence.seed)
    kinds = {"noise": gate.noise, "missing": gate.missing, "unseen": gate.unseen, "extremes": gate.extremes}
    return {
        kind: [_DISTURB[kind](evidence, share, generator) for _ in range(_REPEATS)]
        for kind, share in kinds.items()
        if share or kind == "noise"
    }


def _noisy(evidence: Evidence, share: float, generator: np.random.Generator) -> Inputs:
    inputs = evidence.rows.inputs
    floats = np.array([feature.type == "float" for feature in evidence.signature.features])
    scale = np.where(floats, share * spreads(inputs), 0.0)
    return np.asarray(inputs + generator.normal(size=inputs.shape) * scale, dtype=np.float32)


def _lacking(evidence: Evidence, share: float, generator: np.random.Generator) -> Inputs:
    declared, inputs = evidence.stream_spec.features, evidence.rows.inputs
    required = np.array([declared[feature.name].required for feature in evidence.signature.features])
    gone = (generator.random(inputs.shape) < share) & ~required
    return np.where(gone, np.float32(np.nan), inputs)


def _unseen(evidence: Evidence, share: float, generator: np.random.Generator) -> Inputs:
    declared, inputs = [evidence.stream_spec.features[each.name] for each in evidence.signature.features], evidence.rows
    may_be = np.array([isinstance(each, CategoryFeature) and each.unseen == "allow" for each in declared])
    return np.where((generator.random(inputs.inputs.shape) < share) & may_be, np.float32(np.nan), inputs.inputs)


def _extreme(evidence: Evidence, share: float, generator: np.random.Generator) -> Inputs:
    inputs = evidence.rows.inputs.copy()
    for column, (feature, spread) in enumerate(zip(evidence.signature.features, spreads(inputs), strict=True)):
        declared = evidence.stream_spec.features[feature.name]
        known = ~np.isnan(inputs[:, column])
        if isinstance(declared, FloatFeature) and known.any():
            ends = _ends(declared, float(inputs[known, column].mean()), float(spread))
            there = known & (generator.random(len(inputs)) < share)
            inputs[there, column] = generator.choice(ends, int(there.sum()))
    return inputs


def _ends(feature: FloatFeature, mean: float, spread: float) -> tuple[float, float]:
    low = mean - _FAR * spread if feature.min is None else feature.min
    return low, mean + _FAR * spread if feature.max is None else feature.max


_DISTURB: Mapping[str, Callable[[Evidence, float, np.random.Generator], Inputs]] = {
    "noise": _noisy,
    "missing": _lacking,
    "unseen": _unseen,
    "extremes": _extreme,
}


def spreads(inputs: Inputs) -> Floats:
    """Standard deviation of each column of (n, features) without its missing values; 0 where there are none.

    >>> spreads(np.array([[1, np.nan], [3, np.nan]], dtype=np.float32)).tolist()
    [1.0, 0.0]
    """
    known = ~np.isnan(inputs)
    counts = np.maximum(known.sum(axis=0), 1)
    means = np.where(known, inputs, 0.0).sum(axis=0, dtype=np.float64) / counts
    squares = np.where(known, (inputs - means) ** 2, 0.0).sum(axis=0)
    return np.asarray(np.sqrt(squares / counts), dtype=np.float64)


class Monotonic(Check):
    """A metamorphic test: raise one feature and leave the rest; the score must not move the other way.

    A float is raised by 0.1, 0.5 and 1 standard deviation, a bool from false to true. The value is the share of raised
    rows whose score moved the wrong way, of the worst feature; one in a hundred is allowed.
    """

    name = "monotonic"
    tasks = ("binary", "regression")

    def asked(self, gates: Gates) -> float | None:
        return _MAX_VIOLATIONS if gates.monotonic else None

    def measure(self, evidence: Evidence, threshold: float) -> Measured:
        declared = evidence.spec.gates.monotonic
        names = [feature.name for feature in evidence.signature.features]
        unfit = [
            name
            for name in declared
            if name not in names or isinstance(evidence.stream_spec.features[name], CategoryFeature)
        ]
        if unfit:
            reason = f"monotonic: expected features of the model that are numbers or bools, got {sorted(unfit)}"
            return Measured(value=None, passed=False, reason=reason)
        found = {
            name: _violations(evidence, names.index(name), 1 if direction == "increasing" else -1)
            for name, direction in declared.items()
        }
        worst = max(found, key=found.__getitem__)
        return Measured(
            value=found[worst],
            passed=found[worst] <= threshold,
            reason=f"raising {worst} moves the score the wrong way in {found[worst]:.2%} of the rows;"
            f" expected {declared[worst]}, at most {threshold:.0%} otherwise",
            detail={"features": found},
        )


def _violations(evidence: Evidence, column: int, sign: int) -> float:
    """Share of raised rows whose score fell (sign 1) or rose (sign −1); 0 when no row can be raised."""
    inputs, is_bool = evidence.rows.inputs, evidence.signature.features[column].type == "bool"
    rows = inputs[inputs[:, column] == 0] if is_bool else inputs[~np.isnan(inputs[:, column])]
    if not len(rows):
        return 0.0
    steps = (1.0,) if is_bool else tuple(step * float(spreads(rows)[column]) for step in _STEPS)
    before, wrong = _one_number(evidence.rows.predict(rows)), 0
    for step in steps:
        raised = rows.copy()
        raised[:, column] += np.float32(step)
        wrong += int((sign * (_one_number(evidence.rows.predict(raised)) - before) < -_LEAST_CHANGE).sum())
    return wrong / (len(rows) * len(steps))


class Invariant(Check):
    """A metamorphic test: exchange one feature's values between the rows; the answers must hardly move.

    The value is the mean change of a row's answer: of the probability that moves most, or of a number in standard
    deviations of the answers. Ribeiro et al.: Beyond Accuracy, Behavioral Testing with CheckList, ACL 2020.
    """

    name = "invariant"

    def asked(self, gates: Gates) -> float | None:
        return min(gates.invariant.values()) if gates.invariant else None

    def measure(self, evidence: Evidence, threshold: float) -> Measured:  # noqa: ARG002 - each feature has its own
        declared = evidence.spec.gates.invariant
        names = [feature.name for feature in evidence.signature.features]
        if unknown := sorted(declared.keys() - set(names)):
            return Measured(
                value=None, passed=False, reason=f"invariant: expected features of the model, got {unknown}"
            )
        found = {name: _change(evidence, names.index(name)) for name in declared}
        worst = max(found, key=lambda name: np.nan_to_num(found[name] - declared[name], nan=np.inf))
        return Measured(
            value=found[worst],
            threshold=declared[worst],
            passed=found[worst] <= declared[worst],
            reason=f"exchanging {worst} between rows moves the answers by {found[worst]:.4f} on average;"
            f" expected at most {declared[worst]:g}, as it should not matter",
            detail={"features": found},
        )


def _change(evidence: Evidence, column: int) -> float:
    """Mean change of the answers when one column is shuffled."""
    before, exchanged = evidence.rows.answers, evidence.rows.inputs.copy()
    exchanged[:, column] = np.random.default_rng(evidence.seed).permutation(exchanged[:, column])
    moved = np.abs(evidence.rows.predict(exchanged) - before)
    return float(moved.max(axis=1).mean() if before.ndim == 2 else moved.mean() / max(float(before.std()), 1e-12))


def _one_number(answers: Floats) -> Floats:
    return answers[:, 1] if answers.ndim == 2 else answers
