"""`modelbus dead-letters redrive`: back to where it came from, byte for byte, and once, whoever is killed."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner, Result

from cli import dead_letters
from cli.letters import Letter, Wanted, read
from cli.redrive import look
from cli.redriver import Redriver
from compose.embedded.stack import Stack
from schemas.topics import DATA, DEAD_LETTERS
from services.registry.app import MIGRATIONS
from shared.dead_letters import REDRIVEN_FROM, DeadLetter, Origin, Reason
from shared.errors import Refusal
from shared.kafka import control_topics, ensure_topics, stream_topics
from shared.reading import Reader
from shared.settings import KafkaSettings
from tests.conftest import PoolFor
from tests.integration import ingestor_parts as parts
from tests.integration.registry_http import reachable
from tests.integration.registry_kit import declare
from tests.scoring_world import until

pytestmark = pytest.mark.stack
NASTY = b'{"id": "\x1b[2J\xff"'
HEADERS = [("sent-by", b"\xff\x00"), ("empty", b""), ("none", None), ("sent-by", b"again")]


def everything(topic: str) -> list[Any]:
    """Every committed record of a topic."""
    with Reader(KafkaSettings(), "tests") as reader:
        return [
            message
            for partition, span in reader.spans(topic).items()
            for batch in reader.read(topic, partition, *span)
            for message in batch
        ]


def copies(topic: str) -> Counter[str]:
    """How often each record of a topic was redriven."""
    said = (dict(message.headers() or ()) for message in everything(topic))
    return Counter(headers[REDRIVEN_FROM].decode() for headers in said if REDRIVEN_FROM in headers)


def marks(topic: str) -> Counter[str]:
    said = (dict(message.headers() or ()) for message in everything(DEAD_LETTERS))
    found = (
        headers for headers in said if "dlq-redriven-to" in headers and headers["dlq-origin-topic"].decode() == topic
    )
    return Counter(
        f"{topic}/{each['dlq-origin-partition'].decode()}/{each['dlq-origin-offset'].decode()}" for each in found
    )


class Parked:
    """A stream of its own, and what is parked of it."""

    def __init__(self) -> None:
        self.name = parts.stream_spec().stream
        self.topic = DATA.of(self.name)

    def park(
        self,
        offset: int,
        value: bytes | None = b"{}",
        key: bytes | None = b"N1",
        *,
        reason: Reason = "rejected",
        service: str = "ingestor",
        headers: Any = (),
        extra: Any = (),
    ) -> str:
        return self.park_many([offset], value, key, reason=reason, service=service, headers=headers, extra=extra)[0]

    def park_many(
        self,
        offsets: list[int],
        value: bytes | None = b"{}",
        key: bytes | None = b"N1",
        *,
        reason: Reason = "rejected",
        service: str = "ingestor",
        headers: Any = (),
        extra: Any = (),
    ) -> list[str]:
        writer: Producer = parts.producer()
        origins = [Origin(topic=self.topic, partition=1, offset=offset, timestamp_ms=0) for offset in offsets]
        for origin in origins:
            letter = DeadLetter(
                origin=origin, service=service, reason=reason, error="no", attempts=1, original_headers=headers
            )
            writer.produce(DEAD_LETTERS, key=key, value=value, headers=[*letter.headers(), *extra])
        assert writer.flush(30) == 0
        return [str(origin) for origin in origins]


@pytest.fixture
async def parked(stack: Stack) -> Parked:
    kafka, made = KafkaSettings(), Parked()
    await ensure_topics(kafka, [*control_topics(kafka), *stream_topics(kafka, made.name, 2)])
    return made


def run(*arguments: str, entered: str | None = None) -> Result:
    return CliRunner(env={"COLUMNS": "250"}).invoke(dead_letters.app, arguments, input=entered)


def redrive(*arguments: str) -> Result:
    """Where no registry is."""
    return run("redrive", "--yes", "--anyway", *arguments)


@pytest.mark.parametrize(("key", "value"), [(b"N1", NASTY), (None, b""), (b"", None)])
def test_a_record_comes_back_byte_for_byte_to_its_partition(
    parked: Parked, key: bytes | None, value: bytes | None
) -> None:
    origin = parked.park(7, value, key, headers=HEADERS)

    result = redrive("--stream", parked.name)

    assert result.exit_code == 0, result.output
    [copy] = everything(parked.topic)
    assert (copy.partition(), copy.key(), copy.value()) == (1, key, value)
    assert copy.headers() == [*HEADERS, (REDRIVEN_FROM, origin.encode())]
    assert marks(parked.topic) == {origin: 1}


def test_a_redriven_record_says_so_and_a_second_redrive_is_refused(parked: Parked) -> None:
    origin = parked.park(7)
    parked.park(7)
    first = redrive("--stream", parked.name, "--as", "ann")

    by_filter, by_name = redrive("--stream", parked.name), redrive("--origin", origin)

    assert first.exit_code == 0
    assert (by_filter.exit_code, by_name.exit_code) == (1, 1)
    assert f"{origin} was redriven before: " in by_name.output
    assert f"by ann to {parked.topic}/1/0" in by_name.output
    assert "a record is redriven once" in by_name.output
    assert copies(parked.topic) == {origin: 1}
    assert f"to {parked.topic}/1/0" in run("list", "--stream", parked.name).output
    assert "by ann to" in run("show", origin).output


def test_filters_narrow_what_is_redriven(parked: Parked) -> None:
    poison = parked.park(1, reason="poison")
    exhausted = parked.park(2, reason="exhausted", service="trainer")
    named, other = parked.park(3), parked.park(4)

    redrive("--topic", parked.topic, "--reason", "poison")
    assert copies(parked.topic) == {poison: 1}
    redrive("--topic", parked.topic, "--service", "trainer")
    assert copies(parked.topic) == {poison: 1, exhausted: 1}
    redrive("--origin", named)
    assert copies(parked.topic) == {poison: 1, exhausted: 1, named: 1}
    redrive("--topic", parked.topic, "--since", "2099-01-01")
    assert other not in copies(parked.topic)
    redrive("--topic", parked.topic, "--since", "1h")
    assert other in copies(parked.topic)


def test_a_dry_run_and_a_no_change_nothing(parked: Parked) -> None:
    parked.park(7, reason="poison")

    dry = run("redrive", "--stream", parked.name, "--anyway", "--dry-run")
    no = run("redrive", "--stream", parked.name, "--anyway", entered="n\n")

    assert (dry.exit_code, no.exit_code) == (0, 1)
    assert "1 record to redrive" in dry.output
    assert everything(parked.topic) == []


async def test_what_todays_declaration_would_refuse_again_is_said_and_left_out_unless_it_is_asked_for(
    parked: Parked, pool_for: PoolFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await pool_for("registry", [MIGRATIONS])
    await declare(pool, parts.stream_spec().model_copy(update={"stream": parked.name}))
    sound = parked.park(1, json.dumps(parts.data(1)).encode())
    wrong = parked.park(2, json.dumps(parts.data(2, time="noon")).encode())
    poison = parked.park(3, NASTY, reason="poison")
    halting = parked.park(4, NASTY, reason="exhausted")
    async with reachable(pool, monkeypatch):
        named = await asyncio.to_thread(run, "redrive", "--yes", "--origin", wrong)
        some = await asyncio.to_thread(run, "redrive", "--yes", "--origin", sound, "--origin", wrong)
        rest = await asyncio.to_thread(run, "redrive", "--yes", "--stream", parked.name)
    written = copies(parked.topic)
    asked_for = redrive("--origin", wrong, "--origin", wrong)

    assert [each.exit_code for each in (named, some, rest, asked_for)] == [1, 1, 0, 0]
    assert "--anyway takes along what would die again" in named.output
    assert "1 of those named were not" in some.output
    assert "1 record to redrive; 1 redriven before; 2 left out, as they would die again" in rest.output
    for name in (wrong, poison):
        assert f"{name} is left out, as it would die again: " in rest.output
    assert written == {sound: 1, halting: 1}
    assert copies(parked.topic) == {sound: 1, halting: 1, wrong: 1}


def test_without_the_registry_nothing_is_redriven_unless_nobody_is_to_be_asked(parked: Parked) -> None:
    origin = parked.park(7)

    refused, asked_for = run("redrive", "--yes", "--stream", parked.name), redrive("--stream", parked.name)

    assert (refused.exit_code, asked_for.exit_code) == (1, 0)
    assert "without the registry nobody can tell what would die again" in refused.output
    assert copies(parked.topic) == {origin: 1}


def test_a_record_that_dies_again_names_its_letter_and_may_be_redriven_again(parked: Parked) -> None:
    first = parked.park(7, headers=[("a", b"1")])
    redrive("--stream", parked.name)
    [copy] = everything(parked.topic)
    second = parked.park(copy.offset(), headers=copy.headers())

    shown = run("show", second)
    result = redrive("--stream", parked.name)

    assert first in shown.output
    assert result.exit_code == 0, result.output
    assert everything(parked.topic)[1].headers() == [("a", b"1"), (REDRIVEN_FROM, second.encode())]


def test_every_header_of_a_record_is_shown_and_very_many_or_long_ones_are_counted(parked: Parked) -> None:
    few, many = parked.park(1, headers=HEADERS), parked.park(2, headers=[("x", b"y" * 1000)] * 100)

    shown, of_many = run("show", few).output, run("show", many).output

    assert [shown.count(each) for each in ("header sent-by", "\\xff\\x00", "again", "header none")] == [2, 1, 1, 1]
    assert ("60 more" in of_many, len(of_many) < 40_000) == (True, True)


def test_a_cut_record_and_one_that_is_not_there_are_refused_in_words(parked: Parked) -> None:
    cut = parked.park(7, extra=[("dlq-truncated", b"2000000")])

    of_cut, of_nothing = redrive("--origin", cut), redrive("--origin", f"{parked.topic}/0/99")

    assert "its value was cut" in of_cut.output
    assert (of_cut.exit_code, of_nothing.exit_code) == (1, 1)
    assert "there is no dead letter of" in of_nothing.output
    assert everything(parked.topic) == []


def test_who_redrove_before_is_fenced_by_who_comes_later(parked: Parked) -> None:
    origin = parked.park(7)
    [letter] = [each for each in read() if isinstance(each, Letter) and each.name == origin]
    earlier = Redriver(KafkaSettings(), "ann")
    later = Redriver(KafkaSettings(), "bob")

    with pytest.raises(Refusal, match="another redrive has begun"):
        earlier.redrive([letter])
    later.redrive([letter])

    assert look(Wanted(origins=[origin])).before[origin].by == "bob"
    assert copies(parked.topic) == {origin: 1}


def command(*arguments: str) -> "subprocess.Popen[bytes]":
    program = [sys.executable, "-m", "cli.main", "dead-letters", "redrive", "--yes", "--anyway", *arguments]
    return subprocess.Popen(program, env=os.environ.copy(), stdout=subprocess.DEVNULL)


def assert_both_or_neither(parked: Parked) -> int:
    found = copies(parked.topic)
    assert set(found.values()) <= {1}
    assert found == marks(parked.topic)
    return len(found)


@pytest.mark.parametrize("seed", [3, 4])
async def test_killed_in_the_middle_a_record_has_both_its_copy_and_its_mark_or_neither(
    parked: Parked, seed: int
) -> None:
    rng = random.Random(seed)
    origins = parked.park_many(list(range(6000)), b"x" * 300)
    first = command("--stream", parked.name)
    await until(lambda: bool(copies(parked.topic)) or first.poll() is not None, every=rng.random() / 20)
    first.send_signal(signal.SIGKILL)
    first.wait()
    done = assert_both_or_neither(parked)

    result = redrive("--stream", parked.name)

    assert result.exit_code == 0 or done == len(origins), result.output
    assert assert_both_or_neither(parked) == len(origins)


async def test_of_two_at_a_time_each_record_is_redriven_by_one(parked: Parked) -> None:
    origins = parked.park_many(list(range(3000)))

    pair = [command("--stream", parked.name) for _ in range(2)]
    codes = [await asyncio.to_thread(process.wait, 120) for process in pair]

    assert 0 in codes
    assert assert_both_or_neither(parked) == len(origins)
