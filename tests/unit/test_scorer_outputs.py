"""What a scorer writes is, byte by byte, what the shared encoder says of `shared.records.Prediction`."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.deployer.answers import Answers
from services.deployer.domain.exploring import is_explored
from services.deployer.predictions import Arm, Outputs, Rows, exploring, outputs_of
from shared.lines import Template, lines_of, texts_of
from shared.records import ENCODER, EXPLORE, Prediction
from tests.scoring_world import changed, model_spec, release_of, stream_spec

MODEL = "odd"
RELEASE = release_of(3, model_spec(MODEL, "machines"), stream_spec("machines"))
TEXTS = st.one_of(st.sampled_from(["e1", "N14228", "a b"]), st.text(min_size=1, max_size=6))
SCORES = st.one_of(st.none(), st.floats(allow_nan=False), st.sampled_from([0.0, -0.0, 1e-7, 1e22, 5e-324, 1 / 3]))
LABELS = st.one_of(st.booleans(), st.none(), TEXTS)
SHARES = st.one_of(st.none(), st.dictionaries(TEXTS, st.floats(0, 1), min_size=1, max_size=3))
ARMS: list[Arm] = ["champion", "canary", "shadow"]
Said = tuple[str, str, Arm, int, int, float | None, Any, dict[str, float] | None, tuple[str, ...]]


def records(*, odd: bool) -> st.SearchStrategy[list[Said]]:
    texts = TEXTS if odd else st.sampled_from(["e1", "N14228", "a b"])
    flags = st.sampled_from([(), (), ("out_of_range:heat",), ("unseen:hue", 'unseen:"')]) if odd else st.just(())
    shares = SHARES if odd else st.none()
    columns = texts, texts, st.sampled_from(ARMS), st.integers(0, 99), st.integers(0, 2**40), SCORES, LABELS
    return st.lists(st.tuples(*columns, shares, flags), min_size=1, max_size=6)


def told(said: list[Said], share: float | None = None) -> Outputs:
    """Through the hot path's own columns."""
    ids, entities, arms, partitions, offsets, scores, labels, probabilities, flags = map(list, zip(*said, strict=True))
    rows = Rows(
        ids=texts_of([each.encode() for each in ids]),
        entities=texts_of([each.encode() for each in entities]),
        times=texts_of([b"2013-01-01T10:17:00Z"] * len(said)),
        partitions=partitions,
        sources=(ENCODER.encode_lines(partitions), ENCODER.encode_lines(offsets)),
        flags={row: each for row, each in enumerate(flags) if each},
    )
    answers = Answers(version=3, scores=scores, labels=labels, probabilities=probabilities)
    if share is not None:
        answers, rows = exploring(answers, rows, MODEL, share)
    return outputs_of(changed(7, RELEASE), answers, arms, rows)


def expected(said: list[Said], share: float | None = None) -> list[bytes]:
    return [
        ENCODER.encode(
            Prediction(
                id=f"{event_id}@{MODEL}:3",
                event_id=event_id,
                entity=entity,
                model=MODEL,
                version=3,
                arm=arm,
                revision=7,
                partition=partition,
                offset=offset,
                score=score,  # type: ignore[arg-type]  # as it was written before it is left out
                label=label,
                time="2013-01-01T10:17:00Z",  # type: ignore[arg-type]  # as the hot path has it
                probabilities=probabilities,
                flags=(*flags, EXPLORE) if share and not label and is_explored(event_id, MODEL, share) else flags,
                propensity=None if share is None else 1.0 if label else share,
            )
        )
        for event_id, entity, arm, partition, offset, score, label, probabilities, flags in said
    ]


@settings(deadline=None, max_examples=300)
@given(records(odd=True) | records(odd=False))
def test_records_are_as_the_shared_encoder_writes_them(said: list[Said]) -> None:
    outputs, values = told(said), expected(said)
    made = list(outputs)

    for output, value, (event_id, entity, arm, partition, _, score, *_) in zip(made, values, said, strict=True):
        headers = [
            ("ce_specversion", b"1.0"),
            ("ce_type", b"modelbus.record.prediction.v1"),
            ("ce_dataschema", b"modelbus:schemas/record.prediction/v1.1.json"),
            ("ce_source", b"modelbus/deployer/scorer"),
            ("content-type", b"application/json"),
            ("ce_id", f"{event_id}@{MODEL}:3".encode()),
            ("ce_subject", entity.encode()),
            ("ce_time", b"2013-01-01T10:17:00Z"),
        ]
        whole = topic_of(arm), value, entity.encode(), partition, None, None, 0, headers
        assert output == (None if score is None else whole)
    assert list(outputs) == made


@settings(deadline=None)
@given(records(odd=True))
def test_and_so_are_those_of_a_stream_that_explores(said: list[Said]) -> None:
    assert told(said, share=0.5).values.splitlines() == expected(said, share=0.5)


@given(st.lists(st.text(max_size=5), max_size=5))
def test_a_column_is_what_json_says_between_its_quotes_and_what_was_given(given: list[str]) -> None:
    texts = texts_of([each.encode() for each in given])
    assert [b'"%b"' % line for line in texts.lines.splitlines()] == [ENCODER.encode(each) for each in given]
    assert list(texts.strings()) == given


@settings(deadline=None)
@given(
    st.lists(st.lists(st.binary(max_size=9).map(lambda each: each.translate(None, b"\r\n")), min_size=3, max_size=3))
)
def test_a_template_is_filled_in_c_as_by_python(rows: list[list[bytes]]) -> None:
    template = Template(b"", b"<", b"", b"\0")
    assert template._fill is not None, "lines.c was not compiled: is there a C compiler?"
    columns = [lines_of(row[which] for row in rows) for which in range(3)]

    assert template.fill(*columns) == template.filled(*columns)


@pytest.mark.parametrize(
    "columns",
    [
        (b"a\nb\n", b"a\n"),
        (b"a\n", b"a\nb\n"),
        (b"a\n", b"a\nb"),
        (b"a\n", b"a"),
        (b"a\n", b""),
        (b"a\n",),
        (b"a\n", b"a\n", b"a\n"),
    ],
)
def test_columns_that_do_not_fit_fill_no_template(columns: tuple[bytes, ...]) -> None:
    template = Template(b"", b"", b"")
    with pytest.raises(ValueError, match=r"lines|expected a column for each"):
        template.fill(*columns)
    template._fill = None
    with pytest.raises(ValueError, match=r"lines|expected a column for each|longer|shorter"):
        template.fill(*columns)


def topic_of(arm: Arm) -> str:
    return f"shadow.{MODEL}" if arm == "shadow" else f"predictions.{MODEL}"
