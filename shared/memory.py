"""What is held of the machine's memory, after it has been used."""

import ctypes

import pyarrow as pa

GIVE_BACK_SECONDS = 10.0  # to look takes some milliseconds
_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone


def give_back() -> None:
    """Return freed memory to the system: allocators keep it until they need it again, after a peak most of it."""
    pa.default_memory_pool().release_unused()
    if _TRIM is not None:
        _TRIM(0)
