"""A letter must fit its topic: a record that came compressed may be larger than anything that can be written back."""

import hashlib
from typing import NamedTuple

from schemas.topics import DEAD_LETTER_ROOM_BYTES, MAX_RECORD_BYTES
from services.ingestor.domain.blocks import Taken
from shared.dead_letters import DeadLetter, Headers

LARGEST_BYTES = MAX_RECORD_BYTES + DEAD_LETTER_ROOM_BYTES - 1024  # what frames a record and its batch is below 1 KiB
_OURS_BYTES = 16 * 1024  # more than the headers that a letter adds, which so are seldom counted
_FRAME_BYTES = 16  # of a header: two lengths


class Body(NamedTuple):
    """What is written to the dead letters."""

    key: bytes | None
    value: bytes | None
    headers: Headers


def body_of(letter: DeadLetter, taken: Taken) -> Body:
    """The record untouched where it fits uncompressed; otherwise what fits of headers, then key, then value.

    A cut letter says the value's size as it was sent (`dlq-truncated`) and its SHA-256 (`dlq-sha256`); the record
    itself stands in its own topic for as long as that keeps it.
    """
    whole, value = letter.headers(), taken.value or b""
    room = LARGEST_BYTES - len(taken.key or b"") - len(value)
    if _size(letter.original_headers) <= room - _OURS_BYTES or _size(whole) <= room:
        return Body(taken.key, taken.value, whole)
    cut = [
        ("dlq-truncated", str(len(value)).encode()),
        ("dlq-sha256", hashlib.sha256(value).hexdigest().encode()),
    ]
    room = LARGEST_BYTES - _size(letter._replace(original_headers=()).headers()) - _size(cut)
    kept = []
    for header in letter.original_headers:
        if (size := _size([header])) <= room:
            kept.append(header)
            room -= size
    key = None if taken.key is None else taken.key[:room]
    left = None if taken.value is None else taken.value[: room - len(key or b"")]
    return Body(key, left, [*letter._replace(original_headers=kept).headers(), *cut])


def _size(headers: Headers) -> int:
    return sum([_FRAME_BYTES + len(name.encode()) + len(value or b"") for name, value in headers])
