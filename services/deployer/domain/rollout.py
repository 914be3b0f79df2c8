"""One model's rollout: no champion → champion; else shadow → canary steps → champion, or back. Decisions only.

Every method takes a fact and returns a `Decision`: the rollout afterwards and what is to be said of it. Nothing to
say means that nothing changed. Each change has a revision of its own.
"""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from schemas.events.deployer import PredictionsWithdrawn, RolloutChanged, RolloutEnded, Scoring, ScoringMeasured
from schemas.events.monitor import RolloutMeasured
from schemas.specs import Part, StreamSpec
from schemas.specs import Rollout as Policy
from services.deployer.domain.entrant import Entrant, Said
from services.deployer.domain.guards import cause_of, hold_of
from services.deployer.domain.pace import cause_of as cause_of_scoring
from services.deployer.domain.sequential import Verdict, verdict_of

MIN_MATURED = 100  # matured pairs of the revision itself, before a canary step is left
Order = Literal["rollback", "freeze", "unfreeze", "promote"]
Outcome = Literal["promoted", "rolled_back", "replaced"]


@dataclass(frozen=True)
class Decision:
    """The rollout afterwards, and what is to be said."""

    rollout: "Rollout"
    said: tuple[Said, ...] = ()

    def adding(self, *said: Said) -> "Decision":
        return Decision(self.rollout, (*self.said, *said))

    def then(self, following: "Decision") -> "Decision":
        return Decision(following.rollout, (*self.said, *following.said))

    def with_next(self) -> "Decision":
        """And the release that waited begins, unless the rollout is frozen."""
        rollout = self.rollout
        if rollout.waiting is None or rollout.frozen:
            return self
        return self.then(rollout.begun(rollout.waiting))


