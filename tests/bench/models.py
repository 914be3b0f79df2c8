"""Fifty models in one scorer process over five streams, against one model on one stream: the cost of a prediction."""

import statistics
from argparse import Namespace
from collections.abc import Sequence

from schemas.specs import StreamSpec
from tests.bench.figures import Figure, Say
from tests.bench.scorer import FEATURES, Bench, boosted, events_of, running_bench, stream_of

ROUNDS = 3  # that count, after one in which the broker still compiles what it will run
MODELS = 10  # on each stream
ONE = stream_of("one", FEATURES)
FIVE = [stream_of(f"five-{number}", FEATURES) for number in range(5)]


async def measure(arguments: Namespace, say: Say) -> list[Figure]:
    """As many predictions of the one, while it is alone, as of the fifty then."""
    async with running_bench(say) as bench:
        graph = boosted(ONE)
        await bench.serve(ONE, {"one": graph})
        one = await _costs(bench, [ONE], 1, arguments.events)
        for stream in FIVE:
            await bench.serve(stream, {f"{stream.stream}-{number}": graph for number in range(MODELS)})
        fifty = await _costs(bench, FIVE, MODELS, arguments.events)
        await bench.all_predicted()
    return [
        Figure(
            what=f"{MODELS * len(FIVE)} models on {len(FIVE)} streams against one",
            unit="µs a prediction",
            ours=statistics.median(fifty),
            ceiling=statistics.median(one),
            most=1.3,
        )
    ]


async def _costs(bench: Bench, streams: Sequence[StreamSpec], models: int, predictions: int) -> list[float]:
    """Microseconds of each prediction, turn by turn."""
    costs = list[float]()
    for number in range(ROUNDS + 1):
        for stream in streams:
            share = predictions // models // len(streams)
            await bench.feed(stream, events_of(stream, bench.fed.get(stream.stream, 0), share))
        costs.append(1e6 / (models * await bench.scored(*streams)))
        bench.say(f"{models * len(streams)} models, turn {number} of {ROUNDS}: {costs[-1]:.1f} µs a prediction")
    return costs[1:]
