"""What a run was made with: the project's own code, locked dependencies, the libraries and the machine's arithmetic."""

import hashlib
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_info  # type: ignore[import-untyped]  # ships no types

Provenance = dict[str, Any]
_ROOT = Path(__file__).parents[2]
_SOURCES = ("schemas", "shared", "services")
_LIBRARIES = ("deltalake", "numpy", "onnx", "onnxruntime", "pyarrow", "scikit-learn", "scipy", "skl2onnx", "skops")


def provenance() -> Provenance:
    """`code_version` and `lock_hash` are SHA-256 in hex; the lock's is None where it is not deployed with the code.

    `blas` names the kernels that sums are made with: another processor's add in another order.
    """
    lock = _ROOT / "requirements.lock"
    return {
        "code_version": _digest_of_sources(),
        "lock_hash": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else None,
        "libraries": {name: version(name) for name in _LIBRARIES},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "blas": ", ".join(sorted({_kernel(each) for each in threadpool_info() if each["user_api"] == "blas"})),
    }


def _kernel(library: dict[str, Any]) -> str:
    return f"{library['internal_api']} {library['version']} {library.get('architecture', '')}".strip()


def _digest_of_sources() -> str:
    files = [file for folder in _SOURCES for kind in ("*.py", "*.sql", "*.c") for file in (_ROOT / folder).rglob(kind)]
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.relative_to(_ROOT).as_posix()}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
