"""The supervisor on small real processes."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from compose.embedded import supervisor as module
from compose.embedded.errors import StackInUse, StartFailed
from compose.embedded.folder import StackFolder
from compose.embedded.supervisor import Process, State, Supervisor, born

CHECKOUT = Path(__file__).parents[2]
SLEEP = "import time; open('up', 'a').write('+'); time.sleep(600)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP
OWNER = """
import asyncio, sys
from pathlib import Path
from tests.unit.test_supervisor import SLEEP, process
from compose.embedded.supervisor import Supervisor

async def main():
    folder = Path(sys.argv[1])
    await Supervisor(folder).start(process(folder, "child", SLEEP))
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def process(folder: Path, name: str, code: str, grace_seconds: float = 5, ready_within_seconds: float = 20) -> Process:
    """A Python process that is ready when its folder holds a file `up`."""
    own = folder / name
    own.mkdir(exist_ok=True)

    async def ready() -> bool:
        return await asyncio.to_thread((own / "up").exists)

    return Process(
        name=name,
        argv=(sys.executable, "-I", "-S", "-c", code),
        environment={},
        folder=own,
        ready=ready,
        grace_seconds=grace_seconds,
        ready_within_seconds=ready_within_seconds,
    )


@pytest.fixture
async def supervisor(tmp_path: Path) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(tmp_path)
    yield supervisor
    await supervisor.stop()


async def until(condition: Callable[[], bool], limit_seconds: float = 20) -> None:
    """Poll until true."""
    for _ in range(int(limit_seconds / 0.02)):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"not so within {limit_seconds} s")


async def test_a_started_process_is_ready_and_told_of(supervisor: Supervisor, tmp_path: Path) -> None:
    await supervisor.start(process(tmp_path, "a", SLEEP), process(tmp_path, "b", SLEEP))

    await until(lambda: all(state.ready for state in supervisor.status()))
    assert [state.name for state in supervisor.status()] == ["a", "b"]
    record = json.loads((tmp_path / "processes.json").read_text())
    assert record["supervisor"] == os.getpid()
    assert [State(**state) for state in record["processes"]] == supervisor.status()


async def test_a_killed_process_comes_back_under_another_pid(supervisor: Supervisor, tmp_path: Path) -> None:
    await supervisor.start(process(tmp_path, "a", SLEEP))
    first = supervisor.status()[0].pid

    supervisor.kill("a")

    await until(lambda: supervisor.status()[0].pid not in {None, first})
    assert supervisor.status()[0].restarts == 1
    await until(lambda: (tmp_path / "a" / "up").read_text() == "++")


async def test_a_process_that_keeps_ending_fails_the_start_with_its_last_words(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    with pytest.raises(StartFailed, match="no such luck"):
        await supervisor.start(process(tmp_path, "a", "raise SystemExit('no such luck')"))

    assert supervisor.status()[0].restarts >= module.ATTEMPTS_TO_START


async def test_a_process_that_does_not_become_ready_in_time_fails_the_start(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    with pytest.raises(StartFailed, match="not ready"):
        await supervisor.start(process(tmp_path, "a", "import time; time.sleep(600)", ready_within_seconds=0.3))


async def test_a_process_deaf_to_its_stop_signal_is_killed_after_its_grace(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    await supervisor.start(process(tmp_path, "a", DEAF, grace_seconds=0.3))
    pid = supervisor.status()[0].pid
    assert pid is not None

    await supervisor.stop()

    assert born(pid) is None
    assert "killed" in (tmp_path / "logs" / "a.log").read_text()
    assert not (tmp_path / "processes.json").exists()


async def test_what_was_started_last_is_stopped_first(supervisor: Supervisor, tmp_path: Path) -> None:
    note = f"import signal; signal.signal(15, lambda *_: (open('{tmp_path}/order', 'a').write(NAME), exit()));" + SLEEP
    await supervisor.start(process(tmp_path, "a", note.replace("NAME", "'a'")))
    await supervisor.start(process(tmp_path, "b", note.replace("NAME", "'b'")))

    await supervisor.stop()

    assert (tmp_path / "order").read_text() == "ba"


async def test_a_full_log_is_moved_aside(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_LOG_BYTES", 1000)
    monkeypatch.setattr(module, "PROBE_READY_SECONDS", 0.02)
    chatty = "import time; open('up', 'w')\nwhile True: print('x' * 99, flush=True); time.sleep(0.001)"

    await supervisor.start(process(tmp_path, "a", chatty))

    log = tmp_path / "logs" / "a.log"
    await until(lambda: log.with_suffix(".log.1").exists() and 0 < log.stat().st_size < 1000)


async def test_children_of_a_killed_supervisor_die_with_it(tmp_path: Path) -> None:
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, str(tmp_path), cwd=CHECKOUT, stdout=subprocess.PIPE
    )
    assert owner.stdout
    assert await owner.stdout.readline() == b"ready\n"
    child = json.loads((tmp_path / "processes.json").read_text())["processes"][0]["pid"]
    assert born(child) is not None

    owner.kill()

    await until(lambda: born(child) is None)
    await owner.communicate()


async def test_what_a_killed_supervisor_left_is_ended_by_the_next(supervisor: Supervisor, tmp_path: Path) -> None:
    leftover = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(600)")
    stranger = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(600)")
    left = [
        {"name": "left", "pid": leftover.pid, "born": born(leftover.pid)},
        {"name": "long gone", "pid": stranger.pid, "born": 1},
    ]
    (tmp_path / "processes.json").write_text(json.dumps({"supervisor": 1, "processes": left}))

    await supervisor.start(process(tmp_path, "a", SLEEP))

    assert born(leftover.pid) is None
    assert born(stranger.pid) is not None
    stranger.kill()
    await asyncio.gather(leftover.wait(), stranger.wait())


async def test_a_process_sees_no_ctrl_c_of_the_supervisors_terminal(supervisor: Supervisor, tmp_path: Path) -> None:
    await supervisor.start(process(tmp_path, "a", SLEEP))
    pid = supervisor.status()[0].pid
    assert pid is not None

    assert os.getpgid(pid) == pid != os.getpgid(0)


def test_ports_and_secrets_are_the_same_the_next_time(tmp_path: Path) -> None:
    first = StackFolder(tmp_path)
    given = first.port("kafka"), first.secret("s3")
    first.release()

    second = StackFolder(tmp_path)

    assert (second.port("kafka"), second.secret("s3")) == given
    assert (tmp_path / "stack.json").stat().st_mode & 0o777 == 0o600
    second.release()


def test_a_saved_port_that_is_taken_is_replaced(tmp_path: Path) -> None:
    folder = StackFolder(tmp_path)
    taken = folder.port("kafka")
    folder.release()

    with subprocess.Popen(
        [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(taken)], stderr=-3
    ) as server:
        deadline = time.monotonic() + 10
        while not _listens(taken) and time.monotonic() < deadline:
            os.sched_yield()
        folder = StackFolder(tmp_path)
        assert folder.port("kafka") != taken
        folder.release()
        server.send_signal(signal.SIGTERM)


def test_a_folder_has_one_owner_at_a_time(tmp_path: Path) -> None:
    folder = StackFolder(tmp_path)

    with pytest.raises(StackInUse, match=str(os.getpid())):
        StackFolder(tmp_path)

    folder.release()
    StackFolder(tmp_path).release()


def _listens(port: int) -> bool:
    hexadecimal = f"0100007F:{port:04X} 00000000:0000 0A"
    return hexadecimal in Path("/proc/net/tcp").read_text()
