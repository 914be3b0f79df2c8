"""Every record of a topic becomes one row, or one dead letter with its bytes untouched."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from compose.embedded.stack import Stack
from schemas.specs import StreamSpec
from schemas.topics import MAX_RECORD_BYTES
from shared.records import MAX_EVENT_BYTES
from shared.settings import S3Settings
from shared.tables import Tables
from tests import latin_client
from tests.integration import ingestor_parts as parts

pytestmark = pytest.mark.stack

BAD: dict[str, tuple[bytes | None, str]] = {
    "malformed": (b'{"id": "x", "entity": ', "poison"),
    "not UTF-8": (b'{"id": "\xff"}', "poison"),
    "not a number": (json.dumps(parts.data(1)).replace("1.5", "NaN").encode(), "poison"),
    "no value": (None, "poison"),
    "wrong type": (json.dumps(parts.data(2, features={"distance": "far"})).encode(), "rejected"),
    "unknown feature": (json.dumps(parts.data(3, features={"weight": 3.0})).encode(), "rejected"),
    "out of range": (json.dumps(parts.data(4, features={"distance": 9e9})).encode(), "rejected"),
    "beyond float64": (json.dumps(parts.data(5)).replace("1.5", "1e999").encode(), "rejected"),
    "no time zone": (json.dumps(parts.data(6, time="2013-01-01T00:00:00")).encode(), "rejected"),
    "no calendar year": (json.dumps(parts.data(7, time="0001-01-01T00:00:00+14:00")).encode(), "rejected"),
    "no id": (json.dumps(parts.data(8, id="")).encode(), "rejected"),
    "oversized": (json.dumps(parts.data(9, id="x" * MAX_EVENT_BYTES)).encode(), "rejected"),
}
BOMB = bytes(2 * MAX_RECORD_BYTES)  # small enough for the broker while it is compressed
ODD = {
    "repeated": (b"N20", parts.data(20)),
    "keyless": (None, parts.data(21)),
    "keyed otherwise": (b"somebody", parts.data(22)),
    "far in the future": (b"N23", parts.data(23, time="2099-01-01T00:00:00Z")),
    "out of order": (b"N24", parts.data(24, time="2012-01-01T00:00:00+02:00")),
    "unseen category": (b"N25", parts.data(25, features={"carrier": "ZZ"})),
    "out of range, flagged": (b"N26", parts.data(26, features={"delay": 1e6})),
    "nothing known": (b"N27", parts.data(27, features={})),
}


@dataclass(frozen=True)
class Ingested:
    """What was sent to one stream, once the ingestor had read all of it."""

    spec: StreamSpec
    rows: list[dict[str, object]]
    log: Path


@pytest.fixture(scope="module")
async def ingested(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Ingested:
    spec = await parts.apply(parts.stream_spec(partitions=1))
    topic, writer = f"data.{spec.stream}", parts.producer()
    for name, (value, _) in BAD.items():
        writer.produce(topic, key=f"bad {name}".encode(), value=value, headers=[("sent-by", name.encode())])
    for key, record in [ODD["repeated"], *ODD.values()]:
        writer.produce(topic, key=key, value=json.dumps(record).encode())
    assert writer.flush(30) == 0
    compressing = parts.producer(**{"message.max.bytes": 2 * len(BOMB), "compression.type": "zstd"})
    compressing.produce(topic, key=b"bomb", value=BOMB, headers=[("sent-by", b"bomber")])
    assert compressing.flush(30) == 0
    latin_client.send(topic, b"latin", b"no JSON")

    log = tmp_path_factory.mktemp("ingestor") / "log"
    with parts.ingestor(log):
        parts.until(lambda: parts.committed(f"data/{spec.stream}"))
        parts.until(lambda: parts.holds("data", spec.stream, parts.ends(topic, 1)))
    rows = Tables(S3Settings()).read("data", spec.stream, None).sort_by("offset").to_pylist()
    return Ingested(spec, rows, log)


@pytest.fixture(scope="module")
def row(ingested: Ingested) -> dict[object, dict[str, object]]:
    return {row["id"]: row for row in ingested.rows}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_is_parked_with_its_bytes_key_and_headers_untouched(ingested: Ingested, name: str) -> None:
    value, reason = BAD[name]

    letter = parts.letters(f"data.{ingested.spec.stream}")[0, list(BAD).index(name)]

    headers = dict(letter.headers())
    assert letter.value() == value
    assert letter.key() == f"bad {name}".encode()
    assert headers["sent-by"] == name.encode()
    assert headers["dlq-reason"] == reason.encode(), headers["dlq-error"]
    assert headers["dlq-service"] == b"ingestor"
    assert headers["dlq-error"]
    assert "dlq-truncated" not in headers


def test_a_record_larger_than_any_letter_is_parked_with_what_fits_of_it(ingested: Ingested) -> None:
    letter = parts.letters(f"data.{ingested.spec.stream}")[0, len(BAD) + len(ODD) + 1]

    headers = dict(letter.headers())
    assert BOMB.startswith(letter.value())
    assert MAX_RECORD_BYTES < len(letter.value()) < len(BOMB)
    assert (letter.key(), headers["sent-by"], headers["dlq-reason"]) == (b"bomb", b"bomber", b"rejected")
    assert headers["dlq-truncated"] == str(len(BOMB)).encode()
    assert headers["dlq-sha256"] == hashlib.sha256(BOMB).hexdigest().encode()


def test_a_record_with_a_header_that_no_client_of_ours_can_read_is_parked_without_headers(ingested: Ingested) -> None:
    letter = parts.letters(f"data.{ingested.spec.stream}")[0, len(BAD) + len(ODD) + 2]

    assert (letter.key(), letter.value()) == (b"latin", b"no JSON")
    assert {name for name, _ in letter.headers() if not name.startswith("dlq-")} == set()
    assert dict(letter.headers())["dlq-reason"] == b"poison"


def test_every_other_record_has_one_row_at_its_place(ingested: Ingested) -> None:
    assert [row["offset"] for row in ingested.rows] == list(range(len(BAD), len(BAD) + len(ODD) + 1))
    assert {row["partition"] for row in ingested.rows} == {0}


def test_repeats_are_kept_for_the_trainer_to_drop(ingested: Ingested) -> None:
    assert [row["id"] for row in ingested.rows].count("e20") == 2


def test_keyless_and_foreign_keys_are_accepted(row: dict[str, dict[str, object]]) -> None:
    assert row["e21"]["entity"] == "N21"
    assert row["e22"]["entity"] == "N22"


def test_implausible_times_are_accepted_and_told_in_utc(row: dict[str, dict[str, object]]) -> None:
    assert str(row["e23"]["time"]) == "2099-01-01 00:00:00+00:00"
    assert str(row["e24"]["time"]) == "2011-12-31 22:00:00+00:00"


def test_odd_values_are_kept_as_sent_and_flagged(row: dict[str, dict[str, object]]) -> None:
    assert (row["e25"]["f_carrier"], row["e25"]["flags"]) == ("ZZ", ["unseen:carrier"])
    assert (row["e26"]["f_delay"], row["e26"]["flags"]) == (1e6, ["out_of_range:delay"])
    assert (row["e27"]["f_distance"], row["e27"]["f_night"], row["e27"]["flags"]) == (None, None, [])


def test_the_announcement_counts_what_was_accepted_and_refused(ingested: Ingested) -> None:
    said = list(parts.committed(f"data/{ingested.spec.stream}").values())

    assert sum(event.rows_added for event in said) == said[-1].rows_total == len(ODD) + 1
    assert sum(event.rejected for event in said) == len(BAD) + 2
    assert said[-1].offsets == {0: len(BAD) + len(ODD) + 3}
    assert sum(event.profile["carrier"].flagged for event in said if event.profile) == 1


def test_a_commit_is_the_root_of_the_trace_in_which_it_is_announced(stack: Stack, ingested: Ingested) -> None:
    api = stack.environment["OTEL_EXPORTER_ZIPKIN_ENDPOINT"].removesuffix("/spans")
    name = f"commit data/{ingested.spec.stream}"

    traces = parts.until(lambda: httpx.get(f"{api}/traces", params={"spanName": name, "limit": 100}).json())

    for trace in traces:
        (root,) = [span for span in trace if "parentId" not in span]
        said = [span for span in trace if span["name"] == "publish lifecycle.ingestor"]
        assert root["name"] == name
        assert [span["parentId"] for span in said] == [root["id"]]
