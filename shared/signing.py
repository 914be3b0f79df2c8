"""What a signed folder of files is, and how it is verified: a DSSE statement of every file's SHA-256, by a key of ours.

The validator signs with the library of OpenSSF Model Signing. Whoever loads needs no more of it than this, which is
held against it in the tests: it brings the clients of a transparency log, and half a second, into every process.

Source: OpenSSF Model Signing 1.0, https://github.com/ossf/model-signing-spec; DSSE 1.0, secure-systems-lab/dsse.
"""

import base64
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from shared.errors import Refusal

ONNX: Final = "model.onnx"
CANDIDATE: Final = "candidate.json"  # what serving must hear of a version, word for word
BUNDLE: Final = "model.sig"  # beside the files, where the tools of Model Signing look for it
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_PAYLOAD = "application/vnd.in-toto+json"
_KIND = {"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://model_signing/signature/v1.0"}
_HASHES: Final = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}  # by the bits of the curve
_ODD = (ValueError, KeyError, TypeError, IndexError, AttributeError)  # what reading a document of another form leads to
Json = dict[str, Any]


class Unverified(Refusal):
    """What is to be loaded is not what was signed, or nobody whom we trust has signed it."""


def listed(bundle: bytes) -> dict[str, str]:
    """Names of files and their digests, as a bundle lists them; nothing of it is proven yet.

    Raises:
        Unverified: it is no bundle of a folder's files.
    """
    try:
        statement = json.loads(_payload(json.loads(bundle)["dsseEnvelope"]))
        found = {each["name"]: f"{each['algorithm']}:{each['digest']}" for each in statement["predicate"]["resources"]}
        kind = {name: statement[name] for name in _KIND}
    except _ODD as error:
        raise Unverified(f"expected a bundle of Model Signing: {error!r}") from error
    if kind != _KIND:
        raise Unverified(f"expected the statement {_KIND}, got {kind}")
    if odd := [name for name in found if not _NAME.fullmatch(str(name))]:
        raise Unverified(f"expected plain names of files, got {odd}")
    return found


def proven(bundle: bytes, public_keys: Sequence[Path]) -> dict[str, str]:
    """What `listed` says, signed with one of the keys. Bytes of these digests, and no others, are what was signed.

    Raises:
        Unverified: nobody whom we trust says so.
    """
    found = listed(bundle)
    if not any(_signed_with(key, json.loads(bundle)["dsseEnvelope"]) for key in public_keys):
        names = ", ".join(key.name for key in public_keys) or "none"
        raise Unverified(f"expected a signature by a key that is trusted here ({names})")
    if other := sorted({digest for digest in found.values() if not _DIGEST.fullmatch(digest)}):
        raise Unverified(f"expected SHA-256 digests of whole files, got {other}")
    if missing := {ONNX, CANDIDATE} - found.keys():
        raise Unverified(f"expected the files of a version, {', '.join(sorted(missing))} is not among them")
    return found


def _signed_with(key: Path, envelope: Json) -> bool:
    public = load_pem_public_key(key.read_bytes())
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise ValueError(f"{key}: expected the public key of an elliptic curve")
    try:
        [signature] = envelope["signatures"]
        signed = _pae(envelope["payloadType"], _payload(envelope))
        public.verify(base64.b64decode(signature["sig"]), signed, ec.ECDSA(_HASHES[public.curve.key_size]))
    except (InvalidSignature, *_ODD):
        return False
    return bool(envelope["payloadType"] == _PAYLOAD)


def _payload(envelope: Json) -> bytes:
    return base64.b64decode(envelope["payload"], validate=True)


def _pae(kind: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding.

    >>> _pae("http://example.com/HelloWorld", b"hello world")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    return b" ".join([b"DSSEv1", b"%d" % len(kind), kind.encode(), b"%d" % len(payload), payload])
