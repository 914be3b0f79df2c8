"""What must hold, each with a name, a verdict and the reason for it. None: not due yet, or not promised."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cli.demonstration.counting import Count
from cli.demonstration.lifecycles import Champion, Lifecycles, Run
from cli.demonstration.plan import Promises
from cli.demonstration.quality import Gain, Served
from cli.demonstration.resolving import Resolved
from cli.demonstration.traces import Trace
from schemas.events.monitor import TrainingRequested
from schemas.events.registry import RolloutOrdered

LIVE = frozenset({"ingestor", "monitor", "trainer", "validator", "registry", "deployer", "scorer"})
JUDGED = LIVE - {"deployer", "scorer"}
FAILED = JUDGED - {"validator"}
RESOLVED_WITHIN_SECONDS = 1.0


@dataclass(frozen=True)
class Check:
    """`ok` None: not promised, or not due yet."""

    ok: bool | None
    explanation: str


def one_prediction_an_event(counts: Mapping[str, Count]) -> Check:
    """Exactly once, no prediction for a refused event, a version in each, order kept."""
    faults = {model: count.faults for model, count in counts.items() if count.faults}
    told = {model: f"{count.answered_once:,} of {count.accepted:,}" for model, count in counts.items()}
    if faults:
        examples = [example for count in counts.values() for example in count.examples]
        return Check(False, f"faults: {listed(faults)}; such as {examples[:10]}")
    if silent := sorted(model for model, count in counts.items() if not count.answered_once):
        return Check(None, f"not due: nothing has been answered by {', '.join(silent)}; {listed(told)}")
    return Check(True, f"accepted events answered exactly once, the others before a first champion: {listed(told)}")


def listed(found: Mapping[str, object]) -> str:
    """For a reader.

    >>> listed({"flight-delay": 1200, "flight-risk": "none"})
    'flight-delay 1,200, flight-risk none'
    """
    said = (f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}" for name, value in found.items())
    return ", ".join(said) or "none"


def tables_hold_everything(rows: Mapping[str, int], expected: Mapping[str, int]) -> Check:
    """Each table has as many rows as its topic has accepted records."""
    wrong = {name: (rows.get(name, 0), want) for name, want in expected.items() if rows.get(name, 0) != want}
    if wrong:
        return Check(False, f"rows found and expected: {listed(wrong)}")
    return Check(True, f"rows equal the accepted records of their topics: {listed(expected)}")


def labels_add_up(states: Mapping[str, Mapping[str, int]], predictions: Mapping[str, int]) -> Check:
    """The monitor's joined + pending + expired + sampled out are the predictions there are."""
    sums = {model: sum(states.get(model, {}).values()) for model in predictions}
    verdict = sums == dict(predictions)
    told = f"joined + pending + expired + sampled out: {listed(sums)}; predictions: {listed(predictions)}"
    return Check(verdict, told)


def nothing_given_up(given_up: list[str]) -> Check:
    """Whatever held event time came to its end."""
    return Check(not given_up, f"held for too long: {given_up}" if given_up else "whatever held event time ended")


def predictions_resolve(resolved: Sequence[Resolved]) -> Check:
    """One call tells all that stands behind a prediction, in less than a second."""
    if not resolved:
        return Check(None, "there are no predictions yet")
    partial = {each.prediction: each.missing for each in resolved if each.missing}
    seconds = sorted(each.seconds for each in resolved)
    told = f"{len(resolved)} random ones: {len(resolved) - len(partial)} whole, in {seconds[len(seconds) // 2]:.3f} s"
    if partial:
        return Check(False, f"{told}; such as {dict(list(partial.items())[:3])}")
    return Check(seconds[-1] < RESOLVED_WITHIN_SECONDS, f"{told}, the slowest in {seconds[-1]:.3f} s")


def second_version(lifecycles: Lifecycles, models: tuple[str, ...], promises: Promises, *, due: bool) -> Check:
    """A second version went live: asked for by the monitor, through canary, by matured labels, by nobody's hand."""
    found = {model: second_way(lifecycles, model) for model in models}
    told = "; ".join(f"{model}: {found[model]}" for model in models)
    missing = promises.second_version_of - {model for model, way in found.items() if way.startswith("v")}
    if not missing:
        return Check(True if promises.second_version_of else None, told)
    return Check(False if due else None, told)


