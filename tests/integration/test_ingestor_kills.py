"""Exactly once: whatever is killed, and whoever else commits to the same tables."""

import json
import random
import signal
import subprocess
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import pytest

from compose.embedded.stack import Stack
from schemas.specs import StreamSpec
from shared.settings import S3Settings
from shared.tables import Tables
from tests.integration import ingestor_parts as parts

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.timeout(400)]

BAD_EVERY = 400
RECORDS_PER_BURST = 25
OFTEN = {"MODELBUS_INGESTOR_COMMIT_SECONDS": "0.05", "MODELBUS_INGESTOR_COMPACT_FILES": "12"}
FATES = ("killed", "frozen", "killed", "frozen")


async def test_rows_are_the_accepted_records_though_ingestors_are_killed_or_frozen_and_come_back(
    stack: Stack, tmp_path: Path
) -> None:
    spec = await parts.apply(parts.stream_spec(partitions=4))
    rng = random.Random(20130101)

    with ExitStack() as stop, _feeding(spec) as sent:
        life = _Life(stop, tmp_path)
        for fate in FATES:
            _until_next_version(spec)
            life.wait(rng.uniform(0, 1))  # in the middle of whatever it does then
            life.signal(signal.SIGKILL if fate == "killed" else signal.SIGSTOP)
            life, before = _Life(stop, tmp_path), life
            _until_next_version(spec)
            before.signal(signal.SIGCONT)  # a zombie still holds rows, and takes itself for their owner
            before.wait(1)
            before.signal(signal.SIGKILL)
        sent.stop()
        ends = parts.ends(f"data.{spec.stream}", spec.partitions)
        parts.until(lambda: parts.holds("data", spec.stream, ends))
        good = len(sent.values) - len(_bad(sent.values))
        parts.until(lambda: _said_rows(f"data/{spec.stream}") == good or None)

    _check_rows(spec, sent.values)
    _check_letters(spec, sent.values)
    _check_announcements(spec, ends)


async def test_rows_are_the_accepted_records_while_two_and_three_ingestors_come_and_go(
    stack: Stack, tmp_path: Path
) -> None:
    spec = await parts.apply(parts.stream_spec(partitions=6))
    rng = random.Random(20131231)

    with ExitStack() as stop, _feeding(spec) as sent:
        lives = [_Life(stop, tmp_path) for _ in range(2)]
        for fate in (None, "told to stop", None, "killed", None):
            _until_next_version(spec, 2)
            if fate is None:
                lives.append(_Life(stop, tmp_path))  # a rebalance takes partitions away from those that write
            else:
                gone = lives.pop(rng.randrange(len(lives)))
                gone.signal(signal.SIGKILL if fate == "killed" else signal.SIGTERM)
            lives[0].wait(rng.uniform(1, 3))
        lives.append(_Life(stop, tmp_path))
        _until_next_version(spec, 2)
        sent.stop()
        ends = parts.ends(f"data.{spec.stream}", spec.partitions)
        parts.until(lambda: parts.holds("data", spec.stream, ends))
        good = len(sent.values) - len(_bad(sent.values))
        parts.until(lambda: _said_rows(f"data/{spec.stream}") == good or None)
        assert all(life.alive() for life in lives)

    _check_rows(spec, sent.values)
    _check_letters(spec, sent.values)
    _check_announcements(spec, ends)


class _Feed(threading.Thread):
    """Writes records at a steady pace until it is stopped; each 400th breaks the contract. `values` are by id."""

    def __init__(self, topic: str) -> None:
        super().__init__(name="feed")
        self.values: dict[str, bytes] = {}
        self._topic = topic
        self._stopped = threading.Event()

    def run(self) -> None:
        writer = parts.producer()
        while not self._stopped.wait(0.05):
            for number in range(len(self.values), len(self.values) + RECORDS_PER_BURST):
                record = parts.data(number)
                if number % BAD_EVERY == 0:
                    record["features"] = {"distance": "far"}
                self.values[record["id"]] = json.dumps(record).encode()
                writer.produce(self._topic, key=record["entity"], value=self.values[record["id"]])
        assert writer.flush(60) == 0

    def stop(self) -> None:
        self._stopped.set()
        self.join(70)


@contextmanager
def _feeding(spec: StreamSpec) -> Iterator[_Feed]:
    feed = _Feed(f"data.{spec.stream}")
    feed.start()
    try:
        yield feed
    finally:
        feed.stop()


class _Life:
    """One process of the ingestor."""

    def __init__(self, stop: ExitStack, folder: Path) -> None:
        self._process = parts.spawn(folder / f"{uuid.uuid4().hex}.log", **OFTEN)
        stop.callback(self._process.wait)
        stop.callback(self._process.kill)

    def wait(self, seconds: float) -> None:
        """For so long, or until it ends."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def alive(self) -> bool:
        return self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)  # to a process that is gone: nothing


def _until_next_version(spec: StreamSpec, versions: int = 1) -> None:
    before = _version(spec)
    parts.until(lambda: _version(spec) >= before + versions)


def _bad(sent: dict[str, bytes]) -> set[str]:
    return set(list(sent)[::BAD_EVERY])


def _version(spec: StreamSpec) -> int:
    table = parts.newest("data", spec.stream)
    return table.version() if table else -1


def _said_rows(table: str) -> int:
    return sum(event.rows_added for event in parts.committed(table).values())


def _check_rows(spec: StreamSpec, sent: dict[str, bytes]) -> None:
    rows = Tables(S3Settings()).read("data", spec.stream, None, ["id", "partition", "offset"])

    assert Counter(rows["id"].to_pylist()) == Counter(sent.keys() - _bad(sent))
    places = set(zip(rows["partition"].to_pylist(), rows["offset"].to_pylist(), strict=True))
    assert len(places) == rows.num_rows


def _check_letters(spec: StreamSpec, sent: dict[str, bytes]) -> None:
    letters = parts.letters(f"data.{spec.stream}").values()

    assert {letter.value() for letter in letters} == {sent[name] for name in _bad(sent)}


def _check_announcements(spec: StreamSpec, ends: dict[int, int]) -> None:
    """Each id says one thing, versions rise, offsets never go back, and the last one is the whole."""
    said = parts.committed(f"data/{spec.stream}")
    events = list(said.values())

    assert list(said) == [f"data/{spec.stream}@{event.version}" for event in events]
    assert len({event.version for event in events}) == len(events)
    for before, after in pairwise(events):
        assert after.rows_total == before.rows_total + after.rows_added
        assert all(after.offsets[p] >= offset for p, offset in before.offsets.items())
    assert events[-1].offsets == ends
