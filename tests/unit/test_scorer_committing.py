"""Who produces what a batch comes to, and when; and a commit that never ends ends the process."""

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from confluent_kafka import KafkaException

from services.deployer.committing import Commits, Package
from services.deployer.predictions import Output
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


def output(value: bytes) -> Output:
    return ("topic", value, b"key", 0, None, None, 0, [])


@dataclass
class Client:
    """What was handed over, and by which thread; it refuses `bad`."""

    got: list[tuple[bytes, str]] = field(default_factory=list)
    came: threading.Event = field(default_factory=threading.Event)

    def produce(self, outputs: Iterable[Output]) -> None:
        for each in outputs:
            if each[1] == b"bad":
                raise KafkaException("refused")
            self.got.append((each[1], threading.current_thread().name))
        self.came.set()


class Unmade:
    """Outputs of which the second cannot be made."""

    def __iter__(self) -> Iterator[Output]:
        yield output(b"1")
        raise ValueError("not made")


class Waited(threading.Event):
    """An event that says when somebody begins to wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.begun.set()
        return super().wait(timeout)


@contextmanager
def taking(package: Package, client: Client) -> Iterator[Future[bool]]:
    """Another thread takes what is added here; numbers from 1 on have been added until one came through."""
    with ThreadPoolExecutor(1) as taker:
        taken = taker.submit(package.take, client.produce, 20)
        for number in range(1, 10_000):
            package.add([output(b"%d" % number)])
            if client.came.wait(0.001):
                break
        yield taken


@contextmanager
def taken_once_waited_for(package: Package, client: Client) -> Iterator[Future[bool]]:
    """Another thread takes it, but not before somebody waits for that."""
    package._taken = waited_for = Waited()

    def take() -> bool:
        assert waited_for.begun.wait(20)
        return package.take(client.produce, 20)

    with ThreadPoolExecutor(1) as taker:
        yield taker.submit(take)


def test_what_was_added_before_it_may_be_produced_is_produced_with_the_next_part_by_who_adds_that() -> None:
    package, client, here = Package(envelopes=[], offsets=[]), Client(), threading.current_thread().name
    package.add([output(b"first"), output(b"second")])

    with taking(package, client) as taken:
        package.add([output(b"last")])
        package.end()

        assert taken.result(20)
    [first, second, *numbers, last] = client.got
    assert [first, second, last] == [(b"first", here), (b"second", here), (b"last", here)]
    assert numbers == [(b"%d" % each, here) for each in range(1, len(numbers) + 1)]


def test_what_has_ended_is_produced_by_who_takes_it_and_again_from_the_first_on() -> None:
    package, client, here = Package(envelopes=[], offsets=[]), Client(), threading.current_thread().name
    package.add([output(b"1"), output(b"2")])
    package.end()

    assert package.take(client.produce)
    assert package.take(client.produce)

    assert client.got == 2 * [(b"1", here), (b"2", here)]


def test_whoever_waits_for_its_commit_to_begin_produces_all_of_it() -> None:
    package, client, here = Package(envelopes=[], offsets=[]), Client(), threading.current_thread().name
    package.add([output(b"1"), output(b"2")])

    with taken_once_waited_for(package, client) as taken:
        package.end(20)

        assert client.got == [(b"1", here), (b"2", here)]
        assert taken.result(20)


def test_nobody_waits_for_a_commit_that_does_not_come_to_take_it() -> None:
    commits, package, client = Scripted(), Package(envelopes=[], offsets=[]), Client()
    commits.submit(package)

    package.add([output(b"1")])
    with ThreadPoolExecutor(1) as answering:
        answering.submit(package.end, 60).result(30)
    commits.close()

    with pytest.raises(Fatal, match="not known"):
        commits.settle()
    assert client.got == []


def test_nothing_is_produced_once_it_was_not_waited_for_any_longer() -> None:
    package, client = Package(envelopes=[], offsets=[]), Client()

    assert not package.take(client.produce, 0.01)
    package.add([output(b"late")])

    assert client.got == []


def test_what_is_to_be_done_meanwhile_is_done_while_outputs_are_produced() -> None:
    package, client = Package(envelopes=[], offsets=[]), Client()

    def add() -> None:
        package.add([output(b"meanwhile")])
        assert client.got
        package.end()

    assert package.take(client.produce, 0, meanwhile=add)
    assert [value for value, _ in client.got] == [b"meanwhile"]


def test_what_cannot_be_made_is_no_whole_package_to_who_takes_it() -> None:
    package, client = Package(envelopes=[], offsets=[]), Client()
    package.add(Unmade())  # type: ignore[arg-type]  # of no kind that there is

    with taken_once_waited_for(package, client) as taken:
        with pytest.raises(ValueError, match="not made"):
            package.end(20)

        with pytest.raises(ValueError, match="not made"):
            taken.result(20)


def test_nothing_is_produced_once_what_was_to_be_done_meanwhile_is_refused() -> None:
    package, client = Package(envelopes=[], offsets=[]), Client()

    def refuse() -> None:
        raise KafkaException("moved")

    with pytest.raises(KafkaException, match="moved"):
        package.take(client.produce, 20, meanwhile=refuse)
    package.add([output(b"late")])
    package.end(20)

    assert client.got == []


def test_what_the_client_refuses_from_who_adds_is_told_at_once_to_who_takes() -> None:
    package, client = Package(envelopes=[], offsets=[]), Client()

    with taking(package, client) as taken:
        package.add([output(b"bad")])
        package.add([output(b"behind")])

        with pytest.raises(KafkaException, match="refused"):
            taken.result(20)
    assert not {b"bad", b"behind"} & {value for value, _ in client.got}


def test_what_the_client_refuses_from_who_takes_is_told_to_it() -> None:
    package, client = Package(envelopes=[], offsets=[]), Client()
    package.add([output(b"bad")])
    package.end()

    with pytest.raises(KafkaException, match="refused"):
        package.take(client.produce)


def test_nothing_is_committed_behind_what_is_not_known_to_be() -> None:
    commits = Scripted()
    commits.submit(Package(envelopes=[], offsets=[]))
    commits.submit(Package(envelopes=[], offsets=[]))

    with pytest.raises(Fatal, match="not known"):
        commits.settle()
    assert not commits.settle()

    assert commits.commits == 1
    commits.close()


def test_nothing_is_committed_here_behind_what_is_not_known_to_be() -> None:
    commits = Scripted()

    with pytest.raises(Fatal, match="not known"):
        commits.commit_here(Package(envelopes=[], offsets=[]))
    commits.commit_here(Package(envelopes=[], offsets=[]))

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
