"""What a process does not load."""

import sys


class _LeftOut:
    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(self, name: str, *_: object) -> None:
        """Raise what a package that is not there would raise."""
        if name == self._name:
            raise ModuleNotFoundError(f"{name} is left out of this process", name=name)


def leave_out(name: str) -> None:
    """Let a package be, to whoever imports it, as if it were not installed; to be called before the first does.

    pyarrow imports pandas when it is there, with the first array: a second and 60 MB, of which a service that has no
    data frames has nothing.
    """
    sys.meta_path.insert(0, _LeftOut(name))
