"""The ceiling of `ingest`, as a child process: confluent-kafka's consumer, and nothing is done with its messages."""

import argparse
import json
import time
from typing import Any

from confluent_kafka import Consumer

_LIMIT_SECONDS = 240


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.consuming", description=__doc__)
    parser.add_argument("--settings", type=json.loads, required=True, help="the client's, as JSON")
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--events", type=int, required=True)
    arguments = parser.parse_args()
    print(_rate(arguments.settings, arguments.topic, arguments.events, arguments.batch))  # noqa: T201  # the result


def _rate(settings: dict[str, Any], topic: str, events: int, batch: int) -> float:
    """Messages a second, from the first to the last of so many."""
    consumer = Consumer(settings | {"group.id": f"bare-{time.monotonic_ns()}"})
    consumer.subscribe([topic])
    first, done = 0.0, 0
    deadline = time.monotonic() + _LIMIT_SECONDS
    while done < events:
        assert time.monotonic() < deadline, f"{done} of {events}"
        messages = consumer.consume(batch, 0.2)
        first = first or (time.perf_counter() if messages else 0.0)
        done += len(messages)
    seconds = time.perf_counter() - first
    consumer.close()
    return done / seconds


if __name__ == "__main__":
    main()
