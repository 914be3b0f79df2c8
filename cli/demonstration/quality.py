"""Quality as a consumer sees it: predictions joined with labels, both from their topics."""

from collections.abc import Mapping
from dataclasses import dataclass

from cli.demonstration.counting import Topics
from schemas.events.parts import Release
from shared.matrix import Projection
from shared.quality import roc_auc
from shared.records import StreamDecoder
from shared.runtime import Model

Row = tuple[tuple[int, int], float, float]  # input place, score, label


@dataclass(frozen=True, kw_only=True)
class Served:
    """Over labelled events of a model: area under the ROC curve of what was served, and how many events those are."""

    events: int
    auc: float | None


@dataclass(frozen=True, kw_only=True)
class Gain:
    """The same, beside what one frozen version would have said of the same events."""

    version: int
    events: int
    served_auc: float | None
    version_auc: float | None

    @property
    def gain(self) -> float | None:
        if self.served_auc is None or self.version_auc is None:
            return None
        return self.served_auc - self.version_auc


def labelled(topics: Topics, model: str, labels: Mapping[str, float], since: Mapping[int, int]) -> list[Row]:
    """Served and labelled answers from these input offsets on, by partition."""
    return [
        ((answer.partition, answer.offset), answer.score, labels[answer.event_id])
        for _, answer in topics.answers[model]
        if answer.offset >= since.get(answer.partition, answer.offset + 1) and answer.event_id in labels
    ]


def served(topics: Topics, model: str, labels: Mapping[str, float], since: Mapping[int, int]) -> Served:
    """Quality since these input offsets."""
    rows = labelled(topics, model, labels, since)
    return Served(events=len(rows), auc=roc_auc([truth for _, _, truth in rows], [score for _, score, _ in rows]))


def gain(
    topics: Topics, model: str, labels: Mapping[str, float], since: Mapping[int, int], *, over: Release, artifact: bytes
) -> Gain:
    """What was served since these input offsets against the artifact of one version on the very same events."""
    rows = labelled(topics, model, labels, since)
    truth = [label for _, _, label in rows]
    alone = _score(over, artifact, [topics.data[where].value for where, _, _ in rows]) if rows else []
    return Gain(
        version=over.version,
        events=len(rows),
        served_auc=roc_auc(truth, [score for _, score, _ in rows]),
        version_auc=roc_auc(truth, alone),
    )


def _score(release: Release, artifact: bytes, values: list[bytes]) -> list[float]:
    candidate = release.candidate
    batch = StreamDecoder(candidate.stream_spec).decode(values)
    assert not batch.refused  # each of them was predicted
    project = Projection(candidate.signature, candidate.stream_spec)
    scores: list[float] = Model(artifact, candidate.signature).score(project(batch.matrix)).score.tolist()
    return scores
