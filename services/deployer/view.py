"""The scorer's view of the control plane: who is declared, who serves, and the versions loaded for it.

Reads lifecycle.registry and lifecycle.deployer from the start, in no group, and stores nothing. What it knows is one
immutable picture, replaced whole; a picture names only revisions whose versions are in memory and warm.

A version that can never load (no safe model, not what the validator signed) is said once and not tried again. A
fault, such as S3 being away, says nothing about the version: it is counted, logged and tried again for ever, the
version before goes on, and a model with nothing loaded is `awaited`: new partitions of its stream are held back.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

import numpy as np
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from schemas import envelope
from schemas.envelope import Envelope, NotAnEvent
from schemas.events.deployer import LoadFailed, RolloutChanged
from schemas.events.parts import Release, Signature
from schemas.events.registry import ModelApplied, StreamApplied
from schemas.topics import DEPLOYER, REGISTRY
from services.deployer import metrics
from services.deployer.attestation import attested
from services.deployer.places import Record
from services.deployer.serving import Known, Serving, Version, follow_up
from shared import telemetry
from shared.errors import Fatal, Refusal
from shared.objects import Objects, Tampered
from shared.reading import take
from shared.runtime import Model, UnsafeModel
from shared.settings import KafkaSettings, SigningSettings
from shared.signing import Unverified

_POLL_SECONDS = 0.1
_RETRY_SECONDS = (2.0, 4.0, 8.0, 16.0)  # after each fault in a row, the last one from then on
_WARM_UP_ROWS = (1, 256)
log = logging.getLogger(__name__)


class View:
    """`known` may be read from any thread; `run` belongs to one."""

    def __init__(self, *, kafka: KafkaSettings, objects: Objects, signing: SigningSettings, slot: int) -> None:
        self.known = Known()
        self.asides: SimpleQueue[Envelope] = SimpleQueue()  # to be said beside the next batch: what did not load
        self.complete = False  # everything said before the start is heard, and loaded, awaited or hopeless
        self._kafka = kafka
        self._loader = Loader(objects, signing)
        self._slot = slot
        self._stream_revisions: dict[str, int] = {}
        self._model_revisions: dict[str, int] = {}
        self._rollouts: dict[str, dict[int, Envelope]] = {}
        self._attempts: dict[tuple[str, int], int] = {}
        self._hopeless: set[tuple[str, int]] = set()
        self._next_try = 0.0

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

    def _follow(self, consumer: Consumer, stopped: Callable[[], bool]) -> None:
        unread = self._assign(consumer)
        while not stopped():
            for message in take(consumer, 500, _POLL_SECONDS):
                if (error := message.error()) is None:
                    self._hear(message)
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  # the client's own name for it
                    unread.discard((message.topic(), message.partition()))
                elif error.fatal():
                    raise Fatal(f"{message.topic()}: {error}")
            if not unread:
                self._load()
                self.complete = True

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
        headers = [(name, value or b"") for name, value in message.headers() or []]
        try:
            said = envelope.read(headers, message.value() or b"")
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
        """Bring every model to its highest revision that loads; the one before goes on until then."""
        waits = time.monotonic() < self._next_try
        for model, rollouts in self._rollouts.items():
            current = self.known.serving.get(model)
            at = current.changed.revision if current else 0
            for revision in sorted((each for each in rollouts if each > at), reverse=True):
                if (model, revision) in self._hopeless or (waits and (model, revision) in self._attempts):
                    continue
                if serving := self._try(rollouts[revision]):
                    self._paint(serving={model: serving})
                    metrics.REVISION.labels(model).set(revision)
                    break
        if (awaited := self._awaited()) != self.known.awaited:
            self.known = replace(self.known, awaited=awaited)
        self._loader.keep_only(self.known)

    def _awaited(self) -> frozenset[str]:
        """Models with a rollout of which nothing is loaded, but something may yet."""
        return frozenset(
            model
            for model, rollouts in self._rollouts.items()
            if model not in self.known.serving and any((model, each) not in self._hopeless for each in rollouts)
        )

    def _try(self, said: Envelope) -> Serving | None:
        changed = said.event
        assert isinstance(changed, RolloutChanged)
        key = changed.model, changed.revision
        releases = [changed.champion, *([changed.challenger] if changed.challenger else [])]
        for release in releases:
            try:
                with telemetry.span("load version", parent=said.traceparent, attributes=_about(changed, release)):
                    self._loader.load(release)
            except Exception as error:  # whatever it was, the version before goes on
                self._failed(said, release, error, hopeless=isinstance(error, Refusal | Tampered))
                return None
        self._attempts.pop(key, None)
        loaded = [self._loader.load(release) for release in releases]
        return Serving(
            changed=changed, said=said, champion=loaded[0], challenger=loaded[1] if len(loaded) > 1 else None
        )

    def _failed(self, said: Envelope, release: Release, error: Exception, *, hopeless: bool) -> None:
        changed = said.event
        assert isinstance(changed, RolloutChanged)
        key = changed.model, changed.revision
        self._attempts[key] = self._attempts.get(key, 0) + 1
        pause = _RETRY_SECONDS[min(self._attempts[key], len(_RETRY_SECONDS)) - 1]
        self._next_try = time.monotonic() + pause
        metrics.LOAD_FAILURES.labels(changed.model).inc()
        log.warning("%s:%s at revision %s: %r", changed.model, release.version, changed.revision, error)
        if hopeless:
            self._hopeless.add(key)
            event = LoadFailed(
                model=changed.model,
                version=release.version,
                revision=changed.revision,
                explanation=f"scorer {self._slot}: {type(error).__name__}: {error}",
                cause="integrity" if isinstance(error, Unverified | Tampered) else "unloadable",
            )
            name = f"load-failed/{changed.model}/{changed.revision}/{release.version}/{self._slot}"
            self.asides.put(follow_up(said, event, name))


class Loader:
    """Versions in memory, by the digest of their model."""

    def __init__(self, objects: Objects, signing: SigningSettings) -> None:
        self._objects = objects
        self._signing = signing
        self._versions: dict[tuple[str, int, str], Version] = {}

    def load(self, release: Release) -> Version:
        """Fetch, verify, look, load, warm up; a version that is in memory is given back.

        Raises:
            Unverified: it is not what the validator signed.
            Tampered: the bytes are not those of the digest.
            Fault: S3 failed.
            UnsafeModel: the bytes are not a model that may be loaded, or one that cannot answer.
        """
        key = _key(release)
        if key not in self._versions or self._versions[key].release != release:
            data = attested(release, self._objects, self._signing.public_keys)
            self._versions[key] = loaded(release, data)
        return self._versions[key]

    def keep_only(self, known: Known) -> None:
        """Forget versions that nothing serves."""
        served = {
            _key(version.release)
            for serving in known.serving.values()
            for version in (serving.champion, serving.challenger)
            if version
        }
        self._versions = {key: version for key, version in self._versions.items() if key in served}


def loaded(release: Release, data: bytes) -> Version:
    """A version of these bytes, warmed up.

    Raises:
        UnsafeModel: they are not a model that may be loaded, or one that cannot answer.
    """
    return Version(release=release, model=_warm(data, release.candidate.signature))


def _warm(data: bytes, signature: Signature) -> Model:
    try:
        model = Model(data, signature)
        for rows in _WARM_UP_ROWS:
            model.score(np.zeros((rows, len(signature.features)), dtype=np.float32))
    except (Refusal, MemoryError, OSError):
        raise
    except Exception as error:  # ONNX Runtime has no error tree of its own; the same bytes fail again
        raise UnsafeModel(f"ONNX Runtime refuses it: {error}") from error
    return model


def _key(release: Release) -> tuple[str, int, str]:
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
