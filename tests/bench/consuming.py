"""The ceiling of `ingest`, as a child process: an ingestor that does nothing with what its client hands it.

It has imported what an ingestor imports, and Python looks for cycles as in any process; `--seldom`: as in an ingestor.
"""

import argparse
import time

from confluent_kafka import Consumer

from services.ingestor import app, stream  # noqa: F401  # it imports the rest
from services.ingestor.messages import BATCH, client_settings
from shared.settings import KafkaSettings

_LIMIT_SECONDS = 240


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.consuming", description=__doc__)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--seldom", action="store_true")
    arguments = parser.parse_args()
    if arguments.seldom:
        stream.look_seldom_for_cycles()
    print(_rate(arguments.topic, arguments.events))  # noqa: T201  # the result


def _rate(topic: str, events: int) -> float:
    """Messages a second, from the first to the last of so many."""
    consumer = Consumer(client_settings(KafkaSettings()) | {"group.id": f"bare-{time.monotonic_ns()}"})
    consumer.subscribe([topic])
    first, done = 0.0, 0
    deadline = time.monotonic() + _LIMIT_SECONDS
    while done < events:
        assert time.monotonic() < deadline, f"{done} of {events}"
        messages = consumer.consume(BATCH, 0.2)
        first = first or (time.perf_counter() if messages else 0.0)
        done += len(messages)
    seconds = time.perf_counter() - first
    consumer.close()
    return done / seconds


if __name__ == "__main__":
    main()
