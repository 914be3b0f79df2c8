"""Bad models of each kind, really trained: each is stopped by the gate that should stop it, in words."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from compose.embedded.stack import Stack
from schemas.events.parts import Candidate, Cut, Gate
from schemas.specs import Gates, ModelSpec, StreamSpec
from services.trainer.domain.graphs import graph_of
from services.trainer.domain.pipelines import floor_thresholds
from services.validator.jobs import judgement
from shared import scikit
from shared.dataset import read_dataset
from shared.matrix import Projection
from shared.settings import S3Settings
from shared.tables import Tables
from tests.integration import validator_parts as parts
from tests.unit import malicious

ROWS = 5_000
GATES: dict[str, Any] = {
    "roc_auc": {"min": 0.65, "not_worse_than_champion": 0.01},
    "calibration_error": {"max": 0.08},
    "slices": {"max_gap": 0.12},
    "weak_spots": {"max_excess": 0.1, "min_rows": 150},
    "fairness": {"demographic_parity": 0.3, "equalized_odds": 0.3},
    "representation": {"min_share": 0.05, "max_label_gap": 0.3},
    "leakage": {"max_alone": 0.97},
    "robustness": {"noise": 0.02, "missing": 0.05, "unseen": 0.1, "extremes": 0.01, "max_drop": 0.1},
    "invariant": {"noise": 0.1},
    "latency_p99_ms": 5,
    "size_mb": 2,
}
RISING = {"x": "increasing"}
PLAIN = ("x", "noise", "kind", "flag")


@dataclass(frozen=True)
class World:
    """A stream, what it holds, and a good candidate on four of its features, which is champion too."""

    stream: StreamSpec
    cut: Cut
    tables: Tables
    good: Candidate

    def judged(self, candidate: Candidate, champion: Candidate | None = None) -> dict[str, Gate]:
        release = parts.release(champion) if champion else None
        with threadpool_limits(1):
            found = judgement(candidate, release, parts.store(), self.tables)
        return {gate.name: gate for gate in found.gates}

    def rows(self, spec: ModelSpec) -> tuple[Any, Any]:
        """What a candidate may learn from: inputs and labels of the first 85 %."""
        dataset = read_dataset(self.tables, spec, self.stream, self.cut)
        matrix = Projection(self.good.signature, self.stream)(dataset.matrix)
        learned = int(len(dataset) * 0.85)
        return matrix[:learned], dataset.labels[:learned].astype(int)

    def planted(self, *steps: Any, **gates: Any) -> Candidate:
        """The good candidate's run with another fitted model in its place, and other gates besides."""
        pipeline = Pipeline([(str(place), step) for place, step in enumerate(steps)])
        floor_thresholds(steps[-1])
        onnx, skops = graph_of(pipeline, self.good.signature), scikit.dumps(pipeline)
        store, asked = parts.store(), Gates.model_validate(GATES | gates)
        spec = self.good.spec.model_copy(update={"gates": asked})
        update = {"spec": spec, "onnx": store.put_now(onnx), "skops": store.put_now(skops)}
        return parts.resealed(self.good.model_copy(update=update))


def stream_spec() -> StreamSpec:
    return parts.stream_spec(
        ticket={"type": "float"},  # its last digits say something
        settled={"type": "float"},  # known only after the answer
    )


def fill(tables: Tables, stream: StreamSpec) -> Cut:
    random = np.random.default_rng(5)
    x, kind, ticket = random.normal(size=ROWS), random.integers(0, 3, ROWS), random.random(ROWS)
    odd = np.floor(ticket * 40) % 2
    label = random.random(ROWS) < 1 / (1 + np.exp(-2 * x - 0.3 * (kind == 1) - 3 * (odd - 0.5)))
    columns: Mapping[str, Any] = {
        "x": x,
        "noise": random.normal(size=ROWS),
        "kind": ["abc"[code] for code in kind],
        "flag": random.random(ROWS) < 0.5,
        "ticket": ticket,
        "settled": np.where(label, 80.0, 20.0) + random.normal(size=ROWS),
    }
    return parts.write(tables, stream, columns, label)


