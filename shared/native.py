"""What is written in C for speed alone, in the files beside this one that `make` compiles into one library.

Each has a slower twin that says the same, bit by bit: a property that the tests check. Without the library the twins
do all the work.
"""

import ctypes
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

log = logging.getLogger(__name__)
Bound = TypeVar("Bound")
_LIBRARY = Path(__file__).with_name("libnative.so")


class Native:
    """The library. What is short is called through `keeping` Python's lock: to get it back takes longer."""

    def __init__(self) -> None:
        self.freeing, self.keeping = ctypes.CDLL(str(_LIBRARY)), ctypes.PyDLL(str(_LIBRARY))


def place_of(array: Any) -> int:
    """Where a NumPy array begins, writable and in C order; in a third of the time of its `ctypes.data`."""
    return ctypes.addressof(ctypes.c_char.from_buffer(array)) if array.size else 0


def check_layout(size: Callable[[], int], ours: type[ctypes.Structure]) -> None:
    """Raises OSError where C lays a structure out in another way."""
    if size() != ctypes.sizeof(ours):
        raise OSError(f"{ours.__module__}: expected a structure of {ctypes.sizeof(ours)} bytes, got {size()}")


@cache
def native(bind: Callable[[Native], Bound]) -> Bound | None:
    """What a module binds of the library as it was compiled for this code; None where it was not."""
    try:
        newest = max((source.stat().st_mtime for source in _LIBRARY.parent.glob("*.c")), default=0)
        if _LIBRARY.stat().st_mtime < newest:
            log.warning("%s is of other sources, so scorers and ingestors are slower; `make` compiles it", _LIBRARY)
            return None
        return bind(Native())
    except (OSError, AttributeError) as error:
        log.warning("%s is not compiled, so scorers and ingestors are slower: %s", _LIBRARY, error)
        return None
