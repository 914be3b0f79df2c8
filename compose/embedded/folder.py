"""What a stack keeps between runs: its ports and secrets, under a lock that only one owner at a time can hold."""

import fcntl
import json
import os
import random
import secrets
import socket
from pathlib import Path
from typing import IO

from compose.embedded.errors import StackError, StackInUse

LOOPBACK = "127.0.0.1"
# Below the range that outgoing connections take theirs from, and so that SeaweedFS can add its 10,000 and stay below.
PORTS = range(20_000, 22_700)
# Each the first of as many ports as scorers a stack may run: slot n listens n above it.
SCORER_PORTS = range(23_000, 30_000, 20)


class StackFolder:
    """A claimed folder; release() or the death of the process frees it.

    Raises:
        StackInUse: another process holds it.
        StackError: there can be no such folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        # others may pass, not list: as root, PostgreSQL runs as another user
        try:
            self.path.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StackError(f"{self.path}: expected a folder, or a place for one: {error.strerror}") from error
        self._lock = _lock(self.path / "lock", self.path)
        self._file = self.path / "stack.json"
        saved = json.loads(self._file.read_text()) if self._file.exists() else {}
        self._ports: dict[str, int] = saved.get("ports", {})
        self._secrets: dict[str, str] = saved.get("secrets", {})
        self._held: dict[str, socket.socket] = {}

    def port(self, name: str, among: range = PORTS) -> int:
        """The port of this name on the loopback: the saved one while it is free, or else another free one."""
        if name not in self._held:
            self._held[name] = _hold(self._ports.get(name), among)
            self._ports[name] = self._held[name].getsockname()[1]
            self._save()
        return self._ports[name]

    def secret(self, name: str) -> str:
        """A secret of this name, made up once; letters, digits, - and _ only."""
        if name not in self._secrets:
            self._secrets[name] = secrets.token_urlsafe(24)
            self._save()
        return self._secrets[name]

    def release(self) -> None:
        """Let go of ports and lock."""
        for held in self._held.values():
            held.close()
        self._held.clear()
        self._lock.close()

    def _save(self) -> None:
        write_private(self._file, json.dumps({"ports": self._ports, "secrets": self._secrets}, indent=1))


def write_private(path: Path, text: str) -> None:
    """Replace the file at once; only its owner can read it."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)


def _lock(path: Path, folder: Path) -> IO[str]:
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = file.read().strip()
        file.close()
        raise StackInUse(folder, owner) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def _hold(saved: int | None, among: range) -> socket.socket:
    """A bound socket that keeps a port from everybody but a server that binds it with SO_REUSEADDR, as ours all do."""
    if saved is not None and (held := _bind(saved, reuse=True)):
        return held  # with reuse, as connections of the last run may still linger on it
    for port in random.sample(among, len(among)):
        if held := _bind(port, reuse=False):
            return held
    raise StackError(f"no free port in {among.start}–{among.stop - 1} on {LOOPBACK}")


def _bind(port: int, *, reuse: bool) -> socket.socket | None:
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
    try:
        held.bind((LOOPBACK, port))
    except OSError:
        held.close()
        return None
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return held