@pytest.fixture(scope="module")
async def world(stack: Stack) -> World:
    await parts.store().ensure_bucket()
    stream, tables = stream_spec(), Tables(S3Settings())
    cut = fill(tables, stream)
    good = parts.trained(parts.model_spec(stream, *PLAIN, gates=GATES), stream, cut)
    return World(stream, cut, tables, good)


def boosted(**parameters: Any) -> HistGradientBoostingClassifier:
    usual = {"max_iter": 60, "early_stopping": False, "random_state": 7, "min_samples_leaf": 40}
    return HistGradientBoostingClassifier(**usual | parameters)


def stopped(gates: Mapping[str, Gate], name: str, words: str) -> set[str]:
    """All gates that stopped it; this one must, for this reason."""
    assert gates[name].verdict == "failed", gates[name]
    assert re.search(words, gates[name].reason), gates[name].reason
    return {each for each, gate in gates.items() if gate.verdict == "failed"}


async def test_a_good_model_passes_every_gate(world: World) -> None:
    gates = world.judged(world.good, champion=world.good)

    assert {name: gate.reason for name, gate in gates.items() if gate.verdict == "failed"} == {}
    assert {name for name, gate in gates.items() if gate.verdict == "passed"} >= set(GATES) - {"fairness"}
    assert gates["roc_auc_vs_champion"].verdict == "passed"


async def test_a_model_that_is_worse_than_the_champion(world: World) -> None:
    features = [*PLAIN, "ticket"]
    better = parts.trained(parts.model_spec(world.stream, *features, gates=GATES), world.stream, world.cut)

    gates = world.judged(world.good, champion=better)

    assert stopped(gates, "roc_auc_vs_champion", r"the champion's 0\.8\d+ on the same") == {"roc_auc_vs_champion"}


async def test_a_model_that_is_good_on_average_and_bad_on_a_slice(world: World) -> None:
    inputs, labels = world.rows(world.good.spec)
    of_b = inputs[:, 2] == 1
    labels[of_b] = np.random.default_rng(1).permutation(labels[of_b])

    gates = world.judged(world.planted(boosted().fit(inputs, labels)))

    assert gates["roc_auc"].verdict == "passed"
    stopped(gates, "slices", r"roc_auc of kind=b \(\d+ rows\) is worse than of all rows by")


async def test_a_model_that_is_bad_where_nobody_thought_of_looking(world: World) -> None:
    inputs, labels = world.rows(world.good.spec)
    forgotten = (inputs[:, 3] == 1) & (inputs[:, 0] > 0.7)
    labels[forgotten] = np.random.default_rng(1).random(int(forgotten.sum())) < 0.1

    gates = world.judged(world.planted(boosted().fit(inputs, labels)))

    assert gates["slices"].verdict == "passed"
    stopped(gates, "weak_spots", r"of all parts that a search looked at it is weakest for x from 0\.\d+.* \(\d+ rows\)")


async def test_a_model_that_is_unfair(world: World) -> None:
    inputs, labels = world.rows(world.good.spec)
    favoured = (inputs[:, 2] == 0) & (np.random.default_rng(1).random(len(labels)) < 0.8)

    gates = world.judged(world.planted(boosted().fit(inputs, labels | favoured)))

    stopped(gates, "fairness_demographic_parity", r"answered with true is [01]\.\d+ for kind=a and 0\.\d+ for [bc]")
    stopped(gates, "fairness_equalized_odds", r"kind=a")


async def test_a_model_that_learned_from_unfair_labels_and_hardly_from_some(world: World) -> None:
    stream, random = stream_spec(), np.random.default_rng(2)
    kind = random.choice(3, ROWS, p=[0.49, 0.49, 0.02])
    x, label = random.normal(size=ROWS), random.random(ROWS) < np.array([0.75, 0.3, 0.5])[kind]
    columns = {"x": x, "noise": x, "kind": ["abc"[code] for code in kind], "flag": x > 0, "ticket": x, "settled": x}
    cut = parts.write(world.tables, stream, columns, label)

    gates = world.judged(parts.trained(parts.model_spec(stream, *PLAIN, gates=GATES), stream, cut))

    stopped(gates, "representation", r"kind=c has \d+ of the \d+ rows that were learned from \([12]\.\d+%\)")
    stopped(gates, "label_gap", r"0\.7\d+ for a, 0\.\d+ for [bc]")


