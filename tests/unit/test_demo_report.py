"""What the demo reads out of lifecycle events, metrics and traces, and what it calls a failure."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from cli.demonstration import checks
from cli.demonstration.lags import numbers
from cli.demonstration.lifecycles import Lifecycles, Run
from cli.demonstration.picture import Picture
from cli.demonstration.plan import NOTHING_PROMISED, Promises
from cli.demonstration.quality import Gain, Served
from cli.demonstration.reading import Said
from cli.demonstration.resolving import Resolved, missing
from cli.demonstration.traces import Trace
from schemas.envelope import Envelope
from schemas.events.base import Event
from schemas.events.deployer import RolloutChanged, RolloutEnded, RolloutSwitched
from schemas.events.monitor import Pairs, RolloutMeasured, TrainingRequested
from schemas.events.parts import Candidate, Cut, Release
from schemas.events.registry import ModelRegistered, RolloutOrdered
from schemas.events.trainer import ModelTrained, TrainingFailed
from schemas.events.validator import ModelRejected, ModelValidated

START = datetime(2026, 1, 1, tzinfo=UTC)
PROMISES = Promises(due=START, second_version_of=frozenset({"m"}), least_auc={"m": 0.8}, least_gain={"m": 0.03})
TRACEPARENT = f"00-{'ab' * 16}-{'cd' * 8}-01"


def said(event: Event, at: int, *, id: str | None = None, cause: str | None = None, run: str = "m-1") -> Said:
    envelope = Envelope(
        id=id or f"{event.event}/{at}",
        source="test",
        time=START,
        correlation_id=run,
        causation_id=cause,
        traceparent=TRACEPARENT,
        event=event,
    )
    return Said(envelope, START + timedelta(seconds=at))


def lifecycle(version: int, reason: str, *, at: int) -> list[Said]:
    """A run from its request to its registration, a second each."""
    run_id = f"m-{version}"
    candidate = Candidate.model_construct(model="m", run_id=run_id, rows=100)
    named = {"model": "m", "run_id": run_id}
    cut = Cut.model_construct(time=START)
    requested = TrainingRequested.model_construct(**named, reason=reason, explanation="why", cut=cut)
    trained = ModelTrained.model_construct(**named, candidate=candidate, fit_seconds=0.5, run_seconds=0.9)
    validated = ModelValidated.model_construct(**named, candidate=candidate, gates=())
    registered = ModelRegistered.model_construct(model="m", version=version, release=release(version))
    events: list[Event] = [requested, trained, validated, registered]
    ids = [f"{run_id}/{step}" for step in range(4)]
    return [
        said(event, at + step, id=ids[step], cause=ids[step - 1] if step else None, run=run_id)
        for step, event in enumerate(events)
    ]


def release(version: int) -> Release:
    return Release.model_construct(
        version=version, candidate=Candidate.model_construct(model="m", run_id=f"m-{version}")
    )


def changed(revision: int, phase: str, champion: int, challenger: int | None = None) -> RolloutChanged:
    return RolloutChanged.model_construct(
        model="m",
        revision=revision,
        phase=phase,
        champion=release(champion),
        challenger=release(challenger) if challenger else None,
        share=0.25 if phase == "canary" else 0.0,
        reason="so",
    )


def switched(partition: int, offset: int, revision: int) -> RolloutSwitched:
    return RolloutSwitched(model="m", stream="s", partition=partition, offset=offset, revision=revision)


def two_versions(*, reason: str = "schedule", pairs: int = 600, outcome: str = "promoted") -> list[Said]:
    """Version 1 serves, version 2 comes through shadow and canary."""
    pairs_ = Pairs(n=pairs, total=-6.0, total_squares=1.0)
    rollout: Sequence[Event] = (
        *(changed(1, "serving", 1), switched(0, 10, 1), switched(1, 20, 1)),
        *(changed(2, "shadow", 1, 2), switched(0, 30, 2), changed(3, "canary", 1, 2)),
        RolloutMeasured.model_construct(model="m", champion=1, challenger=2, pairs=pairs_, paired_scores=pairs + 9),
        *(changed(4, "serving", 2), switched(0, 50, 4), switched(1, 60, 4)),
        RolloutEnded.model_construct(model="m", revision=4, version=2, outcome=outcome, reason="better"),
    )
    at = count(20)
    return [
        *lifecycle(1, "first", at=0),
        *lifecycle(2, reason, at=10),
        *(said(event, next(at), cause="m-2/3") for event in rollout),
    ]


def test_a_champion_is_served_in_each_partition_from_its_switch_or_a_later_one_on() -> None:
    lifecycles = Lifecycles(two_versions())

    assert [(each.release.version, each.revision) for each in lifecycles.champions("m")] == [(1, 1), (2, 4)]
    assert lifecycles.served_from("m", 1) == {0: 10, 1: 20}
    assert lifecycles.served_from("m", 4) == {0: 50, 1: 60}


def test_the_way_to_champion_ends_when_the_last_partition_has_switched() -> None:
    first, second = Lifecycles(two_versions()).runs()

    assert (first.seconds_to_champion, second.seconds_to_champion) == (22.0, 19.0)
    assert (second.fit_seconds, second.outcome, second.version) == (0.5, "registered", 2)
    assert second.trace_id == "ab" * 16


def test_a_rollout_tells_its_steps_its_evidence_and_its_outcome() -> None:
    (rollout,) = Lifecycles(two_versions()).rollouts(["m"])

    assert [step["phase"] for step in rollout["steps"]] == ["shadow", "canary", "serving"]
    assert (rollout["outcome"], rollout["matured_pairs"], rollout["mean_loss_difference"]) == ("promoted", 600, -0.01)


def test_a_second_version_by_canary_and_matured_labels_holds() -> None:
    found = checks.second_version(Lifecycles(two_versions()), ("m",), PROMISES, due=True)

    assert (found.ok, found.explanation) == (True, "m: v2, asked for by schedule, after 600 matured pairs")


def test_a_second_version_by_a_persons_hand_or_without_labels_fails() -> None:
    ordered = said(RolloutOrdered(model="m", order="promote", actor="a", reason="r"), 90)
    wrong = [
        [*two_versions(), ordered],
        two_versions(pairs=0),
        two_versions(reason="person"),
        two_versions(outcome="rolled_back"),
    ]

    for events in wrong:
        assert checks.second_version(Lifecycles(events), ("m",), PROMISES, due=True).ok is False


def test_nothing_is_failed_before_it_is_due() -> None:
    few = Lifecycles(lifecycle(1, "first", at=0))

    assert checks.second_version(few, ("m",), PROMISES, due=False).ok is None
    assert checks.quality({"m": Served(events=9, auc=0.1)}, PROMISES, due=False).ok is None
    assert checks.gain({}, NOTHING_PROMISED, due=True).ok is None


def test_quality_is_held_to_what_was_promised() -> None:
    def gained(served: float) -> checks.Check:
        return checks.gain({"m": Gain(version=1, events=9, served_auc=served, version_auc=0.6)}, PROMISES, due=True)

    assert checks.quality({"m": Served(events=9, auc=0.81)}, PROMISES, due=True).ok is True
    assert checks.quality({"m": Served(events=9, auc=0.79)}, PROMISES, due=True).ok is False
    assert (gained(0.64).ok, gained(0.62).ok) == (True, False)
    assert checks.gain({}, PROMISES, due=True).ok is False


def test_complete_lifecycles_have_no_breaks() -> None:
    assert Lifecycles(two_versions()).breaks() == []


def test_an_event_said_twice_under_one_id_is_one_event() -> None:
    once = lifecycle(1, "first", at=0)

    assert Lifecycles([*once, *once]).breaks() == []


def test_a_lifecycle_that_stops_or_forks_is_told() -> None:
    whole = lifecycle(1, "first", at=0)
    failed = said(TrainingFailed.model_construct(model="m", run_id="m-1", reason="crashed", explanation=""), 9)
    rejected = said(ModelRejected.model_construct(model="m", run_id="m-1", gates=(), explanation="", candidate=None), 9)

    assert Lifecycles(whole[:1]).breaks() == ["m-1: trained or failed 0 times, expected once"]
    assert Lifecycles(whole[:2]).breaks() == ["m-1: validated or rejected 0 times, expected once"]
    assert Lifecycles(whole[:3]).breaks() == ["m-1: registered 0 times, expected once"]
    assert Lifecycles([*whole, failed]).breaks() == ["m-1: trained or failed 2 times, expected once"]
    assert Lifecycles([*whole, rejected]).breaks() == ["m-1: validated or rejected 2 times, expected once"]


def test_a_cause_that_nobody_said_is_told() -> None:
    (lost,) = Lifecycles([said(changed(1, "serving", 1), 1, cause="gone")]).breaks()

    assert "its cause gone is no event" in lost


def run(outcome: str) -> Run:
    times: Any = {"asked_at": START, "cut": START}
    return Run(model="m", run_id="m-1", reason="first", explanation="", trace_id="t", outcome=outcome, **times)


def trace(services: frozenset[str] = checks.LIVE, orphans: tuple[str, ...] = ()) -> Trace:
    return Trace(trace_id="t", spans=9, services=tuple(sorted(services)), orphans=orphans)


def test_a_whole_trace_has_every_service_that_took_part_and_no_orphan() -> None:
    assert checks.traces_whole([run("registered")], {"m-1": trace()}, {}).ok is True
    assert checks.traces_whole([run("rejected: x")], {"m-1": trace(checks.JUDGED)}, {}).ok is True
    assert checks.traces_whole([run("failed: x")], {"m-1": trace(checks.FAILED)}, {}).ok is True


def test_a_trace_without_a_service_with_an_orphan_or_in_parts_fails() -> None:
    runs = [run("registered")]

    assert checks.traces_whole(runs, {}, {}).ok is False
    assert checks.traces_whole(runs, {"m-1": trace(checks.JUDGED)}, {}).ok is False
    assert checks.traces_whole(runs, {"m-1": trace(orphans=("x",))}, {}).ok is False
    assert checks.traces_whole(runs, {"m-1": trace()}, {"m-1": {"other"}}).ok is False


def test_rows_and_labels_must_add_up() -> None:
    assert checks.tables_hold_everything({"data/s": 3}, {"data/s": 3}).ok is True
    assert checks.tables_hold_everything({}, {"data/s": 3}).ok is False
    assert checks.labels_add_up({"m": {"joined": 2, "pending": 1}}, {"m": 3}).ok is True
    assert checks.labels_add_up({"m": {"joined": 2}}, {"m": 3}).ok is False


def test_the_monitors_numbers_are_read_from_its_metrics() -> None:
    exposition = (
        'modelbus_monitor_lag_records{topic="data.s"} 7.0\n'
        'modelbus_monitor_lag_records{topic="labels.s"} 2.0\n'
        'modelbus_monitor_wanted_runs{model="a"} 1.0\n'
        'modelbus_monitor_wanted_runs{model="b"} 0.0\n'
        'modelbus_monitor_clock_seconds{stream="s"} 1.357e9\n'
        'modelbus_monitor_sampling{stream="s"} 4.0\n'
        'modelbus_monitor_joined{model="a"} 12.0\n'
        'modelbus_monitor_round_seconds_sum{stream="s"} 1.5\n'
    )

    found = numbers(exposition)

    assert (found.behind, found.wanted, found.joins) == (9, {"a"}, {("a", "joined"): 12})
    assert (found.clock, found.sampling) == (datetime.fromtimestamp(1.357e9, UTC), 4)
    assert (numbers("").behind, numbers("").clock, numbers("").sampling) == (None, None, None)


def test_the_picture_tells_the_news_and_forgets_evidence_that_is_over() -> None:
    picture = Picture()

    for each in two_versions():
        picture.hear(each)

    assert picture.models["m"].evidence is None
    assert picture.news[0] == "m: training requested (first): why"
    assert picture.news[-1] == "m: v2 promoted: better"
    assert "m: v1 serving, v2 canary 25%: so" in picture.news


def test_predictions_resolve_when_every_answer_is_whole_and_quick() -> None:
    def asked(seconds: float, *missing: str) -> Resolved:
        return Resolved(prediction="e1@m:1", seconds=seconds, missing=missing)

    assert checks.predictions_resolve([]).ok is None
    assert checks.predictions_resolve([asked(0.1), asked(0.9)]).ok is True
    assert checks.predictions_resolve([asked(0.1), asked(1.1)]).ok is False
    assert "report" in checks.predictions_resolve([asked(0.1, "report")]).explanation


def test_what_an_answer_lacks_is_named() -> None:
    whole = {
        "run": {"request": "drift"}, "made_with": {"code_version": "c0de", "libraries": {"numpy": "2"}},
        "cut": {"data_offsets": {"0": 1}, "labels_offsets": {"0": 1}}, "gates": [1], "report": {"digest": "d"},
        "approval": "none", "approvals": [], "rollouts": [1], "trace_id": "ab",
    }  # fmt: skip

    assert list(missing(whole)) == []
    assert list(missing(whole | {"made_with": None, "rollouts": []})) == ["code", "libraries", "rollouts"]
    assert list(missing(whole | {"approval": "required"})) == ["approvals"]
