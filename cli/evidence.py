"""What is known of a challenger, in words: the verdict so far by the deployer's own rule, its bounds, guard-rails."""

from collections.abc import Iterator
from typing import Any

from schemas.events.deployer import Scoring
from schemas.events.monitor import RolloutMeasured
from schemas.specs import Rollout as Policy
from services.deployer.domain import guards
from services.deployer.domain.sequential import bounds_of, verdict_of


def words_of(rollout: dict[str, Any], policy: Policy) -> Iterator[str]:
    """A line each, of what the registry knows of a rollout; none of a first version."""
    if rollout["scoring"]:
        yield _scoring(Scoring.model_validate(rollout["scoring"], extra="ignore"))
    if rollout["evidence"]:
        yield from _measured(RolloutMeasured.model_validate(rollout["evidence"], extra="ignore"), policy)


def _measured(evidence: RolloutMeasured, policy: Policy) -> Iterator[str]:
    yield _verdict(evidence, policy)
    yield _scores(evidence)
    yield _expected(evidence, policy)
    if cause := guards.cause_of(evidence, policy):
        yield f"a guard-rail ends it: {cause}"


def _scoring(scoring: Scoring) -> str:
    unanswered = ", ".join(f"{arm} {count:,}" for arm, count in scoring.unanswered.items())
    took = ", ".join(f"{arm} {1000 * each / scoring.batches:.2f} ms" for arm, each in scoring.seconds.items())
    seen = f"{scoring.slow_batches:,} of {scoring.batches:,} batches slow ({took} each)"
    return f"scorers saw {seen}; of {scoring.records:,} records unanswered: {unanswered}"


def _verdict(evidence: RolloutMeasured, policy: Policy) -> str:
    pairs, verdict = evidence.pairs, verdict_of(evidence.pairs, policy).replace("_", " ")
    seen = f"{pairs.n:,} matured pairs of at most {policy.max_labels:,}, {evidence.paired_scores:,} scored by both arms"
    bounds = bounds_of(pairs, policy.error_rate)
    if bounds is None:
        return f"labels say {verdict}: {seen}"
    between = f"between {bounds.lower:+.5f} and {bounds.upper:+.5f}, margin {policy.margin:g}"
    return f"labels say {verdict}: mean loss difference {bounds.mean:+.5f}, {between}; {seen}"


def _scores(evidence: RolloutMeasured) -> str:
    arms = [f"{arm} {drift.value:.3f} of {drift.threshold:.3f}" for arm, drift in evidence.scores.items()]
    return f"scores lie from their references: {', '.join(arms) or 'too few to say'}"


def _expected(evidence: RolloutMeasured, policy: Policy) -> str:
    if evidence.expected is None or not evidence.expected.pairs.n:
        return "nothing is expected without labels"
    pairs = evidence.expected.pairs
    doubted = ", which labels contradict" if evidence.expected.doubted else ""
    held = "; it waits for labels" if guards.hold_of(evidence, policy) else ""
    return f"expected without labels: {pairs.total / pairs.n:+.5f} over {pairs.n:,} events{doubted}{held}"
