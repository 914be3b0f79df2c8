"""`python -m tests.bench.commits`: what a small commit to a table on S3 costs, from the first to the two thousandth.

Each commit is made, and tidied up after, as the ingestor does it. Milliseconds, of commit and compaction; the records
have been read before.
"""

import asyncio
import json
import os
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

from compose.embedded.stack import Stack
from services.ingestor.domain.blocks import Taken, block_of
from services.ingestor.domain.sources import Source
from services.ingestor.intake import Intake
from services.ingestor.parking import Parking
from services.ingestor.settings import Settings
from shared.objects import Objects
from shared.settings import KafkaSettings, S3Settings
from shared.tables import Tables
from tests.bench.figures import Figure
from tests.bench.scorer import FEATURES, STREAM

Say = Callable[[str], None]
COMMITS = 2000
ROWS = 20  # of one commit
EDGE = 100  # commits at either end whose costs are compared


async def measure(_: Namespace, say: Say) -> list[Figure]:
    """Mean cost of the last hundred commits beside that of the first hundred."""
    return await _measured(COMMITS, say)


async def _measured(commits: int, say: Say) -> list[Figure]:
    with TemporaryDirectory(prefix="modelbus-bench-") as folder:
        async with Stack(Path(folder), parts=frozenset({"s3"})) as stack:
            os.environ.update(stack.environment)
            await Objects(S3Settings()).ensure_bucket()  # from the environment
            costs = await asyncio.to_thread(_costs, commits, say)
    what = f"a small commit on S3, the last {EDGE} of {len(costs):,} against the first"
    return [Figure(what=what, unit="ms", ours=mean(costs[-EDGE:]), ceiling=mean(costs[:EDGE]), most=1.5)]


def _costs(commits: int, say: Say) -> list[float]:
    parking = Parking(KafkaSettings(bootstrap_servers="127.0.0.1:1"))  # nothing is refused here
    source = Source(kind="data", owner="bench", spec=STREAM)
    intake = Intake(source, tables=Tables(S3Settings()), parking=parking, settings=Settings())
    intake.place([0])
    costs = []
    for number in range(commits):
        intake.add(block_of([_record(offset) for offset in range(number * ROWS, (number + 1) * ROWS)]), now=0)
        intake.cut()
        began = time.perf_counter()
        assert intake.commit() == set()
        intake.tidy()
        costs.append((time.perf_counter() - began) * 1000)
        if not (number + 1) % EDGE:
            say(f"{number + 1} commits, mean {mean(costs[-EDGE:]):.1f} ms, worst {max(costs[-EDGE:]):.0f} ms")
    return costs


def _record(offset: int) -> Taken:
    entity = f"machine-{offset % 40}"
    value: dict[str, Any] = {"id": f"e{offset}", "entity": entity, "time": "2013-01-01T00:00:00Z"}
    value |= {"features": {name: offset / (index + 1) for index, name in enumerate(FEATURES)}}
    return Taken(partition=0, offset=offset, timestamp_ms=0, key=entity.encode(), value=json.dumps(value).encode())


if __name__ == "__main__":
    parser = ArgumentParser(prog="python -m tests.bench.commits", description=__doc__)
    parser.add_argument("--commits", type=int, default=COMMITS)
    print(asyncio.run(_measured(parser.parse_args().commits, print)))  # noqa: T201  # the result
