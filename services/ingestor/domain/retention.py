"""What of a table may go: data files and log entries that no version to be kept needs to be opened and read."""

import re
from collections.abc import Collection, Mapping
from datetime import datetime
from itertools import chain

_LOG = "_delta_log/"
_ENTRY = re.compile(rf"{_LOG}(\d{{20}})\.(json|checkpoint\.parquet)")


def oldest_kept(stored: Mapping[str, datetime], cutoff: datetime) -> int | None:
    """The version that was the newest at `cutoff`: it, and all that came later, are kept. None when all are younger.

    >>> from datetime import UTC
    >>> day = [datetime(2013, 1, number, tzinfo=UTC) for number in (1, 2, 3)]
    >>> oldest_kept({f"_delta_log/{version:020d}.json": time for version, time in enumerate(day)}, day[2])
    1
    """
    entries = [(version, time) for name, time in stored.items() for version in _version(name, "json")]
    return max((version for version, time in entries if time < cutoff), default=None)


def idle_entries(names: Collection[str], kept: Collection[int], since: int) -> set[str]:
    """Log entries that neither the versions `kept` nor those from `since` on need.

    A version is opened from the last checkpoint that is not above it and the commits from there on, or from the first
    commit. Whatever is no commit and no whole checkpoint stays.
    """
    checkpoints = sorted(chain.from_iterable(_version(name, "checkpoint.parquet") for name in names))
    spans = [(_start(checkpoints, version), version) for version in kept]
    floor = _start(checkpoints, since)
    return {
        name
        for name in names
        for version in _version(name)
        if version < floor and not any(start <= version <= end for start, end in spans)
    }


def idle_files(stored: Mapping[str, datetime], used: Collection[str], cutoff: datetime) -> set[str]:
    """Data files that no kept version uses; a young one may belong to a commit that is being made."""
    return {
        name
        for name, time in stored.items()
        if not name.startswith(_LOG) and name.endswith(".parquet") and time < cutoff and name not in used
    }


def _version(name: str, kind: str | None = None) -> list[int]:
    """Of a log entry; none of anything else."""
    found = _ENTRY.fullmatch(name)
    return [int(found[1])] if found and kind in {None, found[2]} else []


def _start(checkpoints: Collection[int], version: int) -> int:
    return max((checkpoint for checkpoint in checkpoints if checkpoint <= version), default=0)
