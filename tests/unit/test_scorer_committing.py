"""A commit that never ends ends the process: nobody may wait for it for longer than it can take."""

import threading

import pytest

from services.deployer.committing import Commits, Package
from shared.errors import Fatal
from shared.settings import KafkaSettings


class Hanging(Commits):
    """As the client's call does that forgets its time-out."""

    def __init__(self) -> None:
        super().__init__(KafkaSettings(bootstrap_servers="127.0.0.1:1"), {"log_level": 0}, timeout_seconds=0)
        self.released = threading.Event()

    def open(self) -> None: ...

    def begin(self, package: Package) -> None: ...

    def commit(self, package: Package) -> bool:
        return self.released.wait(10)


def test_a_commit_that_comes_to_no_end_is_fatal() -> None:
    commits = Hanging()
    commits.submit(Package(envelopes=[], offsets=[]))

    with pytest.raises(Fatal, match="no end"):
        commits.settle()

    commits.released.set()
    commits.close()
