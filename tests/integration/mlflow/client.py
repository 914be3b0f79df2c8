"""A stock MLflow client, in an environment of its own: loads models, asks the registry, and says what it got as JSON.

stdin: {"loads": [{"uri", "rows"}], "model": name or null}; stdout: {"answers": […], "models", "versions", …}.
"""

import json
import sys
from typing import Any

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException


def answer(load: dict[str, Any]) -> list[Any]:
    """What the model says to the rows; its own example it answers, too."""
    model = mlflow.pyfunc.load_model(load["uri"])
    [output] = model.metadata.get_output_schema().input_names()
    assert model.predict(model.input_example)[output].shape[0] == 1
    said: list[Any] = model.predict(np.array(load["rows"], dtype=np.float32))[output].tolist()
    return said


def listing(client: MlflowClient, name: str) -> dict[str, Any]:
    """What the registry tells of a model."""
    [model] = client.search_registered_models()
    versions = client.search_model_versions(f"name='{name}'")
    try:
        client.get_registered_model("nobody")
        missing = "found"
    except MlflowException as error:
        missing = error.error_code
    return {
        "models": [model.name],
        "aliases": dict(client.get_registered_model(name).aliases),
        "versions": [[each.version, each.current_stage, each.status] for each in versions],
        "latest": [each.version for each in client.get_latest_versions(name)],
        "champion": client.get_model_version_by_alias(name, "champion").run_id,
        "run": client.get_model_version(name, "1").run_id,
        "missing": missing,
    }


asked = json.load(sys.stdin)
found = {"answers": [answer(each) for each in asked["loads"]]}
if asked["model"]:
    found |= listing(MlflowClient(), asked["model"])
json.dump(found, sys.stdout)
