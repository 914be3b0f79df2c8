"""A version made again from its manifest alone, in a process of its own: `python -m services.trainer.reproduction`."""

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from services.trainer.domain.records import Recipe
from services.trainer.jobs import produce, reporter
from services.trainer.provenance import provenance
from shared.child import JobFailed, Payload, Progress, answer
from shared.objects import Missing, Objects, Tampered, digest_of
from shared.settings import S3Settings
from shared.tables import NoTable, Tables

Json = Mapping[str, Any]
_SHORT_OF_ROWS = ("altered", "insufficient_data")


def reproduce(request: Payload, progress: Progress) -> Payload:
    """{"manifest": digest, "recorded": what the registry says, "anyway": also elsewhere} → {"recorded", "made", …}.

    `recorded` has `model`, `run_id`, `spec`, `stream_spec`, `cut`, and the `digests` of "onnx" and "reference";
    "erased", where it is given, tells of erasures that may have taken rows of it.

    Raises:
        JobFailed: `altered`, `erased`, `expired` or `environment`: nothing was made, and why.
    """
    manifest, recipe = _read(request["manifest"], Objects(S3Settings()))
    if other := _otherwise(manifest, recipe, request["recorded"]):
        raise JobFailed("altered", f"expected the {', '.join(other)} of manifest {request['manifest']} in the registry")
    here = provenance()
    differences = differences_between(manifest, here)
    if differences and not request["anyway"]:
        raise JobFailed("environment", "; ".join(differences))
    try:
        rows = manifest.get("rows_digest")
        produced = produce(recipe, Tables(S3Settings()), reporter(progress), here, rows_digest=rows)
    except (NoTable, FileNotFoundError) as error:
        raise JobFailed("expired", str(error)) from error
    except JobFailed as failed:
        if failed.reason in _SHORT_OF_ROWS and (erased := request.get("erased")):
            raise JobFailed("erased", f"rows that it learned from are gone for good, by {erased}") from failed
        raise
    except pa.ArrowInvalid as error:
        raise JobFailed("altered", f"a file of the tables is not what was written: {error}") from error
    return {
        "recorded": manifest["digests"],
        "made": {"onnx": digest_of(produced.onnx), "reference": digest_of(produced.reference)},
        "rows": produced.rows,
        "differences": differences,
    }


def _read(digest: str, objects: Objects) -> tuple[dict[str, Any], Recipe]:
    try:
        data = objects.get_now(digest)
        return json.loads(data), Recipe.of_manifest(data)
    except Missing as error:
        raise JobFailed("expired", str(error)) from error
    except Tampered as error:
        raise JobFailed("altered", str(error)) from error
    except (ValueError, ValidationError) as error:
        raise JobFailed("altered", f"{digest} is not a manifest: {error}") from error


def _otherwise(manifest: Json, recipe: Recipe, recorded: Json) -> list[str]:
    """Of what the registry records otherwise than the manifest."""
    fields = {name: said for name, said in recorded.items() if name != "digests"}
    told = Recipe.model_validate_json(json.dumps(recipe.model_dump(mode="json") | fields))
    other = [name for name in fields if getattr(told, name) != getattr(recipe, name)]
    return other if manifest.get("digests") == recorded["digests"] else [*other, "digests"]


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
