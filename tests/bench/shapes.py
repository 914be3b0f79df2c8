"""Wide events: 500 features, and the workload of Crayfish, 784 floats into a small feed-forward net.

Source: Horchidan et al., Crayfish: Navigating the Labyrinth of Machine Learning Inference in Stream Processing Systems,
EDBT 2024: an image of 28 × 28, three hidden layers of 32, ten classes; the best system on one thread scores 4,884 a
second. Of one core is told what all threads of the scorer do in a second of processor time.
"""

import asyncio
from argparse import Namespace
from datetime import timedelta
from itertools import pairwise

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from schemas.specs import Label
from tests.bench.bare import Bare
from tests.bench.figures import Figure, Say
from tests.bench.scorer import boosted, events_of, running_bench, stream_of
from tests.bench.throughput import record_bytes

DIGITS = tuple("0123456789")
WIDE = stream_of("wide", [f"x{number}" for number in range(500)])
IMAGES = stream_of("crayfish", [f"x{number}" for number in range(784)]).model_copy(
    update={"label": Label(type="category", values=DIGITS, delay=timedelta(hours=1))}
)
_LAYERS = (784, 32, 32, 32, 10)


async def measure(arguments: Namespace, say: Say) -> list[Figure]:
    """Events a second, beside a bare loop that reads the same and writes constant records."""
    count = max(5000, arguments.events // 20)
    figures = []
    async with running_bench(say) as bench:
        for stream, graph, what in (
            (WIDE, boosted(WIDE), "500 floats, 100 iterations of boosting"),
            (IMAGES, feed_forward(), "Crayfish: 784 floats, feed-forward net"),
        ):
            await bench.serve(stream, {stream.stream: graph})
            events = list(events_of(stream, 0, count))
            await bench.feed(stream, events)
            bare = Bare(stream.stream, value_bytes=record_bytes(stream, events[:1000]))
            ceiling = await asyncio.to_thread(bench.rate, bare.group, stream)
            bare.stop()
            ours = await bench.scored(stream)
            say(f"{what}: {ours:,.0f} of {ceiling:,.0f} events/s")
            figures.append(Figure(what=what, unit="events/s", ours=ours, ceiling=ceiling))
            figures.append(
                Figure(what=f"{what}, a second of one core", unit="events", ours=bench.took[-1].events_a_second)
            )
        await bench.all_predicted()
    return figures


def feed_forward() -> bytes:
    """784 → 32 → 32 → 32 → 10 with ReLU between and softmax at the end, weights at random, as ONNX."""
    rng, nodes, weights, value = np.random.default_rng(0), [], [], "input"
    for number, (wide, narrow) in enumerate(pairwise(_LAYERS)):
        names = [f"w{number}", f"b{number}"]
        arrays = rng.normal(size=(wide, narrow)) / np.sqrt(wide), np.zeros(narrow)
        weights += [numpy_helper.from_array(a.astype(np.float32), n) for a, n in zip(arrays, names, strict=True)]
        nodes.append(helper.make_node("Gemm", [value, *names], [f"h{number}"]))
        last = number == len(_LAYERS) - 2
        value = "probabilities" if last else f"r{number}"
        nodes.append(helper.make_node("Softmax" if last else "Relu", [f"h{number}"], [value]))
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, [None, _LAYERS[0]])
    said = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, _LAYERS[-1]])
    graph = helper.make_graph(nodes, "feed-forward", [given], [said], weights)
    model: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    ).SerializeToString()
    return model
