"""plain.c reads records as the shared decoder does, or leaves them to it."""

import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.specs import BoolFeature, CategoryFeature, FloatFeature, Label, StreamSpec
from services.deployer.decoding import ColumnDecoder, Columns
from services.ingestor.domain.blocks import Taken, block_of
from services.ingestor.domain.rows import DataReader
from shared.plain import PlainReader
from shared.records import MAX_EVENT_BYTES, MAX_ID_LETTERS, check_year
from shared.spans import Spans
from shared.tables import schema_of

STREAM = StreamSpec(
    stream="plain",
    entity="machine",
    partitions=1,
    features={
        "heat": FloatFeature(type="float", required=True),
        "load": FloatFeature(type="float", min=-5, max=5),
        "speed": FloatFeature(type="float", min=0, on_range="reject"),
        "open": BoolFeature(type="bool"),
        "kind": CategoryFeature(type="category", values=("ring", "a", "b", "ri", ""), required=True),
        "hue": CategoryFeature(type="category", values=("red", "blue"), unseen="reject"),
        "temperat": FloatFeature(type="float"),
        "temperature": FloatFeature(type="float"),
        "temperature_of_the_day": FloatFeature(type="float"),
    },
    label=Label(type="bool", delay=timedelta(hours=1)),
)
USUAL = {
    "id": '"e1"',
    "entity": '"m"',
    "time": '"2013-01-01T10:17:00Z"',
    "heat": "1.5",
    "load": "-0.25",
    "speed": "3",
    "open": "true",
    "kind": '"b"',
    "hue": '"red"',
    "temperat": "8",
    "temperature": "11",
    "temperature_of_the_day": "22",
}
ZONES = st.sampled_from([UTC, timezone(timedelta(hours=-5, minutes=-30)), timezone(timedelta(hours=14))])
ODD_NUMBERS = [
    "-0",
    "0",
    "-0.0",
    "0e5",
    "01",
    "1.",
    ".5",
    "+1",
    "NaN",
    "1e400",
    "-1e-400",
    "9007199254740993",
    "1e",
    "0x1",
]
ODD_TIMES = [
    "2013-02-29T00:00:00Z", "2012-02-29T23:59:59.9Z", "2013-01-01T24:00:00Z", "2013-01-01T23:59:60Z",
    "2013-01-01T00:00:00.1234567Z", "2013-01-01T00:00:00.12345678901234567Z", "2013-01-01T00:00:00",
    "2013-01-01t00:00:00z",
    "2013-01-01 00:00:00Z",
    "2013-01-01T00:00:00+23:59", "2013-01-01T00:00:00-00:00", "2013-01-01T00:00:00+24:00", "2013-01-01T00:00:00+0100",
    "0001-01-01T00:00:00Z", "0002-01-01T00:00:00+12:00",
    "0002-01-01T00:00:00+14:00", "9998-12-31T23:00:00-14:00", "9998-12-31T23:59:59-12:00", "9999-12-31T23:59:59Z",
    "1969-12-31T23:59:59.999999Z",
    "1900-02-29T00:00:00Z", "2000-02-29T00:00:00Z",
    "2013-00-01T00:00:00Z", "2013-01-01T00:00Z", "2013-01-01T00:00:00.Z", "",
]  # fmt: skip
NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(-10, 10).map(lambda number: f"{number:.4f}"),
    st.integers(-(10**20), 10**20).map(str),
    st.from_regex(r"-?[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
    st.sampled_from(ODD_NUMBERS),
)
TIMES = st.one_of(
    st.datetimes(timezones=st.sampled_from([UTC])).map(datetime.isoformat),
    st.datetimes().map(lambda time: f"{time.isoformat()}+05:30"),
    st.sampled_from(ODD_TIMES),
).map(json.dumps)
TEXTS = st.one_of(
    st.text(max_size=5).map(json.dumps),
    st.text(max_size=5).map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.sampled_from([0, 1, 255, 256, 257]).map(lambda count: json.dumps("x" * count)),
    st.text(max_size=3).map(lambda text: f'"{text}"'),
)
CATEGORIES = st.one_of(
    st.sampled_from(['"a"', '"b"', '"ring"', '"red"', '"blue"', '"green"', '""', '"\\u0061"']), TEXTS
)
ANYTHING = st.one_of(NUMBERS, TEXTS, st.sampled_from(["null", "true", "false", "[]", "{}", "nul", "truefalse", ""]))
VALUES: dict[str, st.SearchStrategy[str]] = {
    "id": TEXTS, "entity": TEXTS, "time": TIMES, "heat": NUMBERS, "load": NUMBERS, "speed": NUMBERS,
    "open": st.sampled_from(["true", "false"]), "kind": CATEGORIES, "hue": CATEGORIES,
}  # fmt: skip