class Rollout(Part):
    """The state of one model; `policy` and `stream_spec` are those declared when the running rollout began."""

    model: str
    revision: int = 0
    phase: Literal["none", "serving", "shadow", "canary"] = "none"
    champion: Entrant | None = None
    challenger: Entrant | None = None
    waiting: Entrant | None = None
    former: Entrant | None = None  # the champion before, for a person's rollback
    policy: Policy = Policy()
    stream_spec: StreamSpec | None = None
    scoring: Scoring = Scoring()  # of this rollout, by all scorers
    share: float = 0.0
    salt: str = ""
    step: int = 0
    frozen: bool = False

    # -- a release may be rolled out

    def approved(self, entrant: Entrant) -> Decision:
        """A release that may go live: at once without a champion, in the place of one in shadow, or after a canary."""
        newest = max((each.version for each in self._entrants()), default=0)
        if any(each.version == entrant.version for each in self._entrants()):
            return Decision(self)
        if entrant.version < newest:
            return Decision(self, (_ended(self, entrant, "replaced", f"version {newest} is newer"),))
        if self.frozen or self.phase == "canary":
            return self._wait(entrant)
        if self.challenger is None:
            return self.begun(entrant)
        replaced = _ended(self, self.challenger, "replaced", f"version {entrant.version} is newer")
        return Decision(self, (replaced,)).then(self.begun(entrant))

    def _entrants(self) -> list[Entrant]:
        return [each for each in (self.champion, self.challenger, self.waiting) if each is not None]

    def _wait(self, entrant: Entrant) -> Decision:
        later = self._with(waiting=entrant)
        if self.waiting is None:
            return Decision(later)
        return Decision(later, (_ended(self, self.waiting, "replaced", f"version {entrant.version} is newer"),))

    def begun(self, entrant: Entrant) -> Decision:
        """The champion at once when there is none, else the challenger, in shadow."""
        spec, stream_spec = entrant.release.candidate.spec, entrant.release.candidate.stream_spec
        declared = {"policy": spec.rollout, "stream_spec": stream_spec, "waiting": None, "salt": self._salt(entrant)}
        if self.champion is None:
            return self._serve(entrant, "the first version to pass", **declared)
        reason = f"version {entrant.version} enters"
        fields = {"phase": "shadow", "challenger": entrant, "scoring": Scoring(), **declared}
        return self._change(entrant, reason, share=0.0, step=0, **fields)

    def _salt(self, entrant: Entrant) -> str:
        """Of this rollout alone, so that no entity is always a canary; the same whenever it is worked out."""
        identity = f"{self.model}/{entrant.version}/{entrant.release.candidate.run_id}"
        return blake2b(identity.encode(), digest_size=8).hexdigest()

    # -- evidence

    def measured(self, evidence: RolloutMeasured, switched: int) -> Decision:
        """Go on, go back, or wait. `switched` partitions are served under the current revision.

        Evidence about other versions says nothing; evidence of an earlier revision may end a rollout, not further it.
        """
        if self.frozen or not self._is_about_this(evidence):
            return Decision(self)
        verdict = verdict_of(evidence.pairs, self.policy)
        worse = _why(evidence, "worse than the champion") if verdict == "roll_back" else None
        if cause := cause_of(evidence, self.policy) or worse:
            return self._roll_back(cause)
        if evidence.revision != self.revision or not self._everywhere(switched):
            return Decision(self)
        if self.phase == "shadow":
            return self._leave_shadow(evidence, verdict)
        if verdict == "promote" and evidence.pairs_of_revision.n >= MIN_MATURED:
            return self._next_step(self.step + 1, _why(evidence, "not worse by the margin"))
        return Decision(self)

    def scored(self, heard: ScoringMeasured) -> Decision:
        """How a scorer saw both arms, added to what all of them saw; a challenger that is slow or mute falls."""
        if not self._is_about_this(heard):
            return Decision(self)
        return self._with(scoring=self.scoring.plus(heard.scoring)).watched()

    def watched(self) -> Decision:
        """What the sums of all scorers say; nothing while people hold the rollout."""
        cause = None if self.frozen or self.challenger is None else cause_of_scoring(self.scoring)
        return self._roll_back(cause) if cause else Decision(self)

    def _is_about_this(self, evidence: RolloutMeasured | ScoringMeasured) -> bool:
        versions = tuple(each.version if each else None for each in (self.champion, self.challenger))
        return (evidence.champion, evidence.challenger) == versions

    def _everywhere(self, switched: int) -> bool:
        return self.stream_spec is not None and switched >= self.stream_spec.partitions

    def _leave_shadow(self, evidence: RolloutMeasured, verdict: Verdict) -> Decision:
        """Enough paired scores; without canary steps the labels must have said promote here."""
        unsure = not self.policy.canary and verdict != "promote"
        if evidence.paired_scores < self.policy.shadow or unsure or hold_of(evidence, self.policy):
            return Decision(self)
        return self._next_step(0, f"{evidence.paired_scores} paired scores in shadow")

    def _next_step(self, step: int, reason: str) -> Decision:
        assert self.challenger is not None
        if step == len(self.policy.canary):
            return self._promote(reason)
        entrant = self._first_served(self.challenger)
        share = self.policy.canary[step]
        return self._change(entrant, reason, phase="canary", share=share, step=step, challenger=entrant)

    # -- what people order, and what goes wrong

    def ordered(self, order: Order, why: str) -> Decision:
        """A person's word, frozen or not; an order that finds nothing to do says nothing."""
        match order:
            case "rollback" if self.challenger is not None:
                return self._roll_back(why)
            case "rollback" if self.former is not None:
                return self._restore(why)
            case "promote" if self.challenger is not None:
                return self._promote(why)
            case "freeze" | "unfreeze" if self.frozen != (order == "freeze"):
                return self._freeze(order == "freeze", why).with_next()
        return Decision(self)

    def _freeze(self, frozen: bool, why: str) -> Decision:
        about = self.challenger or self.champion
        if about is None:
            return Decision(self._with(frozen=frozen))
        return self._change(about, why, frozen=frozen)

    def not_loaded(self, version: int, revision: int, switched: int, why: str) -> Decision:
        """A scorer can never load a version: a challenger falls, a new champion gives way to the one before.

        Only if nobody could: the word is about the current revision, and no partition has switched since
        `entered(version)`. One scorer's trouble with what others serve is left to people. A freeze does not shield
        what cannot be served; it goes on afterwards. A first champion stays: there is none before it.
        """
        if revision != self.revision or switched:
            return Decision(self)
        if self.challenger is not None and self.challenger.version == version:
            return self._roll_back(why)
        if self.champion is not None and self.champion.version == version and self.former is not None:
            return self._restore(why)
        return Decision(self)

    def entered(self, version: int) -> int:
        """The revision from which on a switched partition proves that the version loads: a champion's first."""
        if self.champion is not None and self.champion.version == version:
            return self.champion.served_from or self.revision
        return self.revision

    def retired(self, version: int, why: str) -> Decision:
        """A version may not go live any more. A champion goes on until there is another."""
        if self.challenger is not None and self.challenger.version == version:
            return self._roll_back(why)
        if self.waiting is not None and self.waiting.version == version:
            return Decision(self._with(waiting=None), (_ended(self, self.waiting, "replaced", why),))
        if self.former is not None and self.former.version == version:
            return Decision(self._with(former=None))
        return Decision(self)

    # -- ends

    def _promote(self, reason: str) -> Decision:
        assert self.challenger is not None
        served = self._serve(self.challenger, reason)
        return served.adding(_ended(served.rollout, self.challenger, "promoted", reason)).with_next()

    def _serve(self, entrant: Entrant, reason: str, **declared: object) -> Decision:
        champion = self._first_served(entrant)
        fields = {"phase": "serving", "champion": champion, "former": self.champion}
        return self._change(champion, reason, challenger=None, share=0.0, step=0, **fields, **declared)

    def _roll_back(self, reason: str) -> Decision:
        """End the running rollout; what the challenger served is withdrawn."""
        fallen = self.challenger
        assert fallen is not None
        back = self._change(fallen, reason, phase="serving", challenger=None, share=0.0, step=0)
        return back.adding(*_fallen(back.rollout, fallen, reason)).with_next()

    def _restore(self, reason: str) -> Decision:
        """The champion before serves again; a challenger begins anew beside it, in shadow."""
        fallen, former = self.champion, self.former
        assert fallen is not None
        assert former is not None
        phase = "serving" if self.challenger is None else "shadow"
        fields = {"phase": phase, "champion": former, "former": None, "scoring": Scoring()}
        back = self._change(fallen, reason, share=0.0, step=0, **fields)
        return back.adding(*_fallen(back.rollout, fallen, reason)).with_next()

    # -- changes

    def _first_served(self, entrant: Entrant) -> Entrant:
        return entrant if entrant.served_from else entrant.model_copy(update={"served_from": self.revision + 1})

    def _with(self, **fields: object) -> "Rollout":
        return self.model_copy(update=fields)

    def _change(self, about: Entrant, reason: str, **fields: object) -> Decision:
        after = self._with(revision=self.revision + 1, **fields)
        return Decision(after, (Said(_changed(after, reason), about),))


