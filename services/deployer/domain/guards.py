"""What ends or holds up a rollout without waiting for labels: each finding is the reason in words, or None.

- Scores: the challenger's lie overwhelmingly far from those it was validated with, and the champion's, on the same
  events, do not: roll back.
- Estimate: while fewer than `MIN_PAIRS` labels have come, the losses expected without them (CBPE, DLE) are worse than
  the champion's, beyond doubt: by the margin, wait in the shadow; by three margins, roll back.

An estimate never promotes, and where labels have shown that what it expects of the champion is wrong it says nothing:
it is blind to concept drift, which is what a challenger is often made for.
"""

from schemas.events.monitor import ExpectedPairs, FeatureDrift, RolloutMeasured
from schemas.specs import Rollout as Policy
from services.deployer.domain.sequential import MIN_PAIRS, bounds_of

MIN_SCORES = 500  # of the challenger
OVERWHELMING = 2.5  # times the distance that chance hardly ever passes
_ITS_OWN = 2.0  # times as far as the champion's: what moves both is the world
_FAR = 3.0  # margins
_SHARE = 0.1  # of the error rate, that an estimate may err by


def cause_of(evidence: RolloutMeasured, policy: Policy) -> str | None:
    """Why the rollout ends at once, if it does."""
    return _strange_scores(evidence) or _expected_worse(evidence, policy, _FAR)


def hold_of(evidence: RolloutMeasured, policy: Policy) -> str | None:
    """Why the challenger stays in the shadow for now, if it does."""
    return _expected_worse(evidence, policy, 1.0)


def _strange_scores(evidence: RolloutMeasured) -> str | None:
    champion, challenger = evidence.scores.get("champion"), evidence.scores.get("challenger")
    if champion is None or challenger is None or evidence.arms["challenger"].scored < MIN_SCORES:
        return None
    far, champions = _strength(challenger), _strength(champion)
    if far <= max(OVERWHELMING, _ITS_OWN * champions):
        return None
    return (
        f"its scores are not those it was validated with: distance {challenger.value:.3f}, {challenger.threshold:.3f}"
        f" would be much; the champion's {champion.value:.3f} of {champion.threshold:.3f}"
    )


def _strength(drift: FeatureDrift) -> float:
    return drift.value / drift.threshold


def _expected_worse(evidence: RolloutMeasured, policy: Policy, margins: float) -> str | None:
    """The same bounds as of labels, on the differences of expected losses."""
    expected = _heard(evidence)
    bounds = bounds_of(expected.pairs, policy.error_rate * _SHARE) if expected else None
    if bounds is None or bounds.lower <= margins * policy.margin:
        return None
    return f"expected to be worse than the champion by {bounds.mean:.5f}, at least {bounds.lower:.5f}, without labels"


def _heard(evidence: RolloutMeasured) -> ExpectedPairs | None:
    expected = evidence.expected
    return None if expected is None or expected.doubted or evidence.pairs.n >= MIN_PAIRS else expected
