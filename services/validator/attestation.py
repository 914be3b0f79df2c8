"""A version that passed becomes a signed folder: its files in the store, and the bundle that lists and signs them."""

from pathlib import Path

from schemas.events.parts import Artifact, Candidate
from services.validator.folder import folder_of
from services.validator.signing import sign
from shared.objects import Objects, digest_of


def attested(candidate: Candidate, report: bytes, objects: Objects, signing_key: Path) -> Artifact:
    """The bundle of the version's folder.

    Raises:
        Fault: S3 failed.
    """
    made = {name: getattr(candidate, name).digest for name in ("onnx", "skops", "manifest", "reference")}
    files = folder_of(candidate, {name: objects.get_now(digest) for name, digest in made.items()}, report)
    for data in files.values():
        if digest_of(data) not in made.values():
            objects.put_now(data)
    return objects.put_now(sign(candidate.model, files, signing_key))
