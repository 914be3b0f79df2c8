"""Signing a folder with OpenSSF Model Signing, in key mode. A module of its own, as the library is slow to import."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from model_signing import hashing, signing


def sign(name: str, files: Mapping[str, bytes], private_key: Path) -> bytes:
    """The bundle: a signature of all the files of this folder, and of no others."""
    with TemporaryDirectory() as place:
        folder, bundle = Path(place, name), Path(place, f"{name}.sig")
        folder.mkdir()
        for file, data in files.items():
            (folder / file).write_bytes(data)
        hashes: hashing.Config = hashing.Config()  # type: ignore[no-untyped-call]  # the library's constructors are
        signer: signing.Config = signing.Config()  # type: ignore[no-untyped-call]  # the only untyped things in it
        hashes.use_file_serialization(hashing_algorithm="sha256")
        signer.use_elliptic_key_signer(private_key=private_key).set_hashing_config(hashes).sign(folder, bundle)
        return bundle.read_bytes()
