"""The scorer's view of the control plane: who is declared, who serves, and the versions loaded for it.

Reads lifecycle.registry and lifecycle.deployer from the start, in no group, and stores nothing. What it knows is one
immutable picture, replaced whole; a picture names only revisions whose versions are in memory and warm.

A version that can never load (no safe model, not what the validator signed) is said once and not tried again. A
fault, such as S3 being away, says nothing about the version: it is counted, logged and tried again for ever, the
version before goes on, and a model with nothing loaded is `awaited`: new partitions of its stream are held back. One
that is not in the store is tried likewise, and said after a while. While versions are fetched, one at a time, what is
in memory already takes hold at once: a rollback never waits for S3.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, wait
from dataclasses import replace
from queue import SimpleQueue
from threading import Thread
from typing import Any, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from schemas.envelope import Envelope, NotAnEvent
from schemas.events.deployer import LoadFailed, RolloutChanged
from schemas.events.parts import Release
from schemas.events.registry import ModelApplied, StreamApplied
from schemas.topics import DEPLOYER, REGISTRY
from services.deployer import metrics
from services.deployer.attestation import attested
from services.deployer.places import Record
from services.deployer.serving import Known, Serving, Version, follow_up
from shared import telemetry
from shared.errors import Fatal, Refusal
from shared.objects import Missing, Objects, Tampered
from shared.reading import envelope_of, take
from shared.runtime import Model
from shared.settings import KafkaSettings, SigningSettings
from shared.signing import Unverified

_POLL_SECONDS = 0.1
_FETCHED_SECONDS = 0.01  # between looks at what is fetched
_RETRY_SECONDS = (1.0, 2.0, 4.0, 8.0)  # after each fault in a row, the last one from then on
_LAST_SECONDS = 5.0
_TRIES_OF_MISSING = 4
_Name = tuple[str, int, str]  # of a version: its model, its number, the digest of its bytes
log = logging.getLogger(__name__)


class View:
    """`known` may be read from any thread; `run` belongs to one."""

    def __init__(self, *, kafka: KafkaSettings, objects: Objects, signing: SigningSettings, slot: int) -> None:
        self.known = Known()
        self.asides: SimpleQueue[Envelope] = SimpleQueue()  # to be said beside the next batch: what did not load
        self.complete = False  # everything said before the start is heard, and loaded, awaited or hopeless
        self.beat = time.monotonic()
        self._kafka = kafka
        self._memory = Memory(objects, signing)
        self._slot = slot
        self._stream_revisions: dict[str, int] = {}
        self._model_revisions: dict[str, int] = {}
        self._rollouts: dict[str, dict[int, Envelope]] = {}
        self._tries: dict[_Name, _Tries] = {}  # that failed
        self._hopeless: set[tuple[str, int]] = set()
        self._fetching: _Fetching | None = None

    def run(self, stopped: Callable[[], bool]) -> None:
        """Hear and load until told to stop.

        Raises:
            Fatal: the topics cannot be read, or speak a version that this scorer does not know.
        """
        consumer = Consumer(
            self._kafka.librdkafka()
            | {
                "group.id": f"modelbus.scorer.view.{self._slot}",  # asked for by the client; never joined
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                # rollout.changed is not transactional, and a frozen scorer's open transaction must not hide it
                "isolation.level": "read_uncommitted",
                "fetch.wait.max.ms": 100,
            }
        )
        try:
            self._follow(consumer, stopped)
        finally:
            consumer.close()
            if self._fetching:  # an interpreter does not end well below ONNX Runtime
                wait([self._fetching.version], _LAST_SECONDS)

    def _follow(self, consumer: Consumer, stopped: Callable[[], bool]) -> None:
        unread = self._assign(consumer)
        while not stopped():
            for message in take(consumer, 500, _POLL_SECONDS if self._fetching is None else _FETCHED_SECONDS):
                if (error := message.error()) is None:
                    self._hear(message)
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  # the client's own name for it
                    unread.discard((message.topic(), message.partition()))
                elif error.fatal():
                    raise Fatal(f"{message.topic()}: {error}")
            if not unread:
                self._load()
            self.beat = time.monotonic()

    def _assign(self, consumer: Consumer) -> set[tuple[str, int]]:
        partitions = [
            TopicPartition(topic.name, partition, OFFSET_BEGINNING)
            for topic in (REGISTRY, DEPLOYER)
            for partition in _partitions(consumer, topic.name)
        ]
        consumer.assign(partitions)
        return {(each.topic, each.partition) for each in partitions}

    def _hear(self, message: Record) -> None:
        """Take in one record; what is no event is left to the services, which park it."""
        try:
            said = envelope_of(message)
        except NotAnEvent as error:
            log.warning("%s[%s]@%s: %s", message.topic(), message.partition(), message.offset(), error)
            return
        match said.event if said else None:
            case StreamApplied() as applied if applied.revision > self._stream_revisions.get(applied.stream, 0):
                self._stream_revisions[applied.stream] = applied.revision
                self._paint(streams={applied.stream: applied.spec})
            case ModelApplied() as applied if applied.revision > self._model_revisions.get(applied.model, 0):
                self._model_revisions[applied.model] = applied.revision
                self._paint(models={applied.model: applied.spec.stream})
                if applied.stream_spec.stream not in self.known.streams:
                    self._paint(streams={applied.stream_spec.stream: applied.stream_spec})
            case RolloutChanged() as changed if said:
                self._rollouts.setdefault(changed.model, {})[changed.revision] = said
                self._paint(models={changed.model: changed.stream_spec.stream})
                if changed.stream_spec.stream not in self.known.streams:
                    self._paint(streams={changed.stream_spec.stream: changed.stream_spec})

    def _paint(self, **news: dict[str, object]) -> None:
        merged: dict[str, Any] = {name: {**getattr(self.known, name), **value} for name, value in news.items()}
        self.known = replace(self.known, **merged)

    def _load(self) -> None:
        """Bring every model to its highest revision that is in memory; fetch what higher ones miss, one by one."""
        self._collect()
        for model in self._rollouts:
            if serving := next(filter(None, map(self._serving, self._newer(model))), None):
                revision = serving.changed.revision
                self._paint(serving={model: serving})
                self._rollouts[model] = {each: said for each, said in self._rollouts[model].items() if each > revision}
                metrics.REVISION.labels(model).set(revision)
        wanted = [(said, self._missing(said)) for model in self._rollouts for said in self._newer(model)]
        if self._fetching is None:
            self._fetch_one_of(wanted)
        if (awaited := self._awaited()) != self.known.awaited:
            self.known = replace(self.known, awaited=awaited)
        self._memory.keep_only(self.known, [said for said, _ in wanted])
        self.complete = self.complete or all(_name(missing) in self._tries for _, missing in wanted)

    def _newer(self, model: str) -> list[Envelope]:
        """What was said of revisions above the one that serves, the highest first; none that can never load."""
        at = self.known.serving[model].changed.revision if model in self.known.serving else 0
        rollouts = self._rollouts[model]
        above = [each for each in rollouts if each > at and (model, each) not in self._hopeless]
        return [rollouts[each] for each in sorted(above, reverse=True)]

    def _serving(self, said: Envelope) -> Serving | None:
        """A revision, if its versions are in memory."""
        changed = _changed(said)
        versions = [self._memory.get(release) for release in releases_of(changed)]
        champion, challenger = versions[0], versions[-1] if len(versions) > 1 else None
        if champion is None or None in versions:
            return None
        return Serving(changed=changed, said=said, champion=champion, challenger=challenger)

    def _missing(self, said: Envelope) -> Release:
        """What is not in memory of a revision that cannot be served."""
        return next(release for release in releases_of(_changed(said)) if self._memory.get(release) is None)

    def _fetch_one_of(self, wanted: Sequence[tuple[Envelope, Release]]) -> None:
        """Whichever waits the longest for its turn, if the turn of any has come; at first the highest revisions."""

        def turn(each: tuple[Envelope, Release]) -> float:
            return self._tries.get(_name(each[1]), _UNTRIED).next

        if wanted and turn(first := min(wanted, key=turn)) <= time.monotonic():
            self._fetching = _Fetching(*first, self._memory.fetch)

    def _collect(self) -> None:
        if self._fetching is None or not self._fetching.version.done():
            return
        fetched, self._fetching = self._fetching, None
        try:
            self._memory.put(fetched.version.result())
        except Exception as error:  # whatever it was, the version before goes on
            self._failed(fetched.said, fetched.release, error)

    def _awaited(self) -> frozenset[str]:
        """Models with a rollout of which nothing is loaded, but something may yet."""
        return frozenset(
            model
            for model, rollouts in self._rollouts.items()
            if model not in self.known.serving and any((model, each) not in self._hopeless for each in rollouts)
        )

    def _failed(self, said: Envelope, release: Release, error: Exception) -> None:
        changed, name = _changed(said), _name(release)
        before, is_missing = self._tries.get(name, _UNTRIED), isinstance(error, Missing)
        pause = _RETRY_SECONDS[min(before.failed, len(_RETRY_SECONDS) - 1)]
        tries = _Tries(before.failed + 1, before.missing + is_missing, time.monotonic() + pause)
        self._tries[name] = tries
        metrics.LOAD_FAILURES.labels(changed.model).inc()
        log.warning("%s:%s at revision %s: %r", changed.model, release.version, changed.revision, error)
        hopeless = isinstance(error, Refusal | Tampered)
        if hopeless:
            self._hopeless.add((changed.model, changed.revision))
        if hopeless or (is_missing and tries.missing == _TRIES_OF_MISSING):
            event = LoadFailed(
                model=changed.model,
                version=release.version,
                revision=changed.revision,
                explanation=f"scorer {self._slot}: {type(error).__name__}: {error}",
                cause="integrity" if isinstance(error, Unverified | Tampered) else "unloadable",
            )
            event_id = f"load-failed/{changed.model}/{changed.revision}/{release.version}/{self._slot}"
            self.asides.put(follow_up(said, event, event_id))


class _Tries(NamedTuple):
    """How often it has failed, how often because it was not in the store, and when it is tried again."""

    failed: int
    missing: int
    next: float


_UNTRIED = _Tries(0, 0, 0.0)


class _Fetching:
    """A version on its way into memory, in a thread of its own: S3 may hang, and others' revisions must not wait."""

    def __init__(self, said: Envelope, release: Release, fetch: Callable[[Envelope, Release], Version]) -> None:
        self.said, self.release = said, release
        self.version: Future[Version] = Future()
        Thread(target=self._run, args=(fetch,), name="fetch", daemon=True).start()

    def _run(self, fetch: Callable[[Envelope, Release], Version]) -> None:
        try:
            self.version.set_result(fetch(self.said, self.release))
        except BaseException as error:  # who collects it raises it
            self.version.set_exception(error)


