"""What the ingestor decides: which records are rows, what a commit holds, and which rows must be dropped."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from schemas.specs import BoolFeature, CategoryFeature, FloatFeature, Label, StreamSpec
from schemas.topics import DEAD_LETTER_ROOM_BYTES, MAX_RECORD_BYTES
from services.ingestor.domain import profile
from services.ingestor.domain.blocks import Refused, Taken, block_of
from services.ingestor.domain.buffer import Buffer, astray
from services.ingestor.domain.letters import LARGEST_BYTES, body_of
from services.ingestor.domain.patience import LONGEST_SECONDS, Patience
from services.ingestor.domain.rows import Reading, read_block, reader_of
from services.ingestor.domain.rows import read as read_blocks
from services.ingestor.domain.sources import Source, sources_of
from shared.dead_letters import DeadLetter, Headers, Origin
from shared.records import ENCODER, Prediction
from shared.tables import schema_of

SPEC = StreamSpec(
    stream="flights",
    entity="tailnum",
    features={
        "distance": FloatFeature(type="float", min=0, max=5000),
        "carrier": CategoryFeature(type="category", values=("UA", "AA"), sensitive=True),
        "night": BoolFeature(type="bool"),
    },
    label=Label(type="bool", delay=timedelta(hours=8)),
)
NOON = datetime(2013, 1, 1, 12, tzinfo=UTC)


def taken(offset: int, value: Any, *, key: bytes | None = b"N1", partition: int = 0) -> Taken:
    body = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
    return Taken(partition=partition, offset=offset, timestamp_ms=0, key=key, value=body)


def event(**features: object) -> dict[str, object]:
    return {"id": "e", "entity": "N1", "time": NOON.isoformat(), "features": features}


def read(kind: Any, records: list[Taken], spec: StreamSpec = SPEC) -> Reading:
    return read_blocks(reader_of(kind, spec, schema_of(kind, spec)), [block_of(records)])


class TestSources:
    def test_a_stream_has_two_topics_and_a_model_one(self) -> None:
        sources = sources_of(streams=[SPEC], models={"flight-delay": SPEC})

        assert {topic: source.table for topic, source in sources.items()} == {
            "data.flights": "data/flights",
            "labels.flights": "labels/flights",
            "predictions.flight-delay": "predictions/flight-delay",
        }

    def test_each_partition_has_its_own_transaction(self) -> None:
        assert Source(kind="labels", owner="flights", spec=SPEC).app_id(3) == "labels.flights/3"


class TestReading:
    def test_accepted_records_become_rows_with_their_places_and_the_refused_are_named(self) -> None:
        records = [
            taken(7, event(distance=5, carrier="UA", night=True)),
            taken(8, b"{"),
            taken(9, event(distance="far")),
            taken(2, event(distance=9000, carrier="ZZ"), partition=1),
        ]

        reading = read("data", records)

        assert reading.rows.select(
            ["partition", "offset", "flags", "f_distance", "f_carrier", "f_night"]
        ).to_pylist() == [
            {"partition": 0, "offset": 7, "flags": [], "f_distance": 5.0, "f_carrier": "UA", "f_night": True},
            {
                "partition": 1,
                "offset": 2,
                "flags": ["out_of_range:distance", "unseen:carrier"],
                "f_distance": 9000.0,
                "f_carrier": "ZZ",
                "f_night": None,
            },
        ]
        assert [(each.taken.offset, each.reason) for each in reading.refused] == [(8, "poison"), (9, "rejected")]

    def test_nothing_accepted_is_an_empty_table_without_a_profile(self) -> None:
        reading = read("data", [taken(0, None), taken(1, b"[]")])

        assert reading.rows.num_rows == 0
        assert (reading.time_min, reading.time_max, reading.profile) == (None, None, {})
        assert len(reading.refused) == 2

    def test_time_is_the_span_of_the_rows_in_utc(self) -> None:
        east = event() | {"time": "2013-01-01T12:00:00+05:00"}

        reading = read("data", [taken(0, event()), taken(1, east)])

        assert (reading.time_min, reading.time_max) == (NOON - timedelta(hours=5), NOON)

    @pytest.mark.parametrize(("key", "unkeyed"), [(b"N1", 0), (None, 1), (b"N2", 1)])
    def test_a_record_whose_key_is_not_its_entity_is_accepted_and_counted(
        self, key: bytes | None, unkeyed: int
    ) -> None:
        reading = read("data", [taken(0, event(), key=key)])

        assert (reading.rows.num_rows, reading.unkeyed) == (1, unkeyed)

    def test_labels_keep_their_type_and_show_the_class_balance(self) -> None:
        label = {"id": "e", "entity": "N1", "time": NOON.isoformat(), "label": True}

        reading = read(
            "labels", [taken(0, label), taken(1, label | {"label": 1.5}), taken(2, label | {"label": False})]
        )

        assert reading.rows["label"].to_pylist() == [True, False]
        assert reading.profile["label"].top == {"true": 1, "false": 1}
        assert [each.reason for each in reading.refused] == ["rejected"]

    @pytest.mark.parametrize("kind", ["data", "labels", "predictions"])
    def test_a_record_nested_beyond_what_can_be_read_is_poison_and_the_next_is_read(self, kind: str) -> None:
        nested = b'{"surprise": ' + b"[" * 1100 + b"]" * 1100 + b"}"

        reading = read(kind, [taken(0, nested), taken(1, b"[]")])

        assert [(each.taken.offset, each.reason) for each in reading.refused] == [(0, "poison"), (1, "rejected")]

    def test_predictions_of_a_class_keep_label_and_probabilities_as_text(self) -> None:
        prediction = Prediction(
            id="e@m:1",
            event_id="e",
            entity="N1",
            model="m",
            version=1,
            arm="champion",
            revision=4,
            partition=3,
            offset=99,
            score=0.75,
            label=True,
            time=NOON,
            probabilities={"true": 0.75, "false": 0.25},
        )

        reading = read("predictions", [taken(5, ENCODER.encode(prediction), partition=3), taken(6, b"?")])

        (row,) = reading.rows.to_pylist()
        assert (row["label"], row["probabilities"], row["flags"]) == ("true", '{"true":0.75,"false":0.25}', [])
        assert (row["partition"], row["offset"], row["input_partition"], row["input_offset"]) == (3, 5, 3, 99)
        assert [each.reason for each in reading.refused] == ["poison"]

    @pytest.mark.parametrize("time", [b"2013-01-01T12:00:00", b"0001-01-01T00:00:00+10:00"])
    def test_a_prediction_of_a_time_that_cannot_be_told_everywhere_is_refused(self, time: bytes) -> None:
        said = (
            b'{"id":"e@m:1","event_id":"e","entity":"N1","model":"m","version":1,"arm":"champion","revision":1,'
            b'"partition":0,"offset":0,"score":0.5,"label":true,"time":"%s"}'
        )

        reading = read("predictions", [taken(0, said % time), taken(1, said % b"2013-01-01T12:00:00Z")])

        assert [(each.taken.offset, each.reason) for each in reading.refused] == [(0, "rejected")]
        assert reading.rows["offset"].to_pylist() == [1]


class TestReadAsTaken:
    """What is read as it is taken comes to the same as what is read with its commit."""

    RECORDS = (
        taken(0, event(distance=5, carrier="UA", night=True)),
        taken(1, b"{"),
        taken(0, event(distance=7, carrier="AA"), partition=1, key=None),
        taken(2, event(distance="far")),
        taken(1, event(distance=6), partition=1),
        taken(2, b"[]", partition=1),
    )
    FLAGGED = taken(3, event(distance=9000), partition=1)  # good, but none that C reads
    MORE = (taken(3, event(distance=8)), taken(4, event(distance=3), partition=1))

    def reading(self, *, early: bool, flagged: bool = True, without: int | None = None) -> Reading:
        reader = reader_of("data", SPEC, schema_of("data", SPEC))
        buffer = Buffer()
        buffer.place(0, 0)
        buffer.place(1, 0)
        for records in ((*self.RECORDS, self.FLAGGED) if flagged else self.RECORDS, self.MORE):
            buffer.add(block_of(records), 0, (lambda block: read_block(reader, block)) if early else None)
        batch = buffer.cut()
        assert bool(batch.unread) is not early
        return read_blocks(reader, (batch if without is None else batch.without(without)).blocks)

    @pytest.mark.parametrize("flagged", [False, True])
    @pytest.mark.parametrize("without", [None, 0, 1])
    def test_all_of_it_and_when_a_partition_is_given_away(self, without: int | None, flagged: bool) -> None:
        early, late = (self.reading(early=each, flagged=flagged, without=without) for each in (True, False))

        assert early.rows.equals(late.rows)
        assert (early.refused, early.unkeyed, early.profile) == (late.refused, late.unkeyed, late.profile)
        distances = [(0, 5), (1, 7), (1, 6), *([(1, 9000)] if flagged else []), (0, 8), (1, 3)]
        assert late.rows["f_distance"].to_pylist() == [far for partition, far in distances if partition != without]

    def test_rows_of_an_earlier_declaration_lack_what_was_declared_since(self) -> None:
        wider = SPEC.model_copy(update={"features": SPEC.features | {"rain": BoolFeature(type="bool")}})
        before = read_block(reader_of("data", SPEC, schema_of("data", SPEC)), block_of([taken(0, event(distance=5))]))
        after = block_of([taken(1, event(distance=6, rain=True))])

        reading = read_blocks(reader_of("data", wider, schema_of("data", wider)), [before, after])

        assert reading.rows["f_rain"].to_pylist() == [None, True]
        assert reading.profile["rain"].missing == 1


class TestProfile:
    def test_missing_unseen_and_out_of_range_are_told_apart(self) -> None:
        records = [
            taken(0, event(distance=10, carrier="UA", night=True)),
            taken(1, event(distance=6000, carrier="ZZ")),
            taken(2, event(carrier="UA", night=False)),
            taken(3, event()),
        ]

        profiles = read("data", records).profile

        assert profiles["distance"].model_dump() == {
            "missing": 2, "flagged": 1, "min": 10, "max": 6000, "mean": 3005, "top": {}
        }  # fmt: skip
        assert (profiles["carrier"].missing, profiles["carrier"].flagged, profiles["carrier"].top) == (1, 1, {"UA": 2})
        assert (profiles["night"].missing, profiles["night"].top) == (2, {"false": 1, "true": 1})

    def test_a_mean_beyond_float64_is_left_out(self) -> None:
        assert profile.of_column(pa.chunked_array([[1.7e308, 1.7e308]])).mean is None

    def test_only_the_most_frequent_values_are_told(self) -> None:
        values = [str(number) for number in range(1000)] + ["9"] * 5

        top = profile.of_column(pa.chunked_array([values])).top

        assert (len(top), top["9"]) == (profile.MOST_VALUES, 6)


class TestBuffer:
    def test_rows_start_at_the_place_of_their_partition_not_at_the_first_record(self) -> None:
        buffer = Buffer()
        buffer.place(0, 100)

        buffer.add(block_of([taken(103, None)]), now=0)  # offsets below are control records of transactions

        batch = buffer.cut()
        assert (batch.starts, batch.nexts) == ({0: 100}, {0: 104})

    def test_partitions_without_waiting_records_take_no_part(self) -> None:
        buffer = Buffer()
        buffer.place(0, 0)
        buffer.place(1, 50)
        buffer.add(block_of([taken(0, None)]), now=0)

        assert buffer.places() == {0: 1, 1: 50}
        assert buffer.cut().starts == {0: 0}

    def test_records_without_a_place_or_below_it_are_not_taken_and_the_others_of_their_block_are(self) -> None:
        buffer = Buffer()
        buffer.place(0, 10)

        assert buffer.add(block_of([taken(9, None), taken(10, b"a"), taken(0, None, partition=1)]), now=0) == 1
        assert buffer.add(block_of([taken(10, b"a"), taken(9, None)]), now=0) == 0

        (block,) = buffer.cut().blocks
        assert (block.offsets.tolist(), [*block.values], block.origin(0)) == ([10], [b"a"], taken(10, b"a"))

    def test_a_dropped_partition_takes_its_records_along_and_leaves_the_others(self) -> None:
        buffer = Buffer()
        buffer.place(0, 0)
        buffer.place(1, 0)
        buffer.add(block_of([taken(0, b"abc"), taken(0, b"de", partition=1), taken(1, b"f")]), now=0)

        assert buffer.drop(0) == 2
        assert (buffer.places(), buffer.rows, buffer.bytes) == ({1: 1}, 1, 2)

    def test_a_partition_can_also_be_dropped_from_what_is_leaving(self) -> None:
        buffer = Buffer()
        buffer.place(0, 0)
        buffer.place(1, 0)
        buffer.add(block_of([taken(0, b"abc"), taken(0, b"de", partition=1)]), now=0)
        buffer.add(block_of([taken(1, b"f")]), now=0)

        batch = buffer.cut().without(0)

        assert (batch.rows, batch.starts, batch.nexts) == (1, {1: 0}, {1: 1})
        assert [[*block.values] for block in batch.blocks] == [[b"de"]]

    def test_what_is_sifted_keeps_its_span_without_those_that_need_not_be_read(self) -> None:
        buffer = Buffer()
        for partition in (0, 1):
            buffer.place(partition, 0)
        killer = taken(1, b"k")
        buffer.add(block_of([taken(0, b"a"), killer, taken(1, b"b", partition=1)]), now=0)

        batch = buffer.cut().isolated([Refused(killer, "exhausted", "it kills", 3)])

        assert batch.sifted
        assert (batch.starts, batch.nexts) == ({0: 0, 1: 0}, {0: 2, 1: 2})
        assert [[*block.values] for block in batch.blocks] == [[b"a", b"b"]]
        assert [each.taken for each in batch.killers] == [killer]
        assert batch.without(0).killers == ()

    def test_after_a_cut_the_next_rows_start_behind_it(self) -> None:
        buffer = Buffer()
        buffer.place(0, 0)
        buffer.add(block_of([taken(4, None)]), now=0)

        buffer.cut()
        buffer.add(block_of([taken(5, None)]), now=1)

        assert (buffer.rows, buffer.oldest) == (1, 1)
        batch = buffer.cut()
        assert (batch.starts, batch.nexts) == ({0: 5}, {0: 6})

    @pytest.mark.parametrize(
        ("now", "due"), [(1.9, False), (2.0, True)], ids=["the oldest has waited too little", "the oldest has waited"]
    )
    def test_a_commit_is_due_when_the_oldest_record_has_waited(self, now: float, due: bool) -> None:
        buffer = Buffer()
        buffer.place(0, 0)
        buffer.add(block_of([taken(0, b"x")]), now=0)
        buffer.add(block_of([taken(1, b"x")]), now=1.5)

        assert buffer.due(now, rows=10, bytes=10, seconds=2) is due

    def test_a_commit_is_due_at_so_many_rows_or_bytes_and_never_for_nothing(self) -> None:
        buffer = Buffer()
        buffer.place(0, 0)

        assert not buffer.due(1e9, rows=1, bytes=1, seconds=1)
        buffer.add(block_of([taken(0, b"xyz")]), now=0)
        assert buffer.due(0, rows=1, bytes=10, seconds=9)
        assert buffer.due(0, rows=9, bytes=3, seconds=9)

    def test_a_partition_that_somebody_moved_either_way_is_astray(self) -> None:
        assert astray({0: 10, 1: 20, 2: 0}, {0: 10, 1: 30}) == {1}
        assert astray({0: 10}, {}) == {0}


class TestLetters:
    @staticmethod
    def letter(headers: Headers = ()) -> DeadLetter:
        origin = Origin(topic="data.flights", partition=0, offset=7, timestamp_ms=0)
        return DeadLetter(
            origin=origin, service="ingestor", reason="rejected", error="é" * 9999, attempts=1, original_headers=headers
        )

    def test_a_record_that_fits_is_left_untouched(self) -> None:
        largest = b"x" * MAX_RECORD_BYTES

        body = body_of(self.letter([("sent-by", None)]), taken(7, largest))

        assert (body.key, body.value) == (b"N1", largest)
        assert body.headers == self.letter([("sent-by", None)]).headers()

    def test_a_record_is_cut_once_it_does_not_fit(self) -> None:
        """The one before does, to the byte: there is no gap between what surely fits and what does not."""
        letter, key = self.letter(), b"N1"
        ours = sum(16 + len(name) + len(said or b"") for name, said in letter.headers())
        fits = b"x" * (LARGEST_BYTES - ours - len(key))

        whole, cut = (body_of(letter, taken(7, value, key=key)) for value in (fits, fits + b"x"))

        assert (whole.value, whole.headers) == (fits, letter.headers())
        assert dict(cut.headers)["dlq-truncated"] == b"%d" % (len(fits) + 1)

    @pytest.mark.parametrize("value", [bytes(10_000_000), b"small", None], ids=["large", "small", "no value"])
    @pytest.mark.parametrize("key", [bytes(10_000_000), b"N1", None], ids=["large", "small", "no key"])
    @pytest.mark.parametrize("header", [bytes(10_000_000), b"me", None], ids=["large", "small", "no value"])
    def test_whatever_is_too_large_the_letter_fits_and_says_what_it_was(
        self, value: bytes | None, key: bytes | None, header: bytes | None
    ) -> None:
        record = taken(7, value, key=key)
        sent: Headers = [("sent-by", header), ("kind", b"test")]

        body = body_of(self.letter(sent), record)

        told = dict(body.headers)
        size = len(body.key or b"") + len(body.value or b"")
        size += sum(len(name) + len(said or b"") for name, said in body.headers)
        assert size < MAX_RECORD_BYTES + DEAD_LETTER_ROOM_BYTES
        assert ((body.key is None), (body.value is None)) == ((key is None), (value is None))
        assert (told["kind"], told["dlq-origin-offset"]) == (b"test", b"7")
        if 10_000_000 in {len(part or b"") for part in (value, key, header)}:
            assert told["dlq-truncated"] == str(len(value or b"")).encode()
            assert told["dlq-sha256"] == hashlib.sha256(value or b"").hexdigest().encode()
        else:
            assert (body.key, body.value, told["sent-by"]) == (key, value, header)


def test_waiting_after_failures_is_bounded_and_ends_with_success() -> None:
    patience = Patience()

    waits = [patience.failed(0) for _ in range(20)]
    patience.succeeded()

    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_SECONDS
    assert patience.ready(0)
    assert not patience.failing