@st.composite
def records(draw: st.DrawFn) -> bytes | None:
    """A usual record, and what may be odd about it: values, order, repeats, spaces, single bytes."""
    said = dict(USUAL)
    for name in draw(st.lists(st.sampled_from(list(VALUES)), max_size=3)):
        said[name] = draw(st.one_of(VALUES[name], ANYTHING))
    space = draw(st.sampled_from(["", "", " ", "\n\t "]))
    heads = [f'"{name}"{space}:{space}{said.pop(name)}' for name in ("id", "entity", "time")]
    members = [f'"{name}":{space}{value}' for name, value in said.items()]
    changed = draw(st.sampled_from(["no", "no", "order", "fewer", "more", "again"]))
    if changed == "order":
        members = draw(st.permutations(members))
    elif changed == "fewer":
        members = members[: draw(st.integers(0, len(members)))]
    elif changed == "more":
        members.append('"other":1')
    elif changed == "again":
        members.append(draw(st.sampled_from(members)))
    heads.append(f'"features":{{{f",{space}".join(members)}}}')
    heads = draw(st.one_of(st.just(heads), st.permutations(heads), st.just([*heads, '"more":[1]']), st.just(heads[1:])))
    text = f"{space}{{{space}{f'{space},'.join(heads)}}}{space}".encode(errors="surrogatepass")
    if draw(st.integers(0, 3)) == 0:
        place, byte = draw(st.integers(0, len(text))), draw(st.binary(max_size=2))
        text = text[:place] + byte + text[place + draw(st.integers(0, 2)) :]
    return draw(st.sampled_from([text] * 20 + [b"", None]))


def both(values: Sequence[bytes | None]) -> tuple[Any, Any]:
    """What the reader makes of records with plain.c, and by the shared decoder alone."""
    reader = DataReader(STREAM, schema_of("data", STREAM))
    block = block_of([Taken(0, number, 0, None, value) for number, value in enumerate(values)])
    found, (decoded, refused, _) = reader.rows(block), reader._decoded(block, range(len(block)))
    return (_shown(found.table), found.refused), (_shown(decoded), refused)


def _shown(rows: pa.Table) -> list[str]:
    return [repr(row) for row in rows.to_pylist()]


@settings(max_examples=600, deadline=None)
@given(st.lists(records(), min_size=1, max_size=8))
def test_what_is_read_in_c_is_what_the_shared_decoder_says(values: list[bytes | None]) -> None:
    ours, decoders = both(values)
    assert ours == decoders


def scorers(values: Sequence[bytes | None]) -> tuple[Any, Any]:
    """What scorers make of records with plain.c, and by the shared decoder alone."""
    decoder = ColumnDecoder(STREAM)
    return _comparable(decoder.decode(values)), _comparable(decoder._decoded(values, range(len(values))).columns)


def _comparable(columns: Columns) -> dict[str, Any]:
    return vars(columns) | {"matrix": repr(columns.matrix.tolist())}


@settings(max_examples=600, deadline=None)
@given(st.lists(records(), max_size=8))
def test_and_to_scorers_it_is_the_same(values: list[bytes | None]) -> None:
    ours, decoders = scorers(values)
    assert ours == decoders


class Timed(msgspec.Struct):
    time: datetime


