"""The monitor's tables, in its own words."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from schemas.events.deployer import RolloutChanged
from schemas.events.ingestor import DatasetCommitted
from schemas.events.parts import Candidate, Offsets, Release, Span
from schemas.events.registry import ModelApplied, StreamApplied, TrainingOrdered
from schemas.specs import ModelSpec, StreamSpec
from services.monitor.domain.facts import ModelFacts, Order, Rollout, Run, Said, StreamFacts, TableVersion
from shared import queries
from shared.errors import Fenced
from shared.postgres import Connection

_SQL = queries.load(Path(__file__).parent / "queries.sql")


class Store:
    """Domain verbs over one connection, inside the caller's transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # what is heard

    async def keep_stream(self, event: StreamApplied) -> None:
        await self._execute("keep_stream", event.stream, event.revision, event.spec.model_dump(mode="json"))

    async def keep_model(self, event: ModelApplied) -> None:
        spec, stream_spec = event.spec.model_dump(mode="json"), event.stream_spec.model_dump(mode="json")
        await self._execute("keep_model", event.model, event.spec.stream, event.revision, spec, stream_spec)

    async def keep_release(self, release: Release) -> None:
        candidate = release.candidate
        document = candidate.model_dump(mode="json")
        await self._execute("keep_release", candidate.model, release.version, candidate.run_id, document)

    async def keep_rollout(self, event: RolloutChanged, said: Said) -> None:
        challenger = event.challenger.version if event.challenger else None
        arms = event.champion.version, challenger
        place = said.event_id, said.correlation_id, said.traceparent
        await self._execute("keep_rollout", event.model, event.revision, event.phase, *arms, *place)

    async def keep_served(self, model: str, partition: int, offset: int) -> None:
        await self._execute("keep_served", model, partition, offset)

    async def keep_table_version(self, event: DatasetCommitted, said: Said) -> None:
        place = said.event_id, said.traceparent
        await self._execute("keep_table_version", event.stream, event.kind, event.version, event.offsets, *place)

    async def keep_order(self, event: TrainingOrdered, event_id: str) -> None:
        await self._execute("keep_order", event_id, event.model, event.actor, event.reason)

    async def close_run(self, run_id: str, outcome: str) -> None:
        await self._execute("close_run", run_id, outcome)

    async def close_run_of_version(self, model: str, version: int, outcome: str) -> None:
        await self._execute("close_run_of_version", model, version, outcome)

    # what decisions need

    async def keep_altered(self, model: str, version: int) -> bool:
        """Whether it was not known before that a version was altered."""
        return bool(await self._fetch("keep_altered", model, version))

    async def forget_altered(self, model: str, version: int) -> bool:
        """Whether it was known."""
        return bool(await self._fetch("forget_altered", model, version))

    async def streams(self) -> list[StreamFacts]:
        """Their declarations alone."""
        rows = await self._fetch("streams")
        return [StreamFacts(spec=StreamSpec.model_validate(row["spec"]), revision=row["revision"]) for row in rows]

    async def models_of(self, stream: str, known: Mapping[str, ModelFacts]) -> dict[str, ModelFacts]:
        """Everything about a stream's models; versions and revisions that are known are not read again."""
        rows = await self._fetch("models_of_stream", stream)
        return {row["model"]: await self._model(row, known.get(row["model"])) for row in rows}

    async def _model(self, row: Mapping[str, Any], known: ModelFacts | None) -> ModelFacts:
        model = row["model"]
        releases = dict(known.releases) if known else {}
        rollouts = dict(known.rollouts) if known else {}
        for found in await self._fetch("releases_of_model", model, list(releases)):
            releases[found["version"]] = Candidate.model_validate(found["candidate"])
        for found in await self._fetch("rollouts_of_model", model, max(rollouts, default=0)):
            rollouts[found["revision"]] = _rollout(found)
        served = await self._fetch("served_partitions", model)
        runs = await self._fetch("runs_of_model", model)
        return ModelFacts(
            spec=ModelSpec.model_validate(row["spec"]),
            revision=row["revision"],
            releases=releases,
            rollouts=rollouts,
            served_from={each["partition"]: each["from_offset"] for each in served},
            run=_run(runs[0]) if runs else None,
            orders=[Order(**each) for each in await self._fetch("open_orders", model)],
        )

    async def tables_of(self, stream: str) -> list[TableVersion]:
        return [
            TableVersion(
                kind=row["kind"],
                version=row["version"],
                offsets=_offsets(row["offsets"]),
                said=Said(event_id=row["event_id"], traceparent=row["traceparent"]),
            )
            for row in await self._fetch("table_versions", stream)
        ]

    async def quarantined(self, stream: str, after: datetime) -> tuple[Span, ...]:
        rows = await self._fetch("quarantined", stream, after)
        return tuple(Span(start=row["span_start"], end=row["span_end"]) for row in rows)

    # what is decided

    async def want(self, model: ModelSpec, run: Run, answered: Iterable[Order]) -> None:
        vectors = run.data_offsets, run.labels_offsets
        what = run.run_id, model.model, model.stream, run.number, run.reason, run.explanation, run.cut_time
        await self._execute("want_run", *what, *vectors, run.since)
        await self._execute("answer_orders", [order.event_id for order in answered], run.run_id)

    async def requested(self, run_id: str) -> bool:
        """Whether this run was wanted; it is requested from now on."""
        return await self._connection.fetchval(_SQL["run_requested"], run_id) is not None

    async def quarantine(self, stream: str, span: Span, features: Sequence[str]) -> None:
        await self._execute("quarantine", stream, span.start, span.end, list(features))

    async def load_state(self, stream: str) -> tuple[int, bytes] | None:
        """Revision and snapshot, or None for a new stream."""
        row = await self._connection.fetchrow(_SQL["load_state"], stream)
        return (row["revision"], row["snapshot"]) if row else None

    async def move_state(self, stream: str, revision: int, snapshot: bytes) -> int:
        """Write the state that follows `revision` (0: the first); returns its own revision.

        Raises:
            Fenced: somebody else has written one.
        """
        if revision == 0:
            found = await self._connection.fetchval(_SQL["begin_state"], stream, snapshot)
        else:
            found = await self._connection.fetchval(_SQL["move_state"], stream, revision, snapshot)
        if found is None:
            raise Fenced(f"{stream}: the state is no longer at revision {revision}")
        return int(found)

    async def _execute(self, name: str, *arguments: Any) -> None:
        await self._connection.execute(_SQL[name], *arguments)

    async def _fetch(self, name: str, *arguments: Any) -> list[Mapping[str, Any]]:
        return list(await self._connection.fetch(_SQL[name], *arguments))


def _rollout(row: Mapping[str, Any]) -> Rollout:
    said = Said(event_id=row["event_id"], correlation_id=row["correlation_id"], traceparent=row["traceparent"])
    return Rollout(
        revision=row["revision"],
        phase=row["phase"],
        champion=row["champion"],
        challenger=row["challenger"],
        said=said,
    )


def _run(row: Mapping[str, Any]) -> Run:
    return Run(
        run_id=row["run_id"],
        number=row["number"],
        state=row["state"],
        reason=row["reason"],
        explanation=row["explanation"],
        cut_time=row["cut_time"],
        data_offsets=_offsets(row["data_offsets"]),
        labels_offsets=_offsets(row["labels_offsets"]),
        since=row["since"],
        outcome=row["outcome"],
        misses=row["misses"],
    )


def _offsets(document: Mapping[str, int]) -> Offsets:
    return {int(partition): offset for partition, offset in document.items()}
