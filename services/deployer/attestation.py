"""Before a version is loaded: is all of it what the validator signed, from the first byte to the last?"""

from collections.abc import Sequence
from pathlib import Path

from schemas.events.parts import Candidate, Release
from shared.objects import Objects
from shared.signing import CANDIDATE, ONNX, Unverified, proven


def attested(release: Release, objects: Objects, public_keys: Sequence[Path]) -> bytes:
    """The model's bytes, when every file of the version is as it was signed and what is said of it was signed with it.

    Raises:
        Unverified: it is not.
        Tampered: bytes in the store are not those of their digest.
        Fault: S3 failed.
    """
    if release.attestation is None:
        raise Unverified("expected a version that the validator signed")
    names = proven(objects.get_now(release.attestation.digest), public_keys)
    files = {name: objects.get_now(digest) for name, digest in names.items()}
    signed = Candidate.model_validate_json(files[CANDIDATE], extra="ignore")
    said = release.candidate
    if other := [name for name in Candidate.model_fields if getattr(said, name) != getattr(signed, name)]:
        raise Unverified(f"expected the {', '.join(other)} that the validator signed, heard of others")
    return files[ONNX]
