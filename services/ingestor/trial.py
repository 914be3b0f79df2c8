"""`python -m services.ingestor.trial`: reads a few records at a time, so that those that end their reader can be found.

On stdin a line of JSON that names kind and declaration, then a line of values (null, or base64) at a time; on stdout a
line for each that was outlived.
"""

import base64
import json
import sys

from schemas.specs import StreamSpec
from services.ingestor.domain.blocks import Taken, block_of
from services.ingestor.domain.rows import read, reader_of
from shared.imports import leave_out
from shared.tables import schema_of


def main() -> None:
    leave_out("pandas")
    asked = json.loads(sys.stdin.readline())
    spec = StreamSpec.model_validate(asked["spec"])
    reader = reader_of(asked["kind"], spec, schema_of(asked["kind"], spec))
    for line in sys.stdin:
        values = [None if text is None else base64.b64decode(text) for text in json.loads(line)]
        read(reader, [block_of([Taken(0, row, 0, None, value) for row, value in enumerate(values)])])
        sys.stdout.write("outlived\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
