"""What is held of the machine's memory, after it has been used."""

import ctypes
import os
import sys

GIVE_BACK_SECONDS = 10.0  # to look takes some milliseconds
_C = ctypes.CDLL(None)
_TRIM, _SET = (getattr(_C, name, None) for name in ("malloc_trim", "mallopt"))  # glibc's alone
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # mallopt(3)
_LARGE_BYTES = 256 * 1024
_SPARE_BYTES = 4 * 1024 * 1024


def keep_little() -> None:
    """Let allocators keep little of what is freed; to be called before pyarrow is loaded.

    Arrow takes from glibc: its own allocator keeps for each thread what others have freed of it, 150 MB of which 20
    were in use. A large block becomes a mapping of its own, gone when it is freed: glibc else raises its idea of large
    to the largest that was freed, up to 32 MB, and what lives long among such blocks keeps their pages, after minutes
    of compactions as much again as is in use. The small blocks of one batch are kept for the next: to give them
    back and to ask anew took a tenth of the time. deltalake's own allocator has its setting from the environment alone
    (compose/embedded/services.py, compose/Dockerfile).
    """
    assert "pyarrow" not in sys.modules
    if _SET is not None:
        _SET(_MMAP_THRESHOLD, _LARGE_BYTES)
        _SET(_TRIM_THRESHOLD, _SPARE_BYTES)
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"


def give_back() -> None:
    """Return freed memory to the system: the allocator keeps it until it is needed again, after a peak most of it."""
    if _TRIM is not None:
        _TRIM(0)