class Memory:
    """Versions in memory, by the digest of their model; `fetch` may run in any thread."""

    def __init__(self, objects: Objects, signing: SigningSettings) -> None:
        self._objects = objects
        self._signing = signing
        self._versions: dict[_Name, Version] = {}

    def get(self, release: Release) -> Version | None:
        """The version, if it is there and nothing else was said of it."""
        version = self._versions.get(_name(release))
        return version if version and version.release == release else None

    def fetch(self, said: Envelope, release: Release) -> Version:
        """Fetch, verify, look, load, warm up, within the trace of who ordered it.

        Raises:
            Unverified: it is not what the validator signed.
            Tampered: the bytes are not those of the digest.
            Fault: S3 failed.
            UnsafeModel: the bytes are not a model that may be loaded, or one that cannot answer.
        """
        with telemetry.span("load version", parent=said.traceparent, attributes=_about(_changed(said), release)):
            return loaded(release, attested(release, self._objects, self._signing.public_keys))

    def put(self, version: Version) -> None:
        self._versions[_name(version.release)] = version

    def keep_only(self, known: Known, wanted: Iterable[Envelope]) -> None:
        """Forget versions that nothing serves or waits for."""
        served = (serving.changed for serving in known.serving.values())
        names = {_name(each) for changed in (*served, *map(_changed, wanted)) for each in releases_of(changed)}
        self._versions = {name: version for name, version in self._versions.items() if name in names}


