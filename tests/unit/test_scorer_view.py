"""What a scorer's view says and holds when a version does not load."""

import pytest

from schemas.envelope import Envelope
from schemas.events.deployer import LoadFailed
from services.deployer import view as views
from services.deployer.places import Place
from services.deployer.stream import _must_hold
from services.deployer.view import View
from shared.errors import Fault
from shared.objects import Objects, Tampered
from shared.settings import KafkaSettings
from tests.scoring_world import changed, envelope_of, model_spec, release_of, stream_spec, trained

SPEC, STREAM = model_spec("m", "s"), stream_spec("s")
TRIES = 10


class Store(Objects):
    """Answers with bytes, or raises what it is told to."""

    def __init__(self, answer: bytes | Exception) -> None:
        self.answer = answer
        self.reads = 0

    def get_now(self, digest: str) -> bytes:
        self.reads += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def view_of(store: Store) -> View:
    """A view that has heard revision 3 of the model `m`."""
    view = View(kafka=KafkaSettings(bootstrap_servers="nowhere:9092"), objects=store, slot=0)
    view._paint(models={"m": "s"})
    view._rollouts["m"] = {3: envelope_of(changed(3, release_of(1, SPEC, STREAM)), "said")}
    return view


def tried(view: View, monkeypatch: pytest.MonkeyPatch) -> list[Envelope]:
    """What was said of ten tries."""
    monkeypatch.setattr(views, "_RETRY_SECONDS", (0.0,))
    for _ in range(TRIES):
        view._load()
    return [view.asides.get() for _ in range(view.asides.qsize())]


def test_a_fault_is_never_said_and_tried_until_it_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(Fault("S3 does not answer"))
    view = view_of(store)

    assert tried(view, monkeypatch) == []
    assert store.reads == TRIES
    assert view.known.awaited == {"m"}

    store.answer = trained(1)
    view._load()
    assert view.known.serving["m"].changed.revision == 3
    assert view.known.awaited == frozenset()


@pytest.mark.parametrize("answer", [b"this is no model", Tampered("other bytes")])
def test_what_can_never_load_is_said_once_and_not_tried_again(
    answer: bytes | Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(answer)
    view = view_of(store)

    [said] = tried(view, monkeypatch)

    assert isinstance(said.event, LoadFailed)
    assert (said.event.version, said.event.revision, store.reads) == (1, 3, 1)
    assert view.known.awaited == frozenset()


def test_partitions_are_held_while_nothing_is_loaded_that_may_load_served_before_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store(Fault("S3 does not answer"))
    view = view_of(store)
    places = [Place(position=7), Place(position=7, revisions={"m": 3})]
    where = "data.s", 0

    tried(view, monkeypatch)
    assert [_must_hold(view.known, where, place) for place in places] == [True, True]

    store.answer = trained(1)
    view._load()
    assert [_must_hold(view.known, where, place) for place in places] == [False, False]
