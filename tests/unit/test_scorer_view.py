"""What a scorer's view says and holds when a version does not load."""

from concurrent.futures import wait
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from compose.embedded.keys import key_pair
from schemas.envelope import Envelope
from schemas.events.deployer import LoadFailed
from schemas.events.parts import Artifact
from services.deployer import view as views
from services.deployer.places import Place
from services.deployer.stream import _must_hold
from services.deployer.view import View
from shared.errors import Fault
from shared.objects import Missing, Objects, Tampered, digest_of
from shared.settings import KafkaSettings, SigningSettings
from tests.scoring_world import changed, model_spec, release_of, signed, stream_spec, trained, wrapped

SPEC, STREAM = model_spec("m", "s"), stream_spec("s")
TRIES = 10


class Store(Objects):
    """Holds what is put, and raises what it is told to."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self.held: dict[str, bytes] = {}
        self.reads = 0
        self.open = Event()  # reads hang while it is not set
        self.open.set()

    def put_now(self, data: bytes) -> Artifact:
        self.held[digest_of(data)] = data
        return Artifact(digest=digest_of(data), size_bytes=len(data))

    def get_now(self, digest: str) -> bytes:
        self.reads += 1
        assert self.open.wait(30)
        if self.failure:
            raise self.failure
        return self.held[digest]


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return key_pair(tmp_path / "keys")


def view_of(store: Store, keys: tuple[Path, Path], onnx: bytes | None = None, **other: object) -> View:
    """A view that has heard revision 3 of the model `m`, a version with this model; `other` is said otherwise."""
    data = trained(1) if onnx is None else onnx
    release = signed(release_of(1, SPEC, STREAM, store.put_now(data)), data, store.put_now, keys[0])
    signing = SigningSettings(public_key=keys[1])
    view = View(kafka=KafkaSettings(bootstrap_servers="nowhere:9092"), objects=store, signing=signing, slot=0)
    view._paint(models={"m": "s"})
    view._rollouts["m"] = {3: wrapped(changed(3, release.model_copy(update=other)), "said")}
    return view


def loaded(view: View) -> None:
    """One turn, and what it began to fetch."""
    view._load()
    if view._fetching:
        wait([view._fetching.version])
    view._collect()


def tried(view: View, monkeypatch: pytest.MonkeyPatch, tries: int = TRIES) -> list[Envelope]:
    """What was said of so many tries."""
    monkeypatch.setattr(views, "_RETRY_SECONDS", (0.0,))
    for _ in range(tries):
        loaded(view)
    return [view.asides.get() for _ in range(view.asides.qsize())]


def test_a_fault_is_never_said_and_tried_until_it_has_passed(
    keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(Fault("S3 does not answer"))
    view = view_of(store, keys)

    assert tried(view, monkeypatch) == []
    assert store.reads == TRIES
    assert view.known.awaited == {"m"}

    store.failure = None
    loaded(view)
    view._load()
    assert view.known.serving["m"].changed.revision == 3
    assert view.known.awaited == frozenset()


@pytest.mark.parametrize(
    ("altered", "cause", "reads"),
    [
        ({"onnx": b"this is no model"}, "unloadable", 3),
        ({"failure": Tampered("other bytes")}, "integrity", 1),
        ({"attestation": None}, "integrity", 0),
        ({"candidate": release_of(2, SPEC, STREAM).candidate}, "integrity", 3),
    ],
)
def test_what_can_never_load_is_said_once_and_not_tried_again(
    keys: tuple[Path, Path], altered: dict[str, Any], cause: str, reads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(altered.get("failure"))
    view = view_of(store, keys, **{name: value for name, value in altered.items() if name != "failure"})

    [said] = tried(view, monkeypatch)

    assert isinstance(said.event, LoadFailed)
    assert (said.event.version, said.event.revision, said.event.cause) == (1, 3, cause)
    assert store.reads == reads
    assert view.known.awaited == frozenset()


def test_a_version_that_is_loaded_is_looked_at_again_when_something_else_is_said_of_it(
    keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    view = view_of(Store(), keys)
    tried(view, monkeypatch)
    champion = view.known.serving["m"].champion.release
    classes = champion.candidate.signature.model_copy(update={"classes": ("true", "false")})
    candidate = champion.candidate.model_copy(update={"signature": classes})

    view._rollouts["m"][4] = wrapped(changed(4, champion.model_copy(update={"candidate": candidate})), "said")
    [said] = tried(view, monkeypatch)

    assert isinstance(said.event, LoadFailed)
    assert (said.event.revision, said.event.cause) == (4, "integrity")
    assert view.known.serving["m"].changed.revision == 3


def test_partitions_are_held_while_nothing_is_loaded_that_may_load_served_before_or_not(
    keys: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store(Fault("S3 does not answer"))
    view = view_of(store, keys)
    places = [Place(position=7), Place(position=7, revisions={"m": 3})]
    where = "data.s", 0

    tried(view, monkeypatch)
    assert [_must_hold(view.known, where, place) for place in places] == [True, True]

    store.failure = None
    loaded(view)
    view._load()
    assert [_must_hold(view.known, where, place) for place in places] == [False, False]


def test_what_is_not_in_the_store_is_said_after_a_while_and_tried_for_ever(
    keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(Missing("it is not in the store"))
    view = view_of(store, keys)

    assert tried(view, monkeypatch, 3) == []
    [said] = tried(view, monkeypatch, TRIES)

    assert isinstance(said.event, LoadFailed)
    assert (said.event.revision, said.event.cause) == (3, "unloadable")
    store.failure = None
    loaded(view)
    view._load()
    assert view.known.serving["m"].changed.revision == 3


def test_while_s3_hangs_what_is_in_memory_takes_hold(keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    view = view_of(store, keys)
    tried(view, monkeypatch, 2)
    champion = view.known.serving["m"].champion.release
    other = model_spec("o", "s")
    release = signed(release_of(1, other, STREAM, store.put_now(trained(2))), trained(2), store.put_now, keys[0])

    store.open.clear()
    view._rollouts["o"] = {1: wrapped(changed(1, release), "said")}
    view._load()
    view._rollouts["m"][4] = wrapped(changed(4, champion, release_of(2, SPEC, STREAM)), "said")
    view._rollouts["m"][5] = wrapped(changed(5, champion), "said")
    view._load()

    assert view.known.serving["m"].changed.revision == 5
    assert "o" in view.known.awaited
    store.open.set()
    loaded(view)
    view._load()
    assert view.known.serving["o"].changed.revision == 1


def test_two_versions_of_one_revision_are_both_fetched(
    keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store()
    view = view_of(store, keys)
    champion = next(iter(view._rollouts["m"].values())).event.champion  # type: ignore[attr-defined]
    release = signed(release_of(2, SPEC, STREAM, store.put_now(trained(2))), trained(2), store.put_now, keys[0])
    view._rollouts["m"][4] = wrapped(changed(4, champion, release), "said")

    tried(view, monkeypatch, 3)

    serving = view.known.serving["m"]
    assert (serving.changed.revision, serving.champion.release, serving.challenger and serving.challenger.release) == (
        4,
        champion,
        release,
    )
    assert view._rollouts["m"] == {}


def test_what_several_revisions_miss_is_fetched_once(keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(Fault("S3 does not answer"))
    view = view_of(store, keys)
    champion = view._rollouts["m"][3].event.champion  # type: ignore[attr-defined]
    view._rollouts["m"] |= {number: wrapped(changed(number, champion), "said") for number in (4, 5)}

    loaded(view)
    view._load()
    assert (store.reads, view.complete) == (1, True)

    store.failure = None
    view._tries.clear()
    loaded(view)
    view._load()
    assert view.known.serving["m"].changed.revision == 5


def test_those_that_fail_take_turns(keys: tuple[Path, Path]) -> None:
    store = Store(Fault("S3 does not answer"))
    view = view_of(store, keys)
    release = signed(release_of(1, model_spec("o", "s"), STREAM), b"", store.put_now, keys[0])
    view._rollouts["o"] = {1: wrapped(changed(1, release), "said")}

    assert not view.complete
    for _ in range(2):
        loaded(view)
    view._load()

    assert {name[0]: tries.failed for name, tries in view._tries.items()} == {"m": 1, "o": 1}
    assert view.complete
