"""What a run was made with: the project's own code, the locked dependencies, the libraries that shape a model."""

import hashlib
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

Provenance = dict[str, Any]
_ROOT = Path(__file__).parents[2]
_SOURCES = ("schemas", "shared", "services")
_LIBRARIES = ("deltalake", "numpy", "onnx", "onnxruntime", "pyarrow", "scikit-learn", "scipy", "skl2onnx", "skops")


def provenance() -> Provenance:
    """`code_version` and `lock_hash` are SHA-256 in hex; the lock's is None where it is not deployed with the code."""
    lock = _ROOT / "requirements.lock"
    return {
        "code_version": _digest_of_sources(),
        "lock_hash": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else None,
        "libraries": {name: version(name) for name in _LIBRARIES},
        "python": platform.python_version(),
    }


def _digest_of_sources() -> str:
    files = [file for folder in _SOURCES for kind in ("*.py", "*.sql") for file in (_ROOT / folder).rglob(kind)]
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.relative_to(_ROOT).as_posix()}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
