"""SQL lives in queries.sql, each query named: `-- name: add_event` and a line that says what it does."""

import re
from collections.abc import Mapping
from pathlib import Path

_NAMED = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


def load(path: Path) -> Mapping[str, str]:
    """Queries by name.

    Raises:
        ValueError: a name stands twice.
    """
    parts = _NAMED.split(path.read_text())[1:]
    names, texts = parts[::2], [text.strip() for text in parts[1::2]]
    if len(set(names)) != len(names):
        raise ValueError(f"{path}: a query name stands twice")
    return dict(zip(names, texts, strict=True))
