"""A child that does what its request says, for tests of jobs: python -m tests.integration.job_children."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from shared.child import JobFailed, Payload, Progress, answer


def behave(request: Payload, progress: Progress) -> Payload:
    """One behaviour a request; `mark` is a file that gets a line with this process's id."""
    with Path(request["mark"]).open("a", encoding="utf-8") as mark:
        mark.write(f"{os.getpid()}\n")
    progress({"done": 1})
    return BEHAVIOURS[request["behave"]](request)


def _work(request: Payload) -> Payload:
    print("noise of a library")  # noqa: T201  # what this test is about
    return {"answer": request["value"] * 2}


def _crash(_: Payload) -> Payload:
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError("unreachable")


def _crash_once(request: Payload) -> Payload:
    if len(Path(request["mark"]).read_text().splitlines()) == 1:
        _crash(request)
    return _work(request)


def _raise(_: Payload) -> Payload:
    raise ValueError("a bug in the child")


def _hang(_: Payload) -> Payload:
    while True:
        time.sleep(60)


def _hang_once(request: Payload) -> Payload:
    if len(Path(request["mark"]).read_text().splitlines()) == 1:
        _hang(request)
    return _work(request)


def _devour(_: Payload) -> Payload:
    held: list[Any] = []
    while True:
        held.append(bytearray(64 * 2**20))


def _refuse(_: Payload) -> Payload:
    raise JobFailed("insufficient_data", "expected 100 rows, got 3")


BEHAVIOURS = {
    "work": _work,
    "crash": _crash,
    "crash_once": _crash_once,
    "raise": _raise,
    "hang": _hang,
    "hang_once": _hang_once,
    "devour": _devour,
    "refuse": _refuse,
}

if __name__ == "__main__":
    answer(behave)
