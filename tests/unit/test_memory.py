"""Arrow takes from the allocator that gives back."""

import subprocess
import sys

_TOLD = """
from shared.memory import keep_little
keep_little()
import pyarrow
print(pyarrow.default_memory_pool().backend_name)
"""


def test_arrow_takes_its_memory_from_glibc() -> None:
    found = subprocess.run([sys.executable, "-c", _TOLD], check=True, capture_output=True, text=True)

    assert found.stdout == "system\n"
