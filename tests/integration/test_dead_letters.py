"""`modelbus dead-letters`: a person finds out what was wrong, and no record can play tricks on the terminal."""

import re

import pytest
from typer.testing import CliRunner

from cli import dead_letters
from compose.embedded.stack import Stack
from schemas.topics import DEAD_LETTERS
from shared.dead_letters import DeadLetter, Headers, Origin, Reason
from shared.kafka import control_topics, ensure_topics
from shared.settings import KafkaSettings
from tests.integration import ingestor_parts as parts

pytestmark = pytest.mark.stack
WIDE = {"COLUMNS": "200"}
NASTY = b'{"id": "\x1b[2J\xff"'


def park(
    stream: str, offset: int, value: bytes, reason: Reason = "rejected", *, times: int = 1, headers: Headers = ()
) -> None:
    origin = Origin(topic=f"data.{stream}", partition=1, offset=offset, timestamp_ms=0)
    letter = DeadLetter(
        origin=origin,
        service="ingestor",
        reason=reason,
        error=f"record {offset}: [red]expected\x1b[31m a number[/red]",
        attempts=1,
        original_headers=[("sent-by", b"a [bold]producer")],
    )
    writer = parts.producer()
    for _ in range(times):
        writer.produce(DEAD_LETTERS, key=b"N1", value=value, headers=[*letter.headers(), *headers])
    assert writer.flush(30) == 0


@pytest.fixture
async def stream(stack: Stack) -> str:
    """Three parked records, one of them parked twice."""
    await ensure_topics(KafkaSettings(), control_topics(KafkaSettings()))
    name = parts.stream_spec().stream
    park(name, 7, b"{}", times=2)
    park(name, 8, NASTY, "poison")
    park(name, 9, b"x" * 10_000)
    return name


def run(*arguments: str) -> str:
    result = CliRunner(env=WIDE).invoke(dead_letters.app, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_record_is_listed_once_however_often_it_was_parked(stream: str) -> None:
    output = run("list", "--stream", stream)

    assert re.findall(rf"data\.{stream}/1/(\d)", output) == ["7", "8", "9"]
    assert "3 of 3 records" in output


def test_the_list_is_narrowed_by_reason_stream_and_limit(stream: str) -> None:
    poison = run("list", "--stream", stream, "--reason", "poison")
    newest = run("list", "--stream", stream, "--limit", "1")

    assert re.findall(rf"data\.{stream}/1/(\d)", poison) == ["8"]
    assert re.findall(rf"data\.{stream}/1/(\d)", newest) == ["9"]
    assert "1 of 3 records" in newest
    assert "0 of 0 records" in run("list", "--stream", "another")


def test_a_letter_is_shown_by_its_place_and_by_its_record(stream: str) -> None:
    listed = run("list", "--stream", stream, "--reason", "poison")
    place = re.search(r"^(\d+/\d+)", listed, re.MULTILINE)
    assert place

    by_place, by_record = run("show", place[1]), run("show", f"data.{stream}/1/8")

    assert by_place == by_record
    assert "a [bold]producer" in by_place
    assert "poison" in by_place


def test_control_characters_and_broken_bytes_are_escaped(stream: str) -> None:
    output = run("show", f"data.{stream}/1/8") + run("list", "--stream", stream)

    assert "\x1b" not in output
    assert r'{"id": "\x1b[2J\xff"' in output
    assert r"[red]expected\x1b[31m a number[/red]" in output


def test_a_long_value_is_cut_and_says_so(stream: str) -> None:
    output = run("show", f"data.{stream}/1/9")

    assert "6000 more characters, 10000 bytes in all" in " ".join(output.split())


def test_a_value_that_was_cut_before_it_was_parked_says_its_size(stream: str) -> None:
    park(stream, 10, b"x", headers=[("dlq-truncated", b"2097152")])

    assert "the value as it was sent had 2097152 bytes" in run("show", f"data.{stream}/1/10")
    assert "as it was sent" not in run("show", f"data.{stream}/1/9")


def test_a_letter_that_is_not_there_is_an_error(stream: str) -> None:
    result = CliRunner().invoke(dead_letters.app, ["show", "0/999999999"])

    assert result.exit_code == 1
    assert "there is no dead letter" in result.output