def releases_of(changed: RolloutChanged) -> list[Release]:
    """The champion, and the challenger if there is one."""
    return [changed.champion, *([changed.challenger] if changed.challenger else [])]


def loaded(release: Release, data: bytes) -> Version:
    """A version of these bytes, warmed up.

    Raises:
        UnsafeModel: they are not a model that may be loaded, or one that cannot answer.
    """
    return Version(release=release, model=Model(data, release.candidate.signature))


def _changed(said: Envelope) -> RolloutChanged:
    assert isinstance(said.event, RolloutChanged)
    return said.event


def _name(release: Release) -> _Name:
    return release.candidate.model, release.version, release.candidate.onnx.digest


def _about(changed: RolloutChanged, release: Release) -> dict[str, str | int]:
    return {
        "modelbus.model": changed.model,
        "modelbus.version": release.version,
        "modelbus.revision": changed.revision,
        "modelbus.digest": release.candidate.onnx.digest,
    }


def _partitions(consumer: Consumer, topic: str) -> list[int]:
    try:
        found = consumer.list_topics(topic, timeout=30).topics[topic]
    except KafkaException as error:
        raise Fatal(f"{topic}: {error}") from error
    if found.error or not found.partitions:
        raise Fatal(f"{topic}: {found.error or 'no partitions'}")
    return sorted(found.partitions)
