"""What can go wrong with an embedded stack.

StackError
├── StackInUse      another process runs this folder's stack
├── StartFailed     a process did not become ready
└── JarMismatch     a jar is not the one that was locked
"""

from pathlib import Path

from shared.errors import ModelbusError


class StackError(ModelbusError):
    """The embedded stack cannot do what was asked."""


class StackInUse(StackError):
    """Another process runs the stack of this folder."""

    def __init__(self, folder: Path, owner: str) -> None:
        super().__init__(
            f"{folder}: its stack is running already, under process {owner}; stop that or use another folder"
        )
        self.folder = folder


class StartFailed(StackError):
    """A process did not become ready; the message ends with the last lines it wrote."""

    def __init__(self, name: str, reason: str, log: Path) -> None:
        super().__init__(f"{name} {reason}; the end of {log}:\n{_tail(log)}")
        self.name = name


class JarMismatch(StackError):
    """A downloaded jar is not the one that was locked."""

    def __init__(self, coordinate: str, found: str, expected: str) -> None:
        super().__init__(f"{coordinate}: sha256 is {found}, locked is {expected}")
        self.coordinate = coordinate


def _tail(log: Path, lines: int = 20) -> str:
    text = log.read_text(errors="replace") if log.exists() else ""
    return "\n".join(text.splitlines()[-lines:])
