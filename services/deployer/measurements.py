"""How both arms of a rollout score, said by the scorers: in the transaction of the next batch, seldom."""

import uuid
from collections.abc import Iterator

from schemas.envelope import Envelope
from schemas.events.deployer import ScoringMeasured
from services.deployer.domain.pace import Tally
from services.deployer.serving import Known


def measurements(tally: Tally, known: Known) -> Iterator[Envelope]:
    """What is due of the revisions that are served."""
    revisions = {model: serving.changed.revision for model, serving in known.serving.items()}
    for model, revision, scoring in tally.due(revisions):
        serving = known.serving[model]
        if serving.challenger is None:
            continue
        event = ScoringMeasured(
            model=model,
            revision=revision,
            champion=serving.champion.release.version,
            challenger=serving.challenger.release.version,
            scoring=scoring,
        )
        yield serving.follow_up(event, f"scoring/{model}/{revision}/{uuid.uuid4()}")