def second_way(lifecycles: Lifecycles, model: str) -> str:
    """How the second champion came to be: starts with its version when all of it was as it should be."""
    champions = lifecycles.champions(model)
    if len(champions) < 2:
        return "no second champion"
    version = champions[1].release.version
    rollout = next((each for each in lifecycles.rollouts([model]) if each["version"] == version), None)
    asked = [event for _, event in lifecycles.of(TrainingRequested) if event.run_id == _run_id(champions[1])]
    if rollout is None or rollout["outcome"] != "promoted":
        return f"champion v{version} without a rollout that ended in promotion"
    if not asked or asked[0].reason not in {"drift", "decay", "schedule"}:
        return f"champion v{version} was asked for by {asked[0].reason if asked else 'nobody'}"
    if "canary" not in {step["phase"] for step in rollout["steps"]} or not rollout["matured_pairs"]:
        return f"champion v{version} did not pass a canary by matured labels"
    if any(event.model == model for _, event in lifecycles.of(RolloutOrdered)):
        return f"champion v{version} had a person's help"
    return f"v{version}, asked for by {asked[0].reason}, after {rollout['matured_pairs']:,} matured pairs"


def _run_id(champion: Champion) -> str:
    return champion.release.candidate.run_id


def traces_whole(runs: list[Run], traces: Mapping[str, Trace], apart: Mapping[str, set[str]]) -> Check:
    """Each lifecycle is one trace with spans of all services that took part, and no span without its parent.

    `apart`: run → trace ids of its events other than the run's own.
    """
    wrong = [
        problem for run in runs if (problem := _problem(run, traces.get(run.run_id), apart.get(run.run_id, set())))
    ]
    if not runs:
        return Check(None, "no lifecycle yet")
    return Check(not wrong, "; ".join(wrong) or f"{len(runs)} lifecycles, each one trace without an orphan")


def _problem(run: Run, trace: Trace | None, apart: set[str]) -> str | None:
    if trace is None or not trace.spans:
        return f"{run.run_id}: no trace"
    if missing := expected_services(run) - set(trace.services):
        return f"{run.run_id}: no span of {sorted(missing)}"
    if trace.orphans:
        return f"{run.run_id}: {len(trace.orphans)} spans without their parent, such as {trace.orphans[:3]}"
    return f"{run.run_id}: events in other traces: {sorted(apart)}" if apart else None


def expected_services(run: Run) -> frozenset[str]:
    """Who takes part in a lifecycle that ended so; the ingestor's commit is its root."""
    if run.outcome.startswith("failed"):
        return FAILED
    return LIVE if run.outcome == "registered" else JUDGED


def lifecycles_complete(lifecycles: Lifecycles) -> Check:
    """By causation ids, where processes are killed and take their last spans with them."""
    breaks = lifecycles.breaks()
    return Check(not breaks, "; ".join(breaks[:10]) or f"{len(lifecycles.said):,} events lead from cause to end")


def quality(found: Mapping[str, Served], promises: Promises, *, due: bool) -> Check:
    """What was served since the first champion."""
    told = {model: f"{each.auc:.4f} of {each.events:,}" for model, each in found.items() if each.auc is not None}
    least = promises.least_auc
    good = all((auc := found[model].auc) is not None and auc >= value for model, value in least.items())
    return Check(
        good if due and least else None, f"ROC AUC since the first champion: {listed(told)}; promised: {listed(least)}"
    )


def gain(found: Mapping[str, Gain], promises: Promises, *, due: bool) -> Check:
    """What was served since the second champion, against the first version on the same events."""
    told = {model: f"{each.gain:+.4f} on {each.events:,}" for model, each in found.items() if each.gain is not None}
    least = promises.least_gain
    good = all(model in found and (found[model].gain or 0.0) >= value for model, value in least.items())
    return Check(
        good if due and least else None, f"ROC AUC over the first version's: {listed(told)}; promised: {listed(least)}"
    )
