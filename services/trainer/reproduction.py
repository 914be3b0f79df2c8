"""A version made again from its manifest alone, in a process of its own: `python -m services.trainer.reproduction`."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from services.trainer.domain.records import Recipe
from services.trainer.jobs import produce, reporter
from services.trainer.provenance import provenance
from shared.child import JobFailed, Payload, Progress, answer
from shared.objects import Missing, Objects, Tampered, digest_of
from shared.settings import S3Settings
from shared.tables import NoTable, Tables

Json = Mapping[str, Any]


def reproduce(request: Payload, progress: Progress) -> Payload:
    """{"manifest": digest, "anyway": whether also elsewhere} → {"recorded", "made"}: digests by artifact.

    Raises:
        JobFailed: `altered`, `expired` or `environment`: nothing was made, and why.
    """
    manifest = _read(request["manifest"], Objects(S3Settings()))
    here = provenance()
    differences = differences_between(manifest, here)
    if differences and not request["anyway"]:
        raise JobFailed("environment", "; ".join(differences))
    try:
        recipe = Recipe.of_manifest(json.dumps(manifest).encode())
        produced = produce(recipe, Tables(S3Settings()), reporter(progress), here)
    except (NoTable, FileNotFoundError) as error:
        raise JobFailed("expired", str(error)) from error
    return {
        "recorded": manifest["digests"],
        "made": {"onnx": digest_of(produced.onnx), "reference": digest_of(produced.reference)},
        "rows": produced.rows,
        "differences": differences,
    }


def _read(digest: str, objects: Objects) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(objects.get_now(digest))
        Recipe.of_manifest(json.dumps(manifest).encode())
    except Missing as error:
        raise JobFailed("expired", str(error)) from error
    except Tampered as error:
        raise JobFailed("altered", str(error)) from error
    except (ValueError, ValidationError) as error:
        raise JobFailed("altered", f"{digest} is not a manifest: {error}") from error
    return manifest


def differences_between(manifest: Json, here: Json) -> list[str]:
    """What was otherwise when the manifest was written, in words.

    >>> differences_between({"python": "3.11.2", "libraries": {"numpy": "2"}}, {"python": "3.12.0", "libraries": {}})
    ['numpy: recorded 2, here None', 'python: recorded 3.11.2, here 3.12.0']
    """
    then, now = _flat(manifest, here.keys()), _flat(here, here.keys())
    return [
        f"{name}: recorded {then.get(name)}, here {now.get(name)}"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]


def _flat(provenance: Json, names: Any) -> dict[str, Any]:
    flat = {name: provenance.get(name) for name in names if name != "libraries"}
    return flat | dict(provenance.get("libraries", {}))


if __name__ == "__main__":
    answer(reproduce)
