"""What may be applied onto what is declared."""

from typing import Any

import pytest

from schemas.specs import ModelSpec, StreamSpec
from schemas.topics import CORRECTIONS, DATA, LABELS, PREDICTIONS, SHADOW
from services.registry.acts import check_approval_stays
from services.registry.domain.plan import Declared, Misfits, plan
from shared.errors import Forbidden

STREAM: dict[str, Any] = {
    "stream": "rivers",
    "entity": "gauge",
    "features": {"level": {"type": "float"}, "kind": {"type": "category", "values": ["brook", "river"]}},
    "label": {"type": "bool", "delay": "1h"},
}
MODEL: dict[str, Any] = {
    "model": "flood",
    "stream": "rivers",
    "owner": "water-board",
    "task": "binary",
    "features": ["level", "kind"],
    "training": {"window": "60d", "min_rows": 500, "estimators": ["logistic_regression"]},
}


def stream(**changed: Any) -> StreamSpec:
    return StreamSpec.model_validate(STREAM | changed)


def features(**changed: Any) -> StreamSpec:
    merged = STREAM["features"] | changed
    return stream(features={name: feature for name, feature in merged.items() if feature})


def model(**changed: Any) -> ModelSpec:
    return ModelSpec.model_validate(MODEL | changed)


def declared(**more: Any) -> Declared:
    return Declared(streams={"rivers": (stream(), 1)}, models={"flood": (model(), 1)}, **more)


def refused(*specs: StreamSpec | ModelSpec, on: Declared) -> list[tuple[str, ...]]:
    with pytest.raises(Misfits) as raised:
        plan(specs, on)
    return [tuple(map(str, misfit.where)) for misfit in raised.value.misfits]


def test_a_new_stream_and_model_are_created_with_their_topics_whatever_their_order() -> None:
    first, second = plan([model(), stream()], Declared())

    assert (first.kind, first.verdict, first.revision) == ("stream", "created", 1)
    assert first.topics == (DATA.of("rivers"), LABELS.of("rivers"))
    assert (second.kind, second.verdict, second.revision) == ("model", "created", 1)
    assert second.topics == (PREDICTIONS.of("flood"), SHADOW.of("flood"), CORRECTIONS.of("flood"))


def test_a_stream_may_come_to_explore_what_its_decisions_hide() -> None:
    label = {"type": "bool", "delay": "1h", "feedback": "selective", "explore": "2%"}

    change, _ = plan([stream(label=label)], declared())

    assert [(each.field, each.new) for each in change.fields] == [
        ("label.explore", 0.02),
        ("label.feedback", "selective"),
    ]


def test_applying_the_same_again_changes_nothing() -> None:
    changes = plan([stream(), model()], declared())

    assert [(change.verdict, change.revision, change.topics) for change in changes] == [("unchanged", 1, ())] * 2


def test_a_change_is_told_field_by_field() -> None:
    (change,) = plan([model(monitoring={"window": 500})], declared())

    assert (change.verdict, change.revision) == ("changed", 2)
    assert [(each.field, each.old, each.new) for each in change.fields] == [("monitoring.window", 2000, 500)]


def test_a_changed_stream_is_told_to_the_readers_of_its_models() -> None:
    first, second = plan([stream(lateness="2h")], declared())

    assert (first.verdict, first.revision) == ("changed", 2)
    assert (second.name, second.verdict, second.revision, second.stream_revision) == ("flood", "changed", 2, 2)
    assert second.stream == first.spec
    assert [each.field for each in second.fields] == ["stream.revision"]


def test_an_optional_feature_may_be_added_and_a_required_one_may_not() -> None:
    (change, _) = plan([features(rain={"type": "float"})], declared())

    assert change.verdict == "changed"
    wrong = features(rain={"type": "float", "required": True})
    assert refused(wrong, on=declared()) == [("features", "rain", "required")]
    now_required = features(level={"type": "float", "required": True})
    assert refused(now_required, on=declared()) == [("features", "level", "required")]


def test_category_values_may_be_appended_and_not_reordered_or_dropped() -> None:
    appended = features(kind={"type": "category", "values": ["brook", "river", "canal"]})
    reordered = features(kind={"type": "category", "values": ["river", "brook"]})
    dropped = features(kind={"type": "category", "values": ["brook"]})

    assert plan([appended], declared())[0].verdict == "changed"
    assert refused(reordered, on=declared()) == [("features", "kind", "values")]
    assert refused(dropped, on=declared()) == [("features", "kind", "values")]


@pytest.mark.parametrize("change", [{"partitions": 8}, {"entity": "river"}])
def test_what_a_streams_topics_rest_on_cannot_change(change: dict[str, Any]) -> None:
    assert refused(stream(**change), on=declared()) == [tuple(change)]


def test_a_labels_type_cannot_change() -> None:
    changed = stream(label={"type": "float", "delay": "1h"})

    assert refused(changed, on=declared()) == [("label", "type")]


def test_a_features_type_cannot_change_not_even_after_it_was_gone() -> None:
    bare = Declared(streams={"rivers": (features(kind=None), 2)}, columns={("rivers", "kind"): "category"})

    assert refused(features(level={"type": "bool"}), on=declared(columns={("rivers", "level"): "float"})) == [
        ("features", "level", "type")
    ]
    assert refused(features(kind={"type": "float"}), on=bare) == [("features", "kind", "type")]


def test_a_feature_goes_only_when_nothing_uses_it() -> None:
    gone, spare = features(kind=None), model(features=["level"])
    served = declared(serving={("rivers", "kind"): ["flood:3"]})

    assert refused(gone, on=declared()) == [("features", "kind")]
    assert refused(gone, spare, on=served) == [("features", "kind")]
    assert [change.verdict for change in plan([gone, spare], declared())] == ["changed", "changed"]


def test_a_model_must_fit_its_stream() -> None:
    unfit = model(task="regression", features=["level", "depth"])

    assert refused(unfit, on=Declared(streams={"rivers": (stream(), 1)})) == [
        ("training", "estimators"),
        ("features",),
        ("task",),
    ]


def test_a_model_needs_a_declared_stream_and_keeps_it_and_its_task() -> None:
    assert refused(model(), on=Declared()) == [("stream",)]
    moved = model(stream="lakes", task="multiclass")
    assert refused(moved, on=declared()) == [("stream",), ("task",), ("stream",)]


def test_all_reasons_are_told_at_once() -> None:
    assert len(refused(stream(partitions=8, entity="river"), model(features=["depth"]), on=declared())) == 3


@pytest.mark.parametrize("actor", ["operator:ann", "operator"])
def test_who_may_not_approve_may_not_do_away_with_the_approval(actor: str) -> None:
    was = Declared(streams={"rivers": (stream(), 1)}, models={"flood": (model(rollout={"approval": "four_eyes"}), 1)})
    weaker = plan([model(rollout={"approval": "required"})], was)

    with pytest.raises(Forbidden, match=r"rollout\.approval from four_eyes to required"):
        check_approval_stays(weaker, actor)
    check_approval_stays(weaker, "approver:bob")
    check_approval_stays(plan([model(rollout={"approval": "required"})], declared()), actor)
