"""A scorer's turn: what is taken at once, and what is answered while the transaction before it commits."""

import dataclasses
import time
from collections import deque
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import Message, TopicPartition

from schemas.topics import DATA, PREDICTIONS
from services.deployer.committing import Package
from services.deployer.decoding import ColumnDecoder
from services.deployer.domain.portion import Portion
from services.deployer.places import Place, Where
from services.deployer.predictions import Output
from services.deployer.serving import Known, Serving, Version
from services.deployer.settings import ScorerSettings
from services.deployer.stream import GUARANTEES, Guarantee, Stream
from shared.runtime import Model
from shared.settings import KafkaSettings
from tests.scoring_world import changed, model_spec, release_of, stream_spec, trained, wrapped

BATCH = 10
MODELS = ("a", "b", "c")
STREAM = stream_spec("s")
WHERE = DATA.of("s"), 0


class Consumer:
    """Holds records; `asked` is the most that was asked for at once."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.left = deque(record(offset) for offset in range(count))
        self.asked = 0

    def seek(self, place: TopicPartition) -> None:
        self.left = deque(record(offset) for offset in range(place.offset, self.count))

    def poll(self, seconds: float) -> Message | None:
        return self.left.popleft() if self.left else None

    def consume(self, most: int, seconds: float) -> list[Message]:
        self.asked = max(self.asked, most + 1)
        return [self.left.popleft() for _ in range(min(most, len(self.left)))]

    def consumer_group_metadata(self) -> object:
        return object()


class Commits:
    """Commits nothing until it is asked to settle; `told` is what happened, in order."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.submitted: list[Package] = []
        self.outputs: list[Output] = []
        self.patience: list[float] = []  # of who ends a package, in seconds
        self.refused, self.refusing = 0, False  # so many packages are, from now on
        self.full: list[bool] = []

    def submit(self, package: Package) -> None:
        self.told.append("begins")
        self.submitted.append(package)
        self.full.append(package.full)
        end = package.end

        def noted(seconds: float) -> None:
            self.patience.append(seconds)
            end()  # it is taken when it is settled: nobody is to wait for that

        package.end = noted  # type: ignore[assignment, method-assign]

    def commit_here(self, package: Package) -> None:
        self.told.append("ended")
        assert package.take(lambda _: None, 0)
        self.submitted.append(package)

    def settle(self) -> bool:
        package = self.submitted.pop(0)
        if self.refused or self.refusing:
            if not self.refusing:
                self.refused -= 1
            self.refusing = bool(self.submitted)  # what was consumed after it is refused with it
            self.told.append("refused")
            return False
        assert package.take(self.outputs.extend, 0)
        self.told.append("committed")
        return True

    def drain(self) -> bool:
        return True


def record(offset: int) -> Message:
    value = b'{"id":"e%d","entity":"m","time":"2013-01-01T00:00:00Z","features":{"heat":1,"weight":1,"colour":"red"}}'
    fields: dict[str, Any] = {"topic": WHERE[0], "partition": 0, "offset": offset, "key": b"m", "headers": []}
    return Message(value=value % offset, **fields)


def serving(model: str) -> Serving:
    spec = model_spec(model, "s")
    release = release_of(1, spec, STREAM)
    event = changed(1, release)
    version = Version(release=release, model=Model(trained(1), release.candidate.signature))
    return Serving(changed=event, said=wrapped(event, "said"), champion=version, challenger=None)


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Stream:
    """Owns a partition of 25 records and serves three models."""
    known = Known(
        streams={"s": STREAM}, models=dict.fromkeys(MODELS, "s"), serving={model: serving(model) for model in MODELS}
    )
    view: Any = SimpleNamespace(known=known, asides=SimpleNamespace(empty=lambda: True))
    made = Stream(
        kafka=KafkaSettings(bootstrap_servers="127.0.0.1:1"),
        settings=ScorerSettings(batch_records=BATCH),
        slot=0,
        view=view,
        guarantee="exactly_once",
    )
    monkeypatch.setattr(made, "_consumer", Consumer(25))
    monkeypatch.setattr(made, "_commits", Commits())
    monkeypatch.setattr(made, "_subscribed", frozenset({WHERE[0]}))
    monkeypatch.setattr(made, "_places", {WHERE: Place(position=0, revisions=dict.fromkeys(MODELS, 1))})
    return made