@given(st.integers(-60_000_000_000_000_000, 250_000_000_000_000_000), ZONES)
def test_times_come_to_scorers_as_the_encoder_writes_them_in_utc(microseconds: int, zone: timezone) -> None:
    time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    event = _record(time=json.dumps(time.astimezone(zone).isoformat()))
    ours, decoders = scorers([event])
    assert ours == decoders
    assert [b'"%s"' % each for each in ours["times"].each()] == [msgspec.json.encode(time)]


def test_no_time_leaves_the_years_that_readers_of_predictions_take() -> None:
    ours, _ = scorers([_record(time=json.dumps(time)) for time in ODD_TIMES])
    times = ours["times"].each()
    assert len(times) > 5
    for time in times:
        check_year(msgspec.json.decode(b'{"time":"%s"}' % time, type=Timed))


@settings(max_examples=600, deadline=None)
@given(st.lists(st.one_of(NUMBERS, st.floats(1e-9, 1e9).map(repr)), min_size=1, max_size=40))
def test_numbers_are_the_same_to_the_last_bit(numbers: list[str]) -> None:
    ours, decoders = both([_record(load=number) for number in numbers])
    assert ours == decoders


def test_so_are_the_edges_of_numbers_times_and_sizes() -> None:
    values = [_record(load=number) for number in ODD_NUMBERS] + [_record(time=json.dumps(time)) for time in ODD_TIMES]
    values += [_record().ljust(MAX_EVENT_BYTES + more) for more in (-1, 0, 1)]
    values += [_record(id=json.dumps("x" * (MAX_ID_LETTERS + more))) for more in (-1, 0, 1)]
    ours, decoders = both(values)
    assert ours == decoders


def test_long_numbers_are_rounded_once() -> None:
    """Of 17 and 18 digits one in some thousands lies so that to round it twice would be wrong."""
    chance = random.Random(1)
    texts = [f"{chance.randrange(10**16, 10**18)}e{chance.randrange(-27, 10)}" for _ in range(50_000)]
    features = {f"x{number}": FloatFeature(type="float") for number in range(20)}
    rows = [dict(zip(features, texts[start : start + 20], strict=True)) for start in range(0, len(texts), 20)]
    said = [",".join(f'"{name}":{text}' for name, text in row.items()) for row in rows]

    head = '"id":"e","entity":"m","time":"2013-01-01T00:00:00Z"'
    plain = PlainReader(STREAM.model_copy(update={"features": features})).read(
        Spans.of([f'{{{head},"features":{{{each}}}}}'.encode() for each in said])
    )

    assert plain is not None
    assert plain.usual.mean() > 0.9
    read = plain.matrix.T[plain.usual].tolist()
    assert read == [list(map(float, row.values())) for row, usual in zip(rows, plain.usual, strict=True) if usual]


def test_a_usual_record_is_plain() -> None:
    """Also: plain.c has been compiled here."""
    usual = [
        _record(),
        _record(load="0.12345678901234567"),
        _record(load="0.0012345678901234567"),
        _record(open="null"),
        _record(time='"2013-01-01T00:00:00.5+01:00"'),
    ]
    odd = [_record(id='"\u00e9"'), _record(load="1e-300"), b"{", None]

    plain = PlainReader(STREAM).read(Spans.of([*usual, *odd]))

    assert plain is not None, "plain.c was not compiled: is there a C compiler?"
    assert plain.usual.tolist() == [True] * 5 + [False] * 4
    assert not PlainReader(STREAM).read(Spans.of([_record(load="9"), _record(hue='"green"')])).usual.any()  # type: ignore[union-attr]


def test_no_record_is_as_good_as_any() -> None:
    assert both([]) == (([], []), ([], []))


def _record(**changed: str) -> bytes:
    said = USUAL | changed
    features = ",".join(f'"{name}":{said[name]}' for name in STREAM.features)
    return f'{{"id":{said["id"]},"entity":{said["entity"]},"time":{said["time"]},"features":{{{features}}}}}'.encode()
