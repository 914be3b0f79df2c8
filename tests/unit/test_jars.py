"""The jars: what is locked is what runs."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest

from compose.embedded import jars
from compose.embedded.errors import JarMismatch

CONTENT = b"a jar"
COORDINATE = "org.example:part:1.0:exec"


@dataclass
class Published:
    """An artifact whose download puts these bytes where a Maven repository keeps it."""

    content: bytes
    downloads: int = 0

    def resolve(self) -> None:
        self.downloads += 1
        path = jars.cache() / "org/example/part/1.0/part-1.0-exec.jar"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.content)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    published = Published(CONTENT)
    lock = tmp_path / "jars.lock"
    lock.write_text(f"# part coordinate sha256\npart {COORDINATE} {hashlib.sha256(CONTENT).hexdigest()}\n")
    monkeypatch.setattr(jars, "LOCK", lock)
    monkeypatch.setattr(jars, "_artifact", lambda _coordinate: published)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return published


def test_a_jar_is_fetched_once(published: Published) -> None:
    first = jars.class_path("part")
    second = jars.class_path("part")

    assert first == second
    assert [path.read_bytes() for path in second] == [CONTENT]
    assert published.downloads == 1


def test_a_jar_that_was_changed_in_the_cache_is_fetched_again(published: Published) -> None:
    (path,) = jars.class_path("part")
    path.write_bytes(b"half a j")

    assert [path.read_bytes() for path in jars.class_path("part")] == [CONTENT]


def test_a_jar_that_is_not_the_locked_one_is_refused(published: Published) -> None:
    published.content = b"another jar"

    with pytest.raises(JarMismatch, match=COORDINATE):
        jars.class_path("part")

    assert not list(jars.cache().rglob("*.jar"))


def test_the_lock_names_each_jar_once_with_its_checksum() -> None:
    locked = jars.locked()

    assert len({jar.coordinate for jar in locked}) == len(locked)
    assert {jar.part for jar in locked} == {jars.KAFKA, jars.ZIPKIN, jars.KAFKA_TOOLS}
    assert {len(bytes.fromhex(jar.sha256)) for jar in locked} == {32}
