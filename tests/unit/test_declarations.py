"""Declarations: what people write, and what they are told when it is wrong."""

import pytest

from schemas.declarations import MAX_BYTES, DeclarationsInvalid, Problem, parse, read
from schemas.specs import ModelSpec, StreamSpec

STREAM = """\
stream: flights
entity: tailnum
features:
  distance: {type: float, min: 0, max: 5000}
  carrier: {type: category, values: [UA, NO, on, "5"]}
label: {type: bool, delay: 8h}
"""
MODEL = """\
model: flight-delay
stream: flights
owner: ops-team
task: binary
features: [distance, carrier]
training: {window: 60d, min_rows: 5000, estimators: [logistic_regression]}
retraining: {on: [drift], every: 30d}
rollout: {canary: [5%, 25%]}
"""


def problems(text: str) -> list[Problem]:
    with pytest.raises(DeclarationsInvalid) as raised:
        parse(text, "f.yaml")
    return raised.value.problems


def only(text: str) -> Problem:
    (problem,) = problems(text)
    return problem


def test_several_documents_declare_streams_and_models_in_their_order() -> None:
    stream, model = parse(f"{STREAM}---\n{MODEL}---\n")

    assert isinstance(stream, StreamSpec)
    assert isinstance(model, ModelSpec)
    assert model.rollout.canary == (0.05, 0.25)


def test_words_that_yaml_1_1_takes_for_truth_values_stay_words() -> None:
    stream, model = parse(f"{STREAM}---\n{MODEL}")

    assert isinstance(stream, StreamSpec)
    assert stream.features["carrier"].values == ("UA", "NO", "on", "5")  # type: ignore[union-attr]
    assert isinstance(model, ModelSpec)
    assert model.retraining.on == ("drift",)


def test_every_problem_is_named_at_once_with_its_line() -> None:
    text = f"{STREAM}---\n{MODEL}".replace("max: 5000", "max: -1").replace("binary", "binry").replace("5000", "50")

    assert [(problem.line, problem.where) for problem in problems(text)] == [
        (4, "features.distance"),
        (11, "task"),
        (13, "training.min_rows"),
    ]


def test_a_problem_says_file_line_place_value_and_expectation() -> None:
    problem = only(MODEL.replace("5000", "50"))

    assert str(problem) == "f.yaml:6: training.min_rows: found 50; expected greater than or equal to 100"


@pytest.mark.parametrize(
    ("right", "wrong", "line", "closest"),
    [
        ("entity:", "entty:", 2, "'entity'"),
        ("min: 0", "mn: 0", 4, "'min'"),
        ("delay: 8h", "delay: 8h, feedbck: complete", 6, "'feedback'"),
    ],
)
def test_an_unknown_key_is_answered_with_the_closest_one(right: str, wrong: str, line: int, closest: str) -> None:
    found = [problem for problem in problems(STREAM.replace(right, wrong)) if "unknown key" in problem.found]

    assert [problem.line for problem in found] == [line]
    assert found[0].expected.startswith(f"{closest}, perhaps")


def test_a_missing_value_is_reported_where_its_parent_stands() -> None:
    problem = only(STREAM.replace(", delay: 8h", ""))

    assert (problem.line, problem.where, problem.found) == (6, "label.delay", "nothing")


def test_a_key_that_stands_twice_is_an_error_that_names_the_first() -> None:
    problem = only(STREAM + "entity: other\n")

    assert (problem.line, problem.expected) == (7, "it once (see line 2)")


def test_a_name_declared_twice_is_an_error() -> None:
    problem = only(f"{STREAM}---\n{STREAM}")

    assert (problem.line, problem.found) == (8, "stream 'flights' again")


def test_a_number_where_a_word_belongs_asks_for_quotes() -> None:
    problem = only(STREAM.replace('"5"', "5"))

    assert (problem.line, problem.found) == (5, "5")
    assert "in quotes" in problem.expected


def test_an_unknown_feature_type_is_answered_with_the_known_ones() -> None:
    problem = only(STREAM.replace("type: float", "type: flot"))

    assert (problem.line, problem.where) == (4, "features.distance")
    assert "'float', 'category', 'bool'" in problem.expected


def test_a_duration_needs_its_unit() -> None:
    assert "60d" in only(STREAM.replace("8h", "8")).expected


def test_broken_yaml_is_reported_beside_the_problems_of_what_could_be_read() -> None:
    found = problems(STREAM.replace("8h", "8") + "---\na: [1\n")

    assert [problem.line for problem in found] == [6, 9]
    assert found[1].expected == "YAML"


@pytest.mark.parametrize("text", ["", "---\n", "# nothing\n"])
def test_a_text_that_declares_nothing_is_an_error(text: str) -> None:
    assert only(text).expected == "a stream or a model"


@pytest.mark.parametrize("text", ["- 1\n", "word\n", "strem: flights\n"])
def test_a_document_that_is_neither_stream_nor_model_is_an_error(text: str) -> None:
    assert "a model" in only(text).expected


def test_tags_are_refused_and_make_no_objects() -> None:
    found = problems(STREAM.replace("tailnum", "!!python/object/apply:os.getcwd []"))

    assert "python/object" in found[0].found
    assert found[0].line == 2


def test_a_bomb_of_aliases_is_refused_before_it_grows() -> None:
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 9))

    assert "too many" in only(f"l0: &l0 [x]\n{levels}").found
    assert "too many" in only("a: &a [*a]\n").found


def test_a_text_beyond_the_limit_is_refused_unread() -> None:
    assert only("#" * (MAX_BYTES + 1)).expected == f"at most {MAX_BYTES}"


def test_an_anchor_may_share_a_block() -> None:
    text = STREAM.replace("{type: float", "&number {type: float").replace("  carrier", "  duration: *number\n  carrier")

    (stream,) = parse(text)

    assert isinstance(stream, StreamSpec)
    assert stream.features["duration"] == stream.features["distance"]


def test_a_declaration_knows_where_each_value_was_written() -> None:
    (declaration,) = read(f"\n\n{STREAM}", "f.yaml")

    assert declaration.line("features", "carrier") == 7
    assert declaration.line("features", "carrier", "values", 3) == 7
    assert declaration.line("lateness") == 3
