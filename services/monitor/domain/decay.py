"""Whether a version has decayed: what its newest matured predictions are worth beside its promise, and since when."""

from dataclasses import replace

from schemas.specs import ModelSpec
from services.monitor.domain.alerts import Finding
from services.monitor.domain.drift import DRIFTS_SHARE, per_test, windows_per_year
from services.monitor.domain.faults import overlap
from services.monitor.domain.realised import Baseline, Feedback
from services.monitor.domain.state import VersionState


def decayed(state: VersionState, spec: ModelSpec, baseline: Baseline, feedback: Feedback) -> list[Finding]:
    """By the main metric and by the losses; nothing where data was broken: a fault asks for no training."""
    keys, window = state.realised.keys, spec.monitoring.window
    a_year = windows_per_year(keys[0][0], keys[-1][0])
    probability = per_test(spec.monitoring.false_alarms_per_year * (1 - DRIFTS_SHARE), a_year, 2)
    estimates = state.estimates if feedback == "complete" else ()
    found = state.realised.check(spec.task, baseline, probability, estimates)
    lost = None if spec.task == "regression" else state.losses.check(window, probability)
    if found and spec.task == "regression":
        found = replace(found, since=state.losses.began(window, baseline.value**2))
    elif found:
        found = replace(found, since=lost.since if lost else state.losses.rose(window))
    if overlap(state.faulty, keys[0][0], keys[-1][0]):
        return []
    return [each for each in (found, lost) if each]
