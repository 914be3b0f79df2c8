"""The child's end of a job: one JSON request on stdin, JSON lines on stdout, the log on stderr.

Lines are {"progress": {…}}, then {"result": {…}} or {"failed": {"reason": …, "explanation": …}}. A child that says
neither has crashed. Light to import, as every child pays for it.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

Payload = dict[str, Any]
Progress = Callable[[Payload], None]


class JobFailed(Exception):
    """The job cannot succeed, however often it is tried; `reason` is one of those that its event knows."""

    def __init__(self, reason: str, explanation: str) -> None:
        super().__init__(f"{reason}: {explanation}")
        self.reason, self.explanation = reason, explanation


def answer(work: Callable[[Payload, Progress], Payload]) -> None:
    """Do the one job that stands on stdin; returns when its outcome is written."""
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1, encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print must not break the protocol

    def say(kind: str, payload: Payload) -> None:
        lines.write(json.dumps({kind: payload}, allow_nan=False) + "\n")

    request: Payload = json.load(sys.stdin)
    try:
        say("result", work(request, lambda payload: say("progress", payload)))
    except JobFailed as failure:
        say("failed", {"reason": failure.reason, "explanation": failure.explanation})
    except MemoryError as error:
        say("failed", {"reason": "out_of_memory", "explanation": f"the memory limit was reached: {error}"})
