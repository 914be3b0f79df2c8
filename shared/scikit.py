"""Scikit-learn pipelines as skops files: never pickle, and nothing is loaded that does not stand in this list.

The bytes of equal pipelines differ (zip, ids); their digest says which file, not which model.
"""

from io import BytesIO
from typing import Any, Final
from zipfile import BadZipFile, ZipFile

import skops.io

from shared.errors import Refusal

LARGEST_BYTES: Final = 2**30  # unpacked
_LARGEST_SCHEMA_BYTES: Final = 64 * 2**20

TRUSTED: Final = (  # beyond what skops itself trusts
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
)


class UnsafePipeline(Refusal):
    """The bytes are not a pipeline that may be unpacked."""


def dumps(pipeline: Any) -> bytes:
    """The pipeline as a skops file."""
    data: bytes = skops.io.dumps(pipeline)
    return data


def loads(data: bytes) -> Any:
    """The pipeline of a skops file.

    Raises:
        UnsafePipeline: no skops file, or one that would fill the memory.
        skops.io.exceptions.UntrustedTypesFoundException: it holds a type that is neither skops' own nor listed here.
    """
    check_size(data)
    return skops.io.loads(data, trusted=list(TRUSTED))


def check_size(data: bytes) -> None:
    """Look before unpacking: a few bytes of zip may hold terabytes.

    Raises:
        UnsafePipeline: no zip file, or one of more than 1 GiB, or a schema of more than 64 MiB.
    """
    try:
        sizes = {part.filename: part.file_size for part in ZipFile(BytesIO(data)).infolist()}
    except (BadZipFile, ValueError, OSError, EOFError) as error:
        raise UnsafePipeline(f"expected a skops file: {error}") from error
    if sum(sizes.values()) > LARGEST_BYTES or sizes.get("schema.json", 0) > _LARGEST_SCHEMA_BYTES:
        raise UnsafePipeline(f"expected at most {LARGEST_BYTES} bytes unpacked, got {sum(sizes.values())}")
