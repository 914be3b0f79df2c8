"""Fifty models in one scorer process over five streams, against one model on one stream: the cost of a prediction."""

import statistics
from argparse import Namespace

from tests.bench.figures import Figure, Say
from tests.bench.scorer import FEATURES, boosted, events_of, running_bench, stream_of

ROUNDS = 3
MODELS = 10  # on each stream
ONE = stream_of("one", FEATURES)
FIVE = [stream_of(f"five-{number}", FEATURES) for number in range(5)]


async def measure(arguments: Namespace, say: Say) -> list[Figure]:
    """As many predictions of the one as of the fifty, in turns."""
    predictions = arguments.events
    one, fifty = [], []
    async with running_bench(say) as bench:
        graph = boosted(ONE)
        await bench.serve(ONE, {"one": graph})
        for stream in FIVE:
            await bench.serve(stream, {f"{stream.stream}-{number}": graph for number in range(MODELS)})
        for number in range(ROUNDS):
            await bench.feed(ONE, events_of(ONE, bench.fed.get("one", 0), predictions))
            one.append(1e6 / await bench.scored(ONE))
            for stream in FIVE:
                share = predictions // MODELS // len(FIVE)
                await bench.feed(stream, events_of(stream, bench.fed.get(stream.stream, 0), share))
            fifty.append(1e6 / (MODELS * await bench.scored(*FIVE)))
            say(f"turn {number + 1} of {ROUNDS}: {fifty[-1]:.1f} against {one[-1]:.1f} µs a prediction")
    return [
        Figure(
            what=f"{MODELS * len(FIVE)} models on {len(FIVE)} streams against one",
            unit="µs a prediction",
            ours=statistics.median(fifty),
            ceiling=statistics.median(one),
            most=1.3,
        )
    ]
