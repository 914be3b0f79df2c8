"""The chain of the audit log: each row is sealed with the hash of the one before, so no row can change unseen.

Whoever can write the rows could seal them all anew, or cut off the last. So the heads of the chain are said on the
bus, too, and the chain is held against them.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
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


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row as it is stored: `at` in ISO 8601, and `what` as the very text that was hashed."""

    position: int
    at: str
    actor: str
    action: str
    subject: str
    reason: str
    event_id: str
    what: str
    previous_hash: str
    hash: str = ""

    def sealed(self) -> str:
        """The hash that it must have: SHA-256, hexadecimal, over the canonical row and the hash of the row before."""
        row = {name: value for name, value in vars(self).items() if name not in {"hash", "previous_hash"}}
        return hashlib.sha256(canonical(row | {"previous": self.previous_hash}).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Break:
    """The first row that is not as it was sealed, or not there, and why."""

    position: int
    why: str


def canonical(what: Mapping[str, Any]) -> str:
    """The one way a value is written: sorted keys, no spaces.

    >>> canonical({"b": 1, "a": [None]})
    '{"a":[null],"b":1}'
    """
    return json.dumps(what, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def seal(position: int, entry: Entry, previous: str) -> Row:
    """The entry as a row behind the one whose hash is `previous`."""
    about = {name: getattr(entry, name) for name in ("actor", "action", "subject", "reason", "event_id")}
    at = entry.at.astimezone(UTC).isoformat(timespec="microseconds")
    row = Row(position=position, at=at, what=canonical(entry.what), previous_hash=previous, **about)
    return Row(**vars(row) | {"hash": row.sealed()})


@dataclass(kw_only=True)
class Verification:
    """Goes along the chain, holding it against the heads that were said: hashes by position."""

    heads: Mapping[int, AbstractSet[str]] = field(default_factory=dict)
    position: int = 0
    hash: str = BEGINNING

    def follow(self, rows: Iterable[Row]) -> Break | None:
        """Take the next rows; the first break, or None when all are in place."""
        for row in rows:
            if why := self._wrong(row):
                return Break(position=self.position + 1, why=why)
            self.position, self.hash = row.position, row.hash
        return None

    def end(self) -> Break | None:
        """There are no more rows: is one missing that was said?"""
        last = max(self.heads, default=0)
        if last <= self.position:
            return None
        return Break(position=self.position + 1, why=f"cut off here; it was said to reach row {last}")

    def _wrong(self, row: Row) -> str | None:
        if row.position != self.position + 1:
            return f"it is missing; row {row.position} comes next"
        if row.previous_hash != self.hash:
            return "it does not follow from the row before"
        if row.sealed() != row.hash:
            return "it is not what was sealed"
        if self.heads.get(row.position, {row.hash}) != {row.hash}:
            return "it is sealed otherwise than was said"
        return None
