"""What the gateway answers without a broker: who serves, what a version says, and what nobody would ever answer."""

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from services.deployer.domain.arms import is_canary
from services.deployer.gateway.answering import Answering
from services.deployer.gateway.errors import Invalid, NotServed, Unanswered, Unavailable, Unknown
from services.deployer.gateway.outputs import Row, tensors_of
from services.deployer.gateway.protocol import read
from services.deployer.serving import Known, Serving, Version
from shared.matrix import Inputs
from shared.runtime import Scores
from tests.gateway_world import asking
from tests.scoring_world import changed, model_spec, release_of, stream_spec, wrapped

STREAM = stream_spec("s")
SPEC = model_spec("m", "s")


class Odd:
    """A model that answers the first record of a batch with NaN."""

    def score(self, inputs: Inputs) -> Scores:
        return Scores(score=np.where(np.arange(len(inputs)) == 0, np.nan, 0.7), probabilities=None)


def known() -> Known:
    """Model m served by two odd versions, n declared, o waiting for its version to load."""
    event = changed(1, release_of(1, SPEC, STREAM), release_of(2, SPEC, STREAM), share=0.5)
    assert event.challenger
    versions = [Version(release=each, model=Odd()) for each in (event.champion, event.challenger)]  # type: ignore[arg-type]
    serving = Serving(changed=event, said=wrapped(event, "said"), champion=versions[0], challenger=versions[1])
    models = dict.fromkeys("mno", "s")
    return Known(streams={"s": STREAM}, models=models, serving={"m": serving}, awaited=frozenset("o"))


def answering(*, complete: bool = True) -> Answering:
    """Without an exchange: whoever would publish fails."""
    return Answering(SimpleNamespace(known=known(), complete=complete), None)  # type: ignore[arg-type]


def asked(body: Mapping[str, Any]) -> Any:
    return read(json.dumps(body).encode(), None)


@pytest.mark.parametrize(
    ("model", "kind", "said"),
    [("x", Unknown, "expected a declared one, got 'x'"), ("n", NotServed, "no version serves it yet"),
     ("o", Unavailable, "not loaded yet")],
)  # fmt: skip
def test_a_model_that_nobody_serves_is_told_from_one_that_is_not_there(
    model: str, kind: type[Unanswered], said: str
) -> None:
    with pytest.raises(kind, match=said):
        answering().metadata(model)
    assert not answering().is_ready()


def test_nothing_is_known_before_all_is_heard() -> None:
    with pytest.raises(Unavailable, match="starting"):
        answering(complete=False).metadata("x")


@pytest.mark.parametrize("version", ["3", "01", "one", ""])
def test_only_live_versions_can_be_asked(version: str) -> None:
    with pytest.raises(Unknown, match="expected a live version, 1 or 2"):
        answering().infer_version("m", version, asked(asking()))


async def test_a_row_that_no_version_could_answer_is_refused_before_it_is_published() -> None:
    for version, is_challenger in ((1, False), (2, True)):
        entity = next(f"m{number}" for number in range(99) if is_canary(f"m{number}", "a-salt", 0.5) == is_challenger)
        with pytest.raises(Invalid, match=f"row 0: version {version} has no finite score for it"):
            await answering().infer("m", asked(asking(2, entity)))
    with pytest.raises(Invalid, match="row 0: version 2 has no finite score"):
        answering().infer_version("m", "2", asked(asking(2)))


async def test_an_output_that_will_not_be_there_is_refused_before_anything_is_published() -> None:
    with pytest.raises(Invalid, match=r"outputs\[0\]: expected one of \['score', 'label', .*got 'probabilities'"):
        await answering().infer("m", asked(asking(outputs=[{"name": "probabilities"}])))


def test_probabilities_come_with_their_classes_and_an_older_version_has_none_of_a_newer_class() -> None:
    candidate = release_of(2, SPEC.model_copy(update={"task": "multiclass"}), STREAM).candidate
    signature = candidate.signature.model_copy(update={"classes": ("cold", "warm")})
    candidate = candidate.model_copy(update={"signature": signature})
    rows = [
        Row(version=2, score=0.6, label="warm", probabilities={"cold": 0.1, "warm": 0.6, "hot": 0.3}),
        Row(version=1, score=0.9, label="cold", probabilities={"cold": 0.9, "warm": 0.1}),
    ]

    tensors = {each.name: each for each in tensors_of(rows, candidate, published=False)}

    assert (tensors["label"].datatype, tensors["label"].values) == ("BYTES", ["warm", "cold"])
    assert tensors["probabilities"].parameters == {"classes": ["cold", "warm", "hot"]}
    assert tensors["probabilities"].shape == [2, 3]
    assert tensors["probabilities"].values == [0.1, 0.6, 0.3, 0.9, 0.1, 0.0]


def test_a_regression_has_no_label() -> None:
    candidate = release_of(1, SPEC.model_copy(update={"task": "regression"}), STREAM).candidate
    row = Row(version=1, score=3.5, label=None, probabilities=None, prediction_id="e@m:1", event_id="e")

    tensors = {each.name: each.values for each in tensors_of([row], candidate, published=True)}

    assert tensors == {"score": [3.5], "version": [1], "prediction_id": ["e@m:1"], "event_id": ["e"]}
