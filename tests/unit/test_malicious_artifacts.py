"""What claims to be a model and is not: nothing of it is loaded, and nothing of it runs."""

import pickle
from pathlib import Path

import pytest

from schemas.events.parts import Signature, SignatureFeature
from services.validator.artifacts import Unusable, skops_predict
from shared.runtime import Model, UnsafeModel
from tests.unit import malicious

NOWHERE = Path("/nonexistent/marker")
SIGNATURE = Signature(features=(SignatureFeature(name="x", type="float"),), classes=("false", "true"))


@pytest.mark.parametrize("name", malicious.onnx_files(NOWHERE))
def test_onnx_that_means_harm_is_not_loaded(name: str, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    data = malicious.onnx_files(marker)[name]

    with pytest.raises(UnsafeModel, match=r"expected|outputs|inputs") as refused:
        Model(data, SIGNATURE)

    assert not marker.exists()
    assert len(str(refused.value)) > 20


@pytest.mark.parametrize("name", malicious.skops_files(NOWHERE))
def test_a_pipeline_that_means_harm_is_not_loaded(name: str, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    data = malicious.skops_files(marker)[name]

    with pytest.raises(Unusable):
        skops_predict(data, classify=True)

    assert not marker.exists()


def test_the_plain_graph_that_the_others_are_made_of_is_loaded() -> None:
    assert Model(malicious.graph().SerializeToString(), SIGNATURE)


def test_the_pickle_would_have_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    pickle.loads(malicious.onnx_files(marker)["a pickle"])  # noqa: S301 - ours

    assert marker.exists()