def _changed(rollout: Rollout, reason: str) -> RolloutChanged:
    assert rollout.champion is not None
    assert rollout.stream_spec is not None
    assert rollout.phase != "none"
    return RolloutChanged(
        model=rollout.model,
        stream_spec=rollout.stream_spec,
        revision=rollout.revision,
        phase=rollout.phase,
        champion=rollout.champion.release,
        challenger=rollout.challenger.release if rollout.challenger else None,
        share=rollout.share,
        salt=rollout.salt,
        step=rollout.step,
        frozen=rollout.frozen,
        reason=reason,
    )


def _ended(rollout: Rollout, entrant: Entrant, outcome: Outcome, reason: str) -> Said:
    revision = max(1, rollout.revision)  # before a first champion there is none
    ended = RolloutEnded(
        model=rollout.model, revision=revision, version=entrant.version, outcome=outcome, reason=reason
    )
    return Said(ended, entrant)


def _fallen(rollout: Rollout, entrant: Entrant, reason: str) -> list[Said]:
    """Of a version that fell by this very revision: it is over, and what it served until then is withdrawn."""
    said = [_ended(rollout, entrant, "rolled_back", reason)]
    if entrant.served_from is not None:
        withdrawn = PredictionsWithdrawn(
            model=rollout.model,
            version=entrant.version,
            from_revision=entrant.served_from,
            until_revision=rollout.revision - 1,
            cause=reason,
        )
        said.append(Said(withdrawn, entrant))
    return said


def _why(evidence: RolloutMeasured, finding: str) -> str:
    pairs = evidence.pairs
    return f"{finding}: mean loss difference {pairs.total / max(1, pairs.n):+.5f} over {pairs.n} matured pairs"
