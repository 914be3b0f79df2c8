"""The chain of the audit log: each row is sealed with the hash of the one before, so no row can change unseen."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

BEGINNING: Final = "0" * 64


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One change: who did what to which subject (`stream flights`, `flight-delay:3`), why, and by which event."""

    at: datetime
    actor: str
    action: str
    subject: str
    reason: str
    event_id: str
    what: Mapping[str, Any]


def canonical(what: Mapping[str, Any]) -> str:
    """The one way a value is written: sorted keys, no spaces.

    >>> canonical({"b": 1, "a": [None]})
    '{"a":[null],"b":1}'
    """
    return json.dumps(what, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def seal(position: int, entry: Entry, previous: str) -> str:
    """SHA-256, hexadecimal, over the canonical row and the hash of the row before."""
    row = {
        "position": position,
        "at": entry.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "reason": entry.reason,
        "event_id": entry.event_id,
        "what": canonical(entry.what),
        "previous": previous,
    }
    return hashlib.sha256(canonical(row).encode()).hexdigest()


def first_break(
    rows: Iterable[tuple[int, Entry, str, str]], *, previous: str = BEGINNING, position: int = 0
) -> int | None:
    """The first position where (position, entry, previous hash, hash) do not chain; None when all do."""
    for number, entry, before, sealed in rows:
        position += 1
        if number != position or before != previous or seal(number, entry, before) != sealed:
            return position
        previous = sealed
    return None
