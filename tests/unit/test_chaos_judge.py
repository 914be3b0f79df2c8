"""The judge of chaos finds each law's breach: a run that kept them all, then one record doctored."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from services.deployer.domain.arms import is_canary
from shared.records import StreamDecoder
from tests.chaos.feed import SPOILT, Event, events
from tests.chaos.judge import LAWS, Answer, Evidence, Letter, ModelEvidence, Rollout, judged
from tests.scoring_world import stream_spec

SALT = "a-salt"
ROLLOUTS = {1: Rollout(1, None, 0.0, SALT), 2: Rollout(1, 2, 0.5, SALT)}
SWITCHES = {(0, 0): 1, (1, 0): 1, (0, 40): 2, (1, 35): 2}
BAD = (7, 50)
Doctor = Callable[[ModelEvidence], ModelEvidence]


def test_a_run_that_kept_every_law_has_no_violation() -> None:
    assert judged(_evidence()) == []


def test_the_judge_holds_all_laws() -> None:
    assert list(LAWS) == [
        "fed_whole", "answered_once", "in_order", "parked_once", "tabled_once", "fenced", "paired",
    ]  # fmt: skip


def _lost(found: ModelEvidence) -> ModelEvidence:
    return replace(found, answers=found.answers[1:], rows=found.rows[1:])


def _doubled(found: ModelEvidence) -> ModelEvidence:
    again = found.answers[-1]._replace(stands=(1, 1000))
    return replace(found, answers=[*found.answers, again], rows=[*found.rows, again.stands])


def _out_of_order(found: ModelEvidence) -> ModelEvidence:
    first = next(each for each in found.answers if each.event_id.startswith("m0."))
    second = next(each for each in found.answers if each.event_id.startswith("m0.") and each is not first)
    swapped = {first: second._replace(stands=first.stands), second: first._replace(stands=second.stands)}
    return replace(found, answers=[swapped.get(each, each) for each in found.answers])


def _past_the_fence(found: ModelEvidence) -> ModelEvidence:
    late = next(each for each in found.answers if each.revision == 2)
    return _with(found, late, late._replace(revision=1, version=1, arm="champion"))


def _before_the_fence(found: ModelEvidence) -> ModelEvidence:
    early = next(each for each in found.answers if each.revision == 1)
    return _with(found, early, early._replace(revision=2))


def _by_the_wrong_version(found: ModelEvidence) -> ModelEvidence:
    canary = next(each for each in found.answers if each.arm == "canary")
    return _with(found, canary, canary._replace(version=1))


def _by_a_shadow(found: ModelEvidence) -> ModelEvidence:
    return _with(found, found.answers[0], found.answers[0]._replace(arm="shadow"))


def _of_another_record(found: ModelEvidence) -> ModelEvidence:
    return _with(found, found.answers[0], found.answers[0]._replace(event_id="m9.1"))


def _without_a_pair(found: ModelEvidence) -> ModelEvidence:
    return replace(found, shadows=found.shadows[1:])


def _with_a_row_too_many(found: ModelEvidence) -> ModelEvidence:
    return replace(found, rows=[*found.rows, found.rows[0]])


@pytest.mark.parametrize(
    ("doctor", "laws"),
    [
        (_lost, {"answered once by m"}),
        (_doubled, {"answered once by m"}),
        (_out_of_order, {"order"}),
        (_past_the_fence, {"fence"}),
        (_before_the_fence, {"fence"}),
        (_by_the_wrong_version, {"fence"}),
        (_by_a_shadow, {"answered once", "fence"}),
        (_of_another_record, {"answered once"}),
        (_without_a_pair, {"shadow of m"}),
        (_with_a_row_too_many, {"rows of m"}),
    ],
)
def test_a_doctored_prediction_is_found_by_its_law(doctor: Doctor, laws: set[str]) -> None:
    evidence = _evidence()

    found = judged(replace(evidence, models={"m": doctor(evidence.models["m"])}))

    assert {violation.law for violation in found} == laws


@pytest.mark.parametrize(
    ("changes", "law"),
    [
        ({"reason": "poison"}, "parked as it was"),
        ({"value": b"b" * 9}, "parked as it was"),
        ({"key": None}, "parked as it was"),
        ({"number": 8}, "parked as it was"),
        ({"origin": (0, 0)}, "parked"),
    ],
)
def test_a_doctored_dead_letter_is_found(changes: dict[str, Any], law: str) -> None:
    evidence = _evidence()
    letter = evidence.letters[0]._replace(**changes)

    found = judged(replace(evidence, letters=[letter, *evidence.letters[1:]]))

    assert law in {violation.law for violation in found}


def test_a_dead_letter_parked_twice_is_one_by_its_origin() -> None:
    evidence = _evidence()

    assert judged(replace(evidence, letters=[*evidence.letters, evidence.letters[0]])) == []


def test_rows_of_the_table_that_are_lost_or_doubled_are_found() -> None:
    evidence = _evidence()

    for rows in (evidence.rows[1:], [*evidence.rows, evidence.rows[0]]):
        [violation] = judged(replace(evidence, rows=rows))
        assert (violation.law, violation.place) == ("rows of data", evidence.rows[0])


def test_a_stream_that_was_not_fed_whole_is_no_evidence() -> None:
    evidence = _evidence()

    found = judged(replace(evidence, sent=[*evidence.sent, evidence.sent[0]._replace(number=len(evidence.sent))]))

    assert {violation.law for violation in found} == {"fed"}


def test_each_spoilt_record_meets_the_fate_that_is_expected_of_it() -> None:
    decoder = StreamDecoder(stream_spec("s"))
    sample = {"id": "machine-1.1", "entity": "machine-1", "time": "2013-01-01T00:00:00Z"}
    sample["features"] = {"heat": 0.1, "weight": 0.2, "colour": None}  # type: ignore[assignment]

    for fate, _, spoil in SPOILT:
        [refused] = decoder.decode([spoil(sample)]).refused
        assert refused.reason == fate


def test_the_stream_is_a_function_of_its_seed_with_one_bad_record_in_a_hundred() -> None:
    stream = list(events(3, 20_000, entities=50))

    assert stream == list(events(3, 20_000, entities=50)) != list(events(4, 20_000, entities=50))
    assert 150 < sum(event.fate != "accepted" for event in stream) < 250


def _evidence() -> Evidence:
    """Two partitions of 100 records, four entities, a canary from the middle on."""
    sent, asked = [], {}
    for number in range(200):
        partition, offset = number % 2, number // 2
        fate = "rejected" if offset in BAD else "accepted"
        sent.append(Event(number, f"m{number % 4}", number // 4, fate, b"v%d" % number))
        asked[partition, offset] = number
    good = sorted(place for place, number in asked.items() if sent[number].fate == "accepted")
    letters = [
        Letter(place, "rejected", number, sent[number].entity.encode(), sent[number].value)
        for place, number in asked.items()
        if place not in good
    ]
    answers = [_answer(sent[asked[place]], place, shadow=False) for place in good]
    shadows = [_answer(sent[asked[place]], place, shadow=True) for place in good if _revision(place) == 2]
    rows = [answer.stands for answer in answers]
    model = ModelEvidence(answers=answers, shadows=shadows, rows=rows, rollouts=ROLLOUTS, switches=SWITCHES)
    return Evidence(sent=sent, asked=asked, letters=letters, rows=good, models={"m": model})


def _revision(place: tuple[int, int]) -> int:
    return 2 if place[1] >= (40, 35)[place[0]] else 1


def _answer(event: Event, place: tuple[int, int], *, shadow: bool) -> Answer:
    revision = _revision(place)
    canary = revision == 2 and is_canary(event.entity, SALT, 0.5)
    arm = "shadow" if shadow else "canary" if canary else "champion"
    version = 2 if canary != shadow else 1
    return Answer(place, place, event.id, version, arm, revision, 0)


def _with(found: ModelEvidence, old: Answer, new: Answer) -> ModelEvidence:
    changed: Sequence[Answer] = [new if each is old else each for each in found.answers]
    return replace(found, answers=changed)
