"""The chain of the audit log, on its own and against the heads that were said."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from services.registry.domain.audit import BEGINNING, Break, Entry, Row, Verification, seal

ENTRY = Entry(
    at=datetime(2026, 1, 1, 12, tzinfo=UTC),
    actor="ann",
    action="train",
    subject="model flood",
    reason="über",
    event_id="1",
    what={"b": 1e300, "a": [None]},
)


def chain(count: int) -> list[Row]:
    rows: list[Row] = []
    for position in range(1, count + 1):
        rows.append(seal(position, ENTRY, rows[-1].hash if rows else BEGINNING))
    return rows


def verified(rows: list[Row], heads: dict[int, set[str]] | None = None) -> int | None:
    """Where it breaks."""
    seen = Verification(heads=heads or {})
    broken = seen.follow(rows) or seen.end()
    return broken.position if broken else None


def forged(row: Row, **changed: Any) -> Row:
    """Changed, and sealed again as if nothing had happened."""
    changed_row = replace(row, **changed)
    return replace(changed_row, hash=changed_row.sealed())


def test_an_untouched_chain_has_no_break() -> None:
    rows = chain(3)

    assert verified([]) is None
    assert verified(rows) is None
    assert verified(rows, {row.position: {row.hash} for row in rows}) is None


def test_a_row_is_sealed_today_as_it_was_at_first() -> None:
    (row,) = chain(1)

    assert row.hash == "ff9ca3119f0082370cc4ecebeb1e9f06f83a8a1bb959fbf8e436737b28234f5f"


def test_a_changed_a_lost_and_a_resealed_row_are_found() -> None:
    rows = chain(4)

    assert verified([rows[0], replace(rows[1], actor="bob"), *rows[2:]]) == 2
    assert verified([rows[0], forged(rows[1], actor="bob"), *rows[2:]]) == 3
    assert verified([rows[0], *rows[2:]]) == 2


def test_a_number_written_another_way_is_a_change() -> None:
    (row,) = chain(1)

    assert verified([replace(row, what=row.what.replace("1e+300", "1E+300"))]) == 1


def test_only_the_heads_tell_of_a_chain_cut_short_or_sealed_anew_to_its_end() -> None:
    rows = chain(4)
    heads = {row.position: {row.hash} for row in rows}
    last = forged(rows[3], actor="bob")

    assert (verified(rows[:2]), verified(rows[:2], heads)) == (None, 3)
    assert (verified([*rows[:3], last]), verified([*rows[:3], last], heads)) == (None, 4)


def test_a_chain_that_was_cut_and_grew_again_is_found_by_its_two_heads() -> None:
    rows = chain(2)
    grown = forged(rows[1], actor="bob")

    assert verified([rows[0], grown], {2: {rows[1].hash, grown.hash}}) == 2


def test_the_break_says_what_is_wrong() -> None:
    rows = chain(3)
    seen = Verification(heads={3: {rows[2].hash}})

    assert seen.follow(rows[:1]) is None
    assert seen.end() == Break(position=2, why="cut off here; it was said to reach row 3")
    assert seen.follow(rows[2:]) == Break(position=2, why="it is missing; row 3 comes next")
