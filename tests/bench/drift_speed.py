"""Drift of 300,000 rows × 1,000 features against a frozen reference, in one process; evidently on the same data.

Rows come a round's at a time, as served predictions do. Evidently runs in an environment of its own, in one process,
on the leading rows and columns: it is given larger parts while it ends within its time. Seconds are of processor time,
in one thread, so that they are the same on a machine that does other things.
"""

import asyncio
import json
import shutil
import subprocess
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.specs import FloatFeature
from services.monitor.domain.bins import Bins
from services.monitor.domain.course import Course, drift_of
from services.monitor.domain.windows import Window
from shared.reference import binned, feature_reference, with_blocks
from tests.bench.figures import Figure, Say
from tests.scoring_world import ROOT

ROWS, FEATURES, ROUND = 300_000, 1000, 20_000
_DRIFTED = range(7, FEATURES, 100)  # by a tenth of a standard deviation and more
_BOUND_SECONDS = 60.0
_EVIDENTLY = Path(__file__).parent / "evidently"
_PARTS = ((300_000, 10), (30_000, 100), (3_000, 1000))  # rows, columns
_EVIDENTLY_SECONDS = 600.0
Table = NDArray[np.float32]


async def measure(_: Namespace, say: Say) -> list[Figure]:
    """Seconds of freezing the reference, and of a window against it."""
    return await asyncio.to_thread(_measure, say)


def _measure(say: Say) -> list[Figure]:
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{name}.npy" for name in ("reference", "current")]
        for seed, path in enumerate(paths):
            np.save(path, table(seed, drifted=seed == 1))
        reference, current = (np.load(path, mmap_mode="r") for path in paths)
        started = time.process_time()
        bins = frozen(reference)
        froze = time.process_time() - started
        say(f"reference frozen in {froze:.1f} s")
        seconds, found = against(bins, current)
        assert found == {f"x{index}" for index in _DRIFTED}, found
        say(f"window measured in {seconds:.1f} s, {len(found)} features drifted")
        return [
            Figure(
                what=f"drift of {ROWS:,} rows × {FEATURES:,} features", unit="s", ours=seconds, ceiling=_BOUND_SECONDS,
                most=1,
            ),
            Figure(what="freezing their reference, once a version", unit="s", ours=froze),
            *_evidently(paths, bins, current, Path(folder), say),
        ]  # fmt: skip


def table(seed: int, *, drifted: bool) -> Table:
    """Normal columns; the drifted ones are moved by half a standard deviation."""
    found: Table = np.random.default_rng(seed).standard_normal((ROWS, FEATURES), dtype=np.float32)
    if drifted:
        found[:, list(_DRIFTED)] += 0.5
    return found


def frozen(reference: Table) -> Bins:
    """As training freezes it, with the blocks of a window of 20,000."""
    names, number = [f"x{index}" for index in range(reference.shape[1])], FloatFeature(type="float")
    columns = (reference[:, index].astype(np.float64) for index in range(reference.shape[1]))
    features = {
        name: with_blocks(feature_reference(number, column), column, ROUND)
        for name, column in zip(names, columns, strict=True)
    }
    return Bins.of({"features": features, "score": binned(reference[:, 0])}, names)


def against(bins: Bins, current: Table) -> tuple[float, set[str]]:
    """Seconds to count a window round by round and to measure it, and which features have drifted."""
    rows, features = current.shape
    started = time.process_time()
    window = Window(number=0, start={})
    open_ended = np.repeat(np.array([[-np.inf], [np.inf]], np.float32), features, axis=1)
    limits, unseen = np.vstack([open_ended, open_ended]), np.zeros(features, np.int64)
    for start in range(0, rows, ROUND):
        inputs = np.asarray(current[start : start + ROUND])
        times, scores = np.arange(start, start + len(inputs)), inputs[:, 0].astype(np.float64)
        window.add(bins, limits, times, inputs, scores, unseen=unseen, cells=np.empty((0, 2, 0), np.int64))
    courses: dict[str, Course] = {}
    drift = drift_of(bins, window.counts, start=0, false_alarms=0.01, courses=courses)
    seconds = time.process_time() - started
    return seconds, {each.feature for each in drift if each.drifted} - {"score"}


def _evidently(paths: list[Path], bins: Bins, current: Table, folder: Path, say: Say) -> Iterator[Figure]:
    """Its seconds beside ours on the same part."""
    python = _environment(folder, say)
    for rows, columns in _PARTS:
        if (said := _report(python, paths, rows, columns)) is None:
            say(f"evidently, {rows:,} × {columns}: not within {_EVIDENTLY_SECONDS:.0f} s")
            return
        say(f"evidently, {rows:,} × {columns}: {said['seconds']:.1f} s, {said['drifted']:.0f} drifted")
        ours, _ = against(_part(bins, columns), current[:rows, :columns])
        yield Figure(
            what=f"{rows:,} × {columns}, beside evidently", unit="s", ours=ours, ceiling=said["seconds"], most=1
        )


def _part(bins: Bins, columns: int) -> Bins:
    """Of the leading features, and the score."""
    kept = [*range(columns), len(bins.columns) - 1]
    counts = np.concatenate([bins.reference[bins.slices[index]] for index in kept])
    return Bins(columns=tuple(bins.columns[index] for index in kept), reference=counts)


def _environment(folder: Path, say: Say) -> Path:
    say("evidently's environment is made")
    uv, where = shutil.which("uv") or str(ROOT / ".uv/bin/uv"), folder / "evidently"
    subprocess.run([uv, "venv", "-q", "--python", "3.11", str(where)], check=True)
    lock = str(_EVIDENTLY / "requirements.lock")
    command = [uv, "pip", "sync", "-q", "--require-hashes", "--python", str(where / "bin/python"), lock]
    subprocess.run(command, check=True)
    return where / "bin/python"


def _report(python: Path, paths: list[Path], rows: int, columns: int) -> dict[str, Any] | None:
    command = [str(python), "-W", "ignore", str(_EVIDENTLY / "report.py"), *map(str, paths), str(rows), str(columns)]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_EVIDENTLY_SECONDS)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        raise RuntimeError(f"evidently: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout))
