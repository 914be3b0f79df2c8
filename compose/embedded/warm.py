"""`python -m compose.embedded.warm`: fetch the jars and let the Java parts run once, so that each later start is quick.

On that one run the JVM notes which classes it needs and, as it ends, writes them down loaded and linked (JEP 514).
Half a minute, once a machine; without it everything works, and starts some seconds later.
"""

import asyncio
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from compose.embedded import jars
from compose.embedded.folder import StackFolder
from compose.embedded.java import archive
from compose.embedded.stack import BUILD
from compose.embedded.supervisor import Process, Supervisor

JAVA_PARTS = ("kafka", "zipkin")


async def warm() -> None:
    """Write what is missing of the parts' archives."""
    await asyncio.to_thread(jars.class_path, jars.KAFKA, jars.ZIPKIN)
    missing = [part for part in JAVA_PARTS if not archive(part).exists()]
    if not missing:
        return
    with TemporaryDirectory(prefix="modelbus-warm-") as folder:
        await _run_once(Path(folder), missing)
    for part in missing:
        _fresh(part).rename(archive(part))


async def _run_once(folder: Path, parts: list[str]) -> None:
    claim = StackFolder(folder)
    supervisor = Supervisor(claim.path)
    try:
        await supervisor.start(*(_writing(BUILD[part](claim)) for part in parts))
    finally:
        await supervisor.stop()
        claim.release()


def _writing(process: Process) -> Process:
    fresh = _fresh(process.name)
    fresh.parent.mkdir(parents=True, exist_ok=True)
    options = {"JAVA_TOOL_OPTIONS": f"-XX:AOTCacheOutput={fresh}"}
    return replace(process, environment=dict(process.environment) | options, grace_seconds=120)


def _fresh(part: str) -> Path:
    return archive(part).with_suffix(".new")


if __name__ == "__main__":
    asyncio.run(warm())
