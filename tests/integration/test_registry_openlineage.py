"""What catalogues hear of models: valid by the OpenLineage specification, and one whole story a run."""

import json
from pathlib import Path
from typing import Any

import asyncpg
import jsonschema
import pytest
from referencing import Registry, Resource

from schemas.events.deployer import RolloutEnded
from schemas.events.trainer import TrainingFailed
from schemas.topics import OPENLINEAGE
from services.registry.app import MIGRATIONS
from tests.conftest import PoolFor
from tests.integration.registry_kit import (
    STREAM,
    changed,
    declare,
    hear,
    model,
    rejected,
    requested,
    trained,
    validated,
)  # fmt: skip

SPECIFICATION = Path(__file__).parents[1] / "contract" / "openlineage"
PARTS = [Resource.from_contents(json.loads(file.read_text())) for file in sorted(SPECIFICATION.glob("*.json"))]
KNOWN: Any = Registry().with_resources((part.id() or "", part) for part in PARTS)
EVENT = "https://openlineage.io/spec/2-0-2/OpenLineage.json"


def check(what: Any, schema: str) -> None:
    """Against the specification's own schema, formats too."""
    validator = jsonschema.Draft202012Validator(
        {"$ref": schema}, registry=KNOWN, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    validator.validate(what)


def facets(event: Any) -> list[Any]:
    holders = [event["run"], event["job"], *event["inputs"], *event["outputs"]]
    return [facet for holder in holders for facet in holder["facets"].values()]


@pytest.fixture
async def told(pool_for: PoolFor) -> list[Any]:
    """Of a first champion, a rejected one, a failed run, a rollout that fails and one that falls later."""
    pool = await pool_for("registry", [MIGRATIONS])
    await declare(pool, STREAM, model())
    for run_id in ("a", "b", "c"):
        for event in (requested(run_id), trained(run_id), validated(run_id)):
            await hear(pool, event, run_id=run_id)
    await hear(pool, rejected("d"), run_id="d")
    await hear(pool, TrainingFailed(model="flood", run_id="e", reason="crashed", explanation="signal 9"))
    await hear(pool, changed(1, "serving", 1))
    for revision, version, outcome in ((2, 2, "rolled_back"), (4, 3, "promoted"), (6, 3, "rolled_back")):
        if revision < 6:
            await hear(pool, changed(revision, "shadow", 1, version))
        await hear(pool, changed(revision + 1, "serving", version if outcome == "promoted" else 1))
        ended = {"model": "flood", "version": version, "revision": revision + 1, "outcome": outcome, "reason": "so"}
        await hear(pool, RolloutEnded.model_validate(ended))
    return await read(pool)


async def read(pool: asyncpg.Pool) -> list[Any]:
    rows = await pool.fetch("SELECT key, value FROM outbox WHERE topic = $1 ORDER BY position", OPENLINEAGE)
    events = [json.loads(row["value"]) for row in rows]
    assert [row["key"] for row in rows] == [f"run:modelbus/{each['job']['name']}" for each in events]
    return events


async def test_every_event_and_every_facet_is_valid_by_the_specification(told: list[Any]) -> None:
    for event in told:
        check(event, EVENT)
        for facet in facets(event):
            check(facet, facet["_schemaURL"])


async def test_every_run_is_told_from_its_start_to_its_one_end(told: list[Any]) -> None:
    runs: dict[tuple[str, str], list[str]] = {}
    for event in told:
        runs.setdefault((event["job"]["name"], event["run"]["runId"]), []).append(event["eventType"])

    stories = sorted((job, *states) for (job, _), states in runs.items())
    assert stories == [
        ("flood.rollout", "START", "ABORT"),
        ("flood.rollout", "START", "COMPLETE"),
        ("flood.rollout", "START", "COMPLETE", "OTHER"),
        ("flood.train", "FAIL"),
        *[("flood.train", "START", "COMPLETE")] * 3,
        ("flood.validate", "COMPLETE"),
        *[("flood.validate", "START", "COMPLETE")] * 3,
    ]


async def test_lineage_goes_from_table_versions_over_the_model_to_its_predictions(told: list[Any]) -> None:
    def of(job: str, state: str) -> Any:
        return next(e for e in told if (e["job"]["name"], e["eventType"]) == (f"flood.{job}", state))

    trained_on = {each["name"]: each["facets"]["version"]["datasetVersion"] for each in of("train", "START")["inputs"]}
    cut = requested("a").cut
    assert trained_on == {"data/rivers": str(cut.data_version), "labels/rivers": str(cut.labels_version)}
    (made,) = of("train", "COMPLETE")["outputs"]
    assert [made] == of("validate", "COMPLETE")["inputs"] == of("rollout", "START")["inputs"]
    assert [each["name"] for each in of("rollout", "START")["outputs"]] == ["predictions.flood"]
    tests = of("validate", "COMPLETE")["run"]["facets"]["test"]["tests"]
    assert [(each["name"], each["status"], each["actual"]) for each in tests] == [("roc_auc", "pass", "0.9")]
