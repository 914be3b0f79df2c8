"""The key pair that versions are signed with: made once, at a stack's first start."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from compose.embedded.folder import write_private


def key_pair(folder: Path) -> tuple[Path, Path]:
    """The files of the private and the public key, PEM; the private one only its owner can read."""
    private, public = folder / "validator.key", folder / "validator.pem"
    if not (private.exists() and public.exists()):
        folder.mkdir(mode=0o700, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        write_private(private, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())
        public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public
