"""A version as a folder that others can load: the MLflow model layout, with the ONNX flavour and no code in it.

Its input is one tensor, float32 (n, features), as scorers see it: a number, 0 or 1, the place of a category's value
among those of its feature, NaN for what is missing. `metadata` of MLmodel has the features in order, and the classes.

Source: MLflow, "MLflow Models" (storage format, signature, model input example).
"""

import json
from collections.abc import Mapping
from typing import Any

import yaml

from schemas.events.parts import Candidate, Signature
from shared.signing import CANDIDATE, ONNX

_LAYOUT_VERSION = "3.1.0"  # of MLflow's storage format
_REQUIREMENTS = ("onnx", "onnxruntime", "numpy", "pandas")
_BUILD = ("pip", "setuptools", "wheel")


def folder_of(candidate: Candidate, artifacts: Mapping[str, bytes], report: bytes) -> dict[str, bytes]:
    """Files by name; `artifacts` are the bytes of `onnx`, `skops`, `manifest` and `reference`.

    The same version gives the same bytes: nothing in it is of the moment or the machine that it was packed on.
    """
    manifest, reference = json.loads(artifacts["manifest"]), json.loads(artifacts["reference"])
    example = _example(candidate.signature, reference)
    requirements = [f"{name}=={version}" for name, version in _versions(manifest).items()]
    environment = {"python": manifest["python"], "build_dependencies": list(_BUILD)}
    conda = {
        "name": "mlflow-env",
        "channels": ["conda-forge"],
        "dependencies": [f"python={manifest['python']}", "pip", {"pip": requirements}],
    }
    return {
        ONNX: artifacts["onnx"],
        CANDIDATE: candidate.model_dump_json().encode(),
        "model.skops": artifacts["skops"],
        "manifest.json": artifacts["manifest"],
        "reference.json": artifacts["reference"],
        "report.json": report,
        "MLmodel": _yaml(_described(candidate, manifest)),
        "input_example.json": _json(example),
        "serving_input_example.json": _json({"inputs": example}),
        "requirements.txt": "".join(f"{line}\n" for line in requirements).encode(),
        "python_env.yaml": _yaml(environment | {"dependencies": ["-r requirements.txt"]}),
        "conda.yaml": _yaml(conda),
    }


def _described(candidate: Candidate, manifest: Mapping[str, Any]) -> dict[str, Any]:
    signature = candidate.signature
    return {
        "flavors": {
            "onnx": {
                "code": None,
                "data": ONNX,
                "onnx_version": manifest["libraries"]["onnx"],
                "providers": ["CPUExecutionProvider"],
            },
            "python_function": {
                "data": ONNX,
                "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
                "loader_module": "mlflow.onnx",
                "python_version": manifest["python"],
            },
        },
        "metadata": {
            "model": candidate.model,
            "run_id": candidate.run_id,
            "classes": list(signature.classes),
            "features": [feature.model_dump(mode="json") for feature in signature.features],
        },
        "mlflow_version": _LAYOUT_VERSION,
        "model_uuid": candidate.onnx.digest.removeprefix("sha256:")[:32],
        "saved_input_example_info": {
            "artifact_path": "input_example.json",
            "format": "tf-serving",
            "serving_input_path": "serving_input_example.json",
            "type": "ndarray",
        },
        "signature": {"inputs": _tensor(None, len(signature.features)), "outputs": _output(signature), "params": None},
        "utc_time_created": f"{candidate.cut.time:%Y-%m-%d %H:%M:%S.%f}",
    }


def _output(signature: Signature) -> str:
    return _tensor("probabilities", len(signature.classes)) if signature.classes else _tensor("variable", 1)


def _tensor(name: str | None, width: int) -> str:
    """As MLflow writes a schema: JSON inside the YAML."""
    tensor = {"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, width]}}
    return json.dumps([tensor | ({"name": name} if name else {})])


def _example(signature: Signature, reference: Mapping[str, Any]) -> list[list[float]]:
    """A row of nobody: the middle of what each number was, the first value of each category."""
    row = [_middle(reference["features"][each.name]) if each.type == "float" else 0.0 for each in signature.features]
    return [row]


def _middle(bins: Mapping[str, Any]) -> float:
    edges = bins["edges"]
    return float(edges[len(edges) // 2]) if edges else 0.0


def _versions(manifest: Mapping[str, Any]) -> dict[str, str]:
    return {name: manifest["libraries"][name] for name in _REQUIREMENTS if name in manifest["libraries"]}


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _yaml(document: Mapping[str, Any]) -> bytes:
    return yaml.safe_dump(dict(document), sort_keys=True, allow_unicode=True).encode()
