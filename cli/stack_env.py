"""Finds the running stack: its settings stand in <folder>/stack.env; what the environment already says wins."""

import os
from pathlib import Path


def load(folder: Path) -> bool:
    """Put the settings of the folder's running stack into the environment; False when none runs there."""
    file = folder / "stack.env"
    if not file.exists():
        return False
    for line in file.read_text().splitlines():
        name, found, value = line.partition("=")
        if found:
            os.environ.setdefault(name, value)
    return True