def test_a_full_batch_is_answered_while_the_one_before_it_commits_and_a_small_one_waits(stream: Stream) -> None:
    commits: Any = stream._commits

    for _ in range(4):
        stream._turn()

    assert commits.told == ["begins", "begins", "committed", "committed", "begins", "committed"]
    assert commits.patience == [10, 10, 0]
    assert commits.full == [True, True, False]
    assert stream._places[WHERE].position == 25


def test_without_a_transaction_a_small_batch_is_delivered_when_it_has_ended(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_guarantee", "at_least_once")
    commits: Any = stream._commits

    for _ in range(3):
        stream._turn()

    assert commits.told == ["begins", "begins", "committed", "committed", "ended", "committed"]
    assert len(commits.outputs) == 25 * len(MODELS)


def test_no_more_is_taken_at_once_than_is_allowed_and_all_is_answered_in_order(stream: Stream) -> None:
    commits: Any = stream._commits
    consumer: Any = stream._consumer

    for _ in range(4):
        stream._turn()

    assert consumer.asked == BATCH
    for model in MODELS:
        found = [output[1] for output in commits.outputs if output[0] == PREDICTIONS.of(model)]
        assert [b'"event_id":"e%d"' % offset in value for offset, value in enumerate(found)] == [True] * 25


@pytest.fixture
def rested(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it rested after each refusal, by a clock that goes on only then; what is committed is its beginning."""
    clock, rested = SimpleNamespace(now=100.0), [0.0]

    def rest() -> None:
        clock.now += 0.01
        rested[-1] += 0.01

    def places(consumer: object, wheres: Sequence[Where]) -> dict[Where, Place]:
        rested.append(0.0)  # of the refusal to come
        return {where: Place(position=0, revisions=dict.fromkeys(MODELS, 1)) for where in wheres}

    clocks = SimpleNamespace(monotonic=lambda: clock.now, perf_counter=time.perf_counter)
    monkeypatch.setattr("services.deployer.stream.time", clocks)
    monkeypatch.setattr("services.deployer.stream.read_places", places)
    monkeypatch.setattr(stream, "_rest", rest)
    return rested


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_what_is_refused_is_answered_again_from_where_it_stands_committed_and_seldom_when_it_stays_so(
    stream: Stream, rested: list[float], guarantee: Guarantee, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_guarantee", guarantee)
    commits: Any = stream._commits
    commits.refused = 8

    for _ in range(20):
        stream._turn()

    assert rested == pytest.approx([0, 0.1, 0.2, 0.4, 0.8, 1, 1, 1, 0], abs=0.02)
    assert commits.refused == 0
    found = [output[1] for output in commits.outputs if output[0] == PREDICTIONS.of("a")]
    assert [b'"event_id":"e%d"' % offset in value for offset, value in enumerate(found)] == [True] * 25


def test_what_is_read_already_goes_on_after_a_refusal_while_another_model_is_awaited(
    stream: Stream, rested: list[float]
) -> None:
    commits: Any = stream._commits
    view: Any = stream._view
    view.known = dataclasses.replace(view.known, models={**view.known.models, "new": "s"}, awaited=frozenset({"new"}))
    assert view.known.awaits("s")
    commits.refused = 1

    for _ in range(6):
        stream._turn()

    assert len(commits.outputs) == 25 * len(MODELS)


def test_models_of_a_stream_decode_it_once(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    decode = ColumnDecoder.decode

    def counted(self: ColumnDecoder, values: Any) -> Any:
        decoded.append(len(values))
        return decode(self, values)

    monkeypatch.setattr(ColumnDecoder, "decode", counted)

    for _ in range(4):
        stream._turn()

    assert sum(decoded) == 25


def test_a_slow_model_gets_fewer_records_at_once_and_never_none() -> None:
    portion, sizes = Portion(most=1000), []

    for _ in range(12):
        portion.took(portion.size * 0.012)
        sizes.append(portion.size)
    for _ in range(12):
        portion.took(portion.size * 3.0)
    assert sizes[-1] == sizes[-2] == 62
    assert portion.size == 1
    for _ in range(12):
        portion.took(portion.size * 0.00001)
    assert portion.size == 1000


def test_what_is_taken_at_once_follows_what_is_scored_at_once(stream: Stream) -> None:
    consumer: Any = stream._consumer
    commits: Any = stream._commits
    stream._portion = Portion(most=1)

    for _ in range(7):
        stream._turn()

    assert consumer.asked == 5
    assert len(commits.outputs) == 25 * len(MODELS)
