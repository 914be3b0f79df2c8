"""The bytes of a version, held against the record, in a real S3: whatever is done to them is found, and where."""

import io
from random import Random

import asyncpg
import pytest

from schemas.events.parts import Card
from services.registry.app import MIGRATIONS
from services.registry.artifacts import NAMES, Stored, StoredView
from shared.objects import Objects, _key
from tests.conftest import PoolFor
from tests.integration.registry_kit import STREAM, declare, hear, model, validated
from tests.integration.test_registry_lineage import objects  # noqa: F401  # a store

pytestmark = pytest.mark.stack


@pytest.fixture
async def stored(pool_for: PoolFor, objects: Objects) -> Stored:  # noqa: F811  # the fixture
    """Of a registry with one version, whose bytes are in the store."""
    pool: asyncpg.Pool = await pool_for("registry", [MIGRATIONS])
    await declare(pool, STREAM, model())
    event, random = validated("a"), Random(5)
    put = {name: await objects.put(random.randbytes(500)) for name in NAMES}
    card = Card(page=put.pop("card"), data=put.pop("card_data"))
    parts = {name: put.pop(name) for name in ("report", "attestation")} | {"card": card}
    candidate = event.candidate.model_copy(update=put)
    await hear(pool, event.model_copy(update={"candidate": candidate} | parts))
    return Stored(pool=pool, objects=objects)


async def looked_at(stored: Stored) -> list[StoredView]:
    return (await stored.of("flood", 1)).artifacts


def overwrite(stored: Stored, digest: str, data: bytes) -> None:
    store, about = stored.objects, {"object_name": _key(digest), "length": len(data)}
    store._client.put_object(bucket_name=store._bucket, data=io.BytesIO(data), **about)


async def test_untouched_bytes_are_intact(stored: Stored) -> None:
    found = await looked_at(stored)

    assert [(each.name, each.verdict) for each in found] == [(name, "intact") for name in NAMES]


async def test_one_flipped_byte_anywhere_is_found_in_every_artifact_and_in_the_report(stored: Stored) -> None:
    random = Random(7)
    for each in await looked_at(stored):
        whole = await stored.objects.get(each.digest)
        for place in (0, len(whole) - 1, *random.sample(range(len(whole)), 5)):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << random.randrange(8)
            overwrite(stored, each.digest, bytes(flipped))

            wrong = [found.name for found in await looked_at(stored) if found.verdict != "intact"]
            assert wrong == [each.name], place
        overwrite(stored, each.digest, whole[:-1])
        assert [found.verdict for found in await looked_at(stored)].count("tampered") == 1
        overwrite(stored, each.digest, whole)


async def test_bytes_that_are_gone_are_named(stored: Stored) -> None:
    onnx = (await looked_at(stored))[0]
    stored.objects._client.remove_object(bucket_name=stored.objects._bucket, object_name=_key(onnx.digest))

    found = (await looked_at(stored))[0]

    assert (found.name, found.verdict) == ("onnx", "missing")
    assert onnx.digest in (found.why or "")
