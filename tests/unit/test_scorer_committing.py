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

    def commit(self, package: Package) -> bool:
        return self.released.wait(10)


class Scripted(Commits):
    """Its first commit raises."""

    def __init__(self) -> None:
        super().__init__(KafkaSettings(bootstrap_servers="127.0.0.1:1"), {"log_level": 0}, timeout_seconds=1)
        self.commits = 0

    def open(self) -> None: ...

    def commit(self, package: Package) -> bool:
        self.commits += 1
        if self.commits == 1:
            raise Fatal("not known")
        return True


def test_nothing_is_committed_behind_what_is_not_known_to_be() -> None:
    commits = Scripted()
    commits.submit(Package(envelopes=[], offsets=[]))
    commits.submit(Package(envelopes=[], offsets=[]))

    with pytest.raises(Fatal, match="not known"):
        commits.settle()
    assert not commits.settle()

    assert commits.commits == 1
    commits.close()


def test_a_commit_that_comes_to_no_end_is_fatal() -> None:
    commits = Hanging()
    commits.submit(Package(envelopes=[], offsets=[]))

    with pytest.raises(Fatal, match="no end"):
        commits.settle()

    commits.released.set()
    commits.close()
