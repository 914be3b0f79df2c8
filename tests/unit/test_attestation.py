"""A version is loaded when it is what the validator signed, from the first byte to the last word, and else refused."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from model_signing import verifying

from compose.embedded.keys import key_pair
from schemas.events.parts import Artifact, Release
from services.deployer.attestation import attested
from services.validator.signing import sign
from shared.objects import Objects, Tampered, digest_of
from shared.signing import Unverified, listed, proven
from tests.scoring_world import model_spec, release_of, signed, stream_spec

ONNX = b"stands for a model"


class Memory(Objects):
    """A store of this process, as content-addressed as S3's."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    def put_now(self, data: bytes) -> Artifact:
        self.held[digest_of(data)] = data
        return Artifact(digest=digest_of(data), size_bytes=len(data))

    def get_now(self, digest: str) -> bytes:
        if digest_of(self.held[digest]) != digest:
            raise Tampered(digest)
        return self.held[digest]


@pytest.fixture
def store() -> Memory:
    return Memory()


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return key_pair(tmp_path / "ours")


@pytest.fixture
def release(store: Memory, keys: tuple[Path, Path]) -> Release:
    onnx = store.put_now(ONNX)
    return signed(release_of(1, model_spec("m", "s"), stream_spec("s"), onnx), ONNX, store.put_now, keys[0])


def test_what_was_signed_is_loaded(release: Release, store: Memory, keys: tuple[Path, Path]) -> None:
    assert attested(release, store, [keys[1]]) == ONNX


def test_a_version_is_loaded_by_any_key_while_one_is_replaced(
    release: Release, store: Memory, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    _, newer = key_pair(tmp_path / "newer")

    assert attested(release, store, [newer, keys[1]]) == ONNX
    with pytest.raises(Unverified, match="expected a signature by a key"):
        attested(release, store, [newer])
    with pytest.raises(Unverified, match=r"a key that is trusted here \(none\)"):
        attested(release, store, [])


def test_any_byte_that_is_altered_in_the_store_is_seen(
    release: Release, store: Memory, keys: tuple[Path, Path]
) -> None:
    for digest, data in dict(store.held).items():
        for place in {0, len(data) // 2, len(data) - 1}:
            store.held[digest] = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
            with pytest.raises(Tampered):
                attested(release, store, [keys[1]])
        store.held[digest] = data


def test_a_bundle_altered_together_with_its_digest_is_seen(
    release: Release, store: Memory, keys: tuple[Path, Path]
) -> None:
    assert release.attestation is not None
    bundle = store.held[release.attestation.digest]
    for altered in (_relisted(bundle, store.put_now(b"another model").digest), bundle[:-40], b"{}", b""):
        with pytest.raises(Unverified):
            attested(release.model_copy(update={"attestation": store.put_now(altered)}), store, [keys[1]])


def _relisted(bundle: bytes, digest: str) -> bytes:
    """The same signature below a list that names another model."""
    document = json.loads(bundle)
    statement = json.loads(base64.b64decode(document["dsseEnvelope"]["payload"]))
    for resource in statement["predicate"]["resources"]:
        if resource["name"] == "model.onnx":
            resource["digest"] = digest.removeprefix("sha256:")
    document["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("signature", lambda candidate: candidate.signature.model_copy(update={"classes": ("true", "false")})),
        ("onnx", lambda candidate: candidate.skops),
        ("spec", lambda candidate: candidate.spec.model_copy(update={"owner": "mallory"})),
        ("run_id", lambda candidate: "another run"),
    ],
)
def test_what_is_said_of_a_version_must_be_what_was_signed_with_it(
    release: Release, store: Memory, keys: tuple[Path, Path], field: str, change: Callable[..., object]
) -> None:
    candidate = release.candidate.model_copy(update={field: change(release.candidate)})

    with pytest.raises(Unverified, match=f"expected the {field} that the validator signed"):
        attested(release.model_copy(update={"candidate": candidate}), store, [keys[1]])


def test_a_version_that_nobody_signed_is_refused(release: Release, store: Memory, keys: tuple[Path, Path]) -> None:
    with pytest.raises(Unverified, match="expected a version that the validator signed"):
        attested(release.model_copy(update={"attestation": None}), store, [keys[1]])


def test_the_library_of_model_signing_reads_it_alike(
    release: Release, store: Memory, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    assert release.attestation is not None
    (tmp_path / "m.sig").write_bytes(bundle := store.get_now(release.attestation.digest))
    (folder := tmp_path / "m").mkdir()
    for name, digest in listed(bundle).items():
        (folder / name).write_bytes(store.get_now(digest))

    verifying.Config().use_elliptic_key_verifier(public_key=keys[1]).verify(folder, tmp_path / "m.sig")
    (folder / "model.onnx").write_bytes(b"another")
    with pytest.raises(ValueError, match=r"model\.onnx"):
        verifying.Config().use_elliptic_key_verifier(public_key=keys[1]).verify(folder, tmp_path / "m.sig")


def test_a_folder_that_is_no_versions_is_refused(store: Memory, keys: tuple[Path, Path]) -> None:
    with pytest.raises(Unverified, match=r"expected the files of a version, candidate\.json is not among them"):
        proven(sign("m", {"model.onnx": ONNX}, keys[0]), [keys[1]])


def test_names_that_lead_out_of_the_folder_are_refused() -> None:
    resources = [{"name": "../model.onnx", "algorithm": "sha256", "digest": "0" * 64}]
    kind = {"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://model_signing/signature/v1.0"}
    payload = base64.b64encode(json.dumps(kind | {"predicate": {"resources": resources}}).encode()).decode()

    with pytest.raises(Unverified, match="expected plain names"):
        listed(json.dumps({"dsseEnvelope": {"payload": payload}}).encode())


def test_the_keys_of_a_stack_are_made_once_and_the_private_one_is_its_owners(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in key_pair(tmp_path / "keys")]
    private, public = key_pair(tmp_path / "keys")

    assert [private.read_bytes(), public.read_bytes()] == first
    assert private.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
