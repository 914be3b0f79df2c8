"""The Java parts: resolved once by jgo into jars.lock, fetched into the user's cache, and checked against the lock.

`python -m compose.embedded.jars` fetches all ahead of time; `--lock` resolves again and rewrites the lock.
"""

import fcntl
import hashlib
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import track

from compose.embedded.errors import JarMismatch

if TYPE_CHECKING:
    from jgo.maven import Artifact, MavenContext

LOCK = Path(__file__).with_name("jars.lock")
KAFKA, ZIPKIN, KAFKA_TOOLS = "kafka", "zipkin", "kafka-tools"
# Whole with what they depend on; the log binding stands apart, as its parent would manage Kafka's versions down.
# 4.2, not 4.3 or 4.4: those lose the markers of a transaction whose commit was decided as the broker was killed
# (KAFKA-20734), and nobody reads the partition any further.
RESOLVED = {KAFKA: "org.apache.kafka:kafka_2.13:4.2.2", KAFKA_TOOLS: "org.apache.kafka:kafka-tools:4.2.2"}
ALONE = {KAFKA: "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4", ZIPKIN: "io.zipkin:zipkin-server:3.5.1:exec"}


@dataclass(frozen=True)
class Jar:
    """One locked jar: what needs it, its Maven coordinate (group:artifact:version[:classifier]), its SHA-256 in hex."""

    part: str
    coordinate: str
    sha256: str


def class_path(*parts: str) -> tuple[Path, ...]:
    """The jars of these parts, in the lock's order; fetches what is not cached. Raises JarMismatch."""
    jars = [jar for jar in locked() if jar.part in parts]
    with _one_at_a_time():
        paths = {jar: _path(jar) for jar in jars}
        missing = [jar for jar, path in paths.items() if not path.exists() or _sha256(path) != jar.sha256]
        if missing:
            _fetch(missing)
    return tuple(paths.values())


def locked() -> list[Jar]:
    """The committed lock."""
    return [Jar(*line.split()) for line in LOCK.read_text().splitlines() if not line.startswith("#")]


def cache() -> Path:
    """Where jars are kept (XDG base directories)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelbus" / "maven"


def _fetch(jars: list[Jar]) -> None:
    console = Console(stderr=True)
    with ThreadPoolExecutor(8) as threads:
        fetched = threads.map(_fetch_one, jars)
        for _ in track(fetched, "Fetching the jars of Kafka and Zipkin, once", total=len(jars), console=console):
            pass


def _fetch_one(jar: Jar) -> None:
    path = _path(jar)
    path.unlink(missing_ok=True)  # broken off by a kill, or tampered with
    _artifact(jar.coordinate).resolve()
    if (found := _sha256(path)) != jar.sha256:
        path.unlink()
        raise JarMismatch(jar.coordinate, found, jar.sha256)


def _artifact(coordinate: str) -> "Artifact":
    group, name, version, *classifier = coordinate.split(":")
    return _maven().project(group, name).at_version(version).artifact(*classifier)


def _maven() -> "MavenContext":
    from jgo.maven import MavenContext  # noqa: PLC0415  # a quarter second, spent only when something is to be fetched

    return MavenContext(repo_cache=cache(), timeout=60)


def _path(jar: Jar) -> Path:
    """Where a Maven repository keeps it."""
    group, name, version, *classifier = jar.coordinate.split(":")
    return cache() / group.replace(".", "/") / name / version / f"{'-'.join((name, version, *classifier))}.jar"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Several stacks may start at once on an empty cache."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def resolve() -> list[Jar]:
    """Resolve the coordinates anew, over the network, and hash what they lead to."""
    broker = _resolve(RESOLVED[KAFKA])
    tools = [artifact for artifact in _resolve(RESOLVED[KAFKA_TOOLS]) if str(artifact) not in map(str, broker)]
    return [
        *_hashed(KAFKA, [*broker, _artifact(ALONE[KAFKA])]),
        *_hashed(ZIPKIN, [_artifact(ALONE[ZIPKIN])]),
        *_hashed(KAFKA_TOOLS, tools),
    ]


def _resolve(coordinate: str) -> "list[Artifact]":
    maven = _maven()
    roots, below = maven.resolver.resolve([maven.create_dependency(f"{coordinate}:::compile")])
    return [d.artifact for d in (*roots, *(d for d in below if d.scope in ("compile", "runtime")))]


def _hashed(part: str, artifacts: "Iterable[Artifact]") -> Iterator[Jar]:
    for artifact in artifacts:
        names = [artifact.groupId, artifact.artifactId, artifact.version, artifact.classifier]
        yield Jar(part, ":".join(filter(None, names)), _sha256(artifact.resolve()))


def main(*arguments: str) -> None:
    """Fetch all jars; with --lock, resolve and write the lock first."""
    logging.getLogger("jgo").setLevel(logging.ERROR)
    if arguments == ("--lock",):
        lines = "".join(f"{jar.part} {jar.coordinate} {jar.sha256}\n" for jar in resolve())
        LOCK.write_text(f"# part coordinate sha256; python -m compose.embedded.jars --lock writes it\n{lines}")
    class_path(KAFKA, ZIPKIN, KAFKA_TOOLS)


if __name__ == "__main__":
    main(*sys.argv[1:])
