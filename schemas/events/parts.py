"""Values that several services' events share."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from schemas.specs import ModelSpec, Part, StreamSpec

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Time = AwareDatetime
Offsets = dict[int, int]  # partition → next offset; the vector that a table version or a window was made from


class Artifact(Part):
    """Bytes in the object store, found by what they are."""

    digest: Digest
    size_bytes: int = Field(ge=0)


class SignatureFeature(Part):
    """One column of a version's input matrix, float32: a number, 0/1, or the index into `values`; missing is NaN."""

    name: str
    type: Literal["float", "category", "bool"]
    values: tuple[str, ...] = ()


class Signature(Part):
    """Input columns in order, and the classes that the output's columns stand for (empty: one number)."""

    features: tuple[SignatureFeature, ...]
    classes: tuple[str, ...] = ()


class Cut(Part):
    """What a run may see: table versions, the offsets they hold, and event time."""

    time: Time
    data_version: int = Field(ge=0)
    labels_version: int = Field(ge=0)
    data_offsets: Offsets
    labels_offsets: Offsets


class Span(Part):
    """A stretch of event time, from inclusive, until exclusive."""

    start: datetime
    end: datetime


class Candidate(Part):
    """What a run produced; everything that the next service needs to judge, record or serve it."""

    model: str
    run_id: str
    spec: ModelSpec
    stream_spec: StreamSpec
    cut: Cut
    signature: Signature
    onnx: Artifact
    skops: Artifact
    manifest: Artifact
    reference: Artifact
    metrics: dict[str, float]
    rows: int = Field(ge=0)


class Release(Part):
    """A numbered version, as the scorers load it; `attestation` is the bundle by which the validator signed it."""

    version: int = Field(ge=1)
    candidate: Candidate
    attestation: Artifact | None = None


class Gate(Part):
    """One gate's verdict: what was measured, what was asked, and why it says so. Only `failed` keeps a version out."""

    name: str
    value: float | None
    threshold: float | None
    verdict: Literal["passed", "failed", "not_asked", "no_champion", "insufficient_data"]
    reason: str


class Card(Part):
    """A model card: one HTML page that needs nothing else, and the JSON it was drawn from."""

    page: Artifact
    data: Artifact