async def test_a_model_that_is_not_calibrated(world: World) -> None:
    inputs, labels = world.rows(world.good.spec)
    kept = (labels == 1) | (np.random.default_rng(1).random(len(labels)) < 0.15)

    gates = world.judged(world.planted(boosted().fit(inputs[kept], labels[kept])))

    assert gates["roc_auc"].verdict == "passed"
    stopped(gates, "calibration_error", r"probabilities miss the observed shares by 0\.\d+ on average")


async def test_a_model_that_knows_the_answer(world: World) -> None:
    spec = parts.model_spec(world.stream, *PLAIN, "settled", gates=GATES)

    gates = world.judged(parts.trained(spec, world.stream, world.cut))

    stopped(gates, "leakage", r"settled alone reaches a roc_auc of (0\.99|1\.0).*known only after the answer")


async def test_a_model_that_a_little_noise_breaks(world: World) -> None:
    wide = {name: gate for name, gate in GATES.items() if name != "weak_spots"}
    spec = parts.model_spec(world.stream, *PLAIN, "ticket", gates=wide | {"robustness": {"max_drop": 0.03}})

    gates = world.judged(parts.trained(spec, world.stream, world.cut))

    assert stopped(gates, "robustness", r"gets worse by 0\.\d+ under noise of 2\.0% of the spread") == {"robustness"}


async def test_a_model_that_falls_where_it_should_rise(world: World) -> None:
    inputs, labels = world.rows(world.good.spec)
    linear = world.planted(SimpleImputer().fit(inputs), LogisticRegression().fit(inputs, labels), monotonic=RISING)
    labels[(inputs[:, 0] > 1.0) & (inputs[:, 0] < 1.4)] = 0

    gates = world.judged(world.planted(boosted().fit(inputs, labels), monotonic=RISING))

    assert world.judged(linear)["monotonic"].verdict == "passed"
    stopped(gates, "monotonic", r"raising x moves the score the wrong way in \d+\.\d+% of the rows")


async def test_a_model_that_goes_by_what_should_not_matter(world: World) -> None:
    inputs, labels = world.rows(world.good.spec)
    labels = np.where(inputs[:, 1] > 0.5, 1, labels)

    gates = world.judged(world.planted(boosted().fit(inputs, labels)))

    stopped(gates, "invariant", r"exchanging noise between rows moves the answers by 0\.\d+ on average")


async def test_a_model_that_is_too_slow_and_too_large(world: World) -> None:
    inputs, labels = world.rows(world.good.spec)
    wide = MLPClassifier((1200, 1200), solver="lbfgs", max_iter=1, random_state=7)
    imputer = SimpleImputer().fit(inputs)
    with pytest.warns(ConvergenceWarning):
        wide.fit(imputer.transform(inputs)[:500], labels[:500])

    gates = world.judged(world.planted(imputer, wide, latency_p99_ms=0.05))

    stopped(gates, "latency_p99_ms", r"99 % of 1000 one-row calls took at most \d+\.\d+ ms.*expected at most 0\.05 ms")
    stopped(gates, "size_mb", r"the ONNX file has \d+\.\d+ MB; expected at most 2 MB")


async def test_onnx_unlike_its_scikit_learn_form(world: World) -> None:
    inputs, labels = world.rows(world.good.spec)
    other = world.planted(boosted(max_iter=5).fit(inputs, labels))

    gates = world.judged(parts.resealed(other.model_copy(update={"skops": world.good.skops})))

    stopped(gates, "parity", r"ONNX and scikit-learn differ by more than 0\.0001 in \d+ of \d+ rows")


@pytest.mark.parametrize("form", ["onnx", "skops"])
async def test_a_file_that_means_harm(world: World, form: str, tmp_path: Any) -> None:
    marker = tmp_path / "ran"
    files: Callable[[Any], Mapping[str, bytes]] = getattr(malicious, f"{form}_files")
    name = {"onnx": "a file of the machine as a tensor", "skops": "a step that runs a command"}[form]
    bad = parts.store().put_now(files(marker)[name])

    gates = world.judged(parts.resealed(world.good.model_copy(update={form: bad})))

    stopped(gates, "safety", {"onnx": r"onnx: .*got external data", "skops": r"skops: .*posix\.system"}[form])
    assert not marker.exists()
