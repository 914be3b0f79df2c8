"""Versions altered after they were signed: in the store, in the registry's rows, on the way. Nobody loads them."""

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from compose.embedded.keys import key_pair
from compose.embedded.services import VALIDATOR_ALONE, processes
from compose.embedded.stack import Stack
from schemas.events.deployer import LoadFailed
from schemas.events.parts import Release
from schemas.events.registry import ModelApproved
from services.deployer.attestation import attested
from services.deployer.view import View
from services.registry.acts import Acts, Word
from services.registry.app import MIGRATIONS
from shared.objects import client_of
from shared.settings import S3Settings, SigningSettings
from shared.signing import Unverified
from tests.conftest import PoolFor
from tests.integration.registry_kit import NOWHERE, STREAM, candidate, declare, hear, model, said, validated
from tests.integration.test_scorer_serving import all_answered, all_switched
from tests.scoring_world import World, changed, scorers, signed, trained, until
from tests.unit.test_attestation import ONNX, Memory

pytestmark = pytest.mark.stack


def altered(world: World, folder: Path) -> Iterator[Release]:
    """A version each of which is wrong in one place."""
    in_the_store = world.release(2)
    settings, key = S3Settings(), in_the_store.candidate.onnx.digest.replace(":", "/")  # type: ignore[call-arg]  # from the environment
    data = bytearray(trained(2))
    data[-1] ^= 1
    client_of(settings).put_object(
        bucket_name=settings.bucket, object_name=f"artifacts/{key}", data=io.BytesIO(data), length=len(data)
    )
    yield in_the_store
    in_a_row = world.release(3)
    classes = in_a_row.candidate.signature.model_copy(update={"classes": ("true", "false")})
    yield in_a_row.model_copy(update={"candidate": in_a_row.candidate.model_copy(update={"signature": classes})})
    yield signed(world.release(4), trained(4), world.objects.put_now, key_pair(folder / "of-another")[0])
    yield world.release(5).model_copy(update={"attestation": None})


async def test_what_was_altered_is_refused_and_said_and_the_old_version_goes_on(stack: Stack, tmp_path: Path) -> None:
    world = await World.made("altered")
    first = world.release(1)
    world.say(changed(1, first))

    with scorers(tmp_path):
        await until(all_switched(world))
        for revision, bad in enumerate(altered(world, tmp_path), start=2):
            world.say(changed(revision, first, bad, share=0.5))
        await until(lambda: len(world.said(LoadFailed)) >= 4)
        world.feed(300)
        await until(all_answered(world))

    failed = {each.event.version: each.event for each in world.said(LoadFailed) if isinstance(each.event, LoadFailed)}
    assert {version: event.cause for version, event in failed.items()} == dict.fromkeys((2, 3, 4, 5), "integrity")
    words = {2: "the stored bytes have", 3: "expected the signature that", 4: "a key that is trusted", 5: "signed"}
    assert [version for version, word in words.items() if word not in failed[version].explanation] == []
    world.assert_exactly_once()
    assert {each["revision"] for each in world.predictions()} == {1}
    await gateway_serves(world, revision=1)


async def gateway_serves(world: World, revision: int) -> None:
    """What a gateway that starts now has loaded, from all that was said."""
    view, stopped = (
        View(kafka=world.kafka, objects=world.objects, signing=SigningSettings(), slot=-1),
        threading.Event(),
    )  # type: ignore[call-arg]
    reading = threading.Thread(target=view.run, args=(stopped.is_set,))
    reading.start()
    try:
        await until(lambda: view.complete)
        assert view.known.serving[world.models[0].model].changed.revision == revision
    finally:
        stopped.set()
        reading.join()


async def test_a_registry_row_that_was_altered_gives_a_release_that_nobody_loads(
    pool_for: PoolFor, tmp_path: Path
) -> None:
    pool: asyncpg.Pool = await pool_for("registry", [MIGRATIONS])
    await declare(pool, STREAM, model(rollout={"approval": "required", "expires": "36500d"}))
    private, public = key_pair(tmp_path)
    store = Memory()
    good = signed(Release(version=1, candidate=candidate("a")), ONNX, store.put_now, private)
    await hear(pool, validated("a").model_copy(update={"attestation": good.attestation}))
    swapped = """jsonb_set(candidate, '{metrics,roc_auc}', '0.99')"""

    for row, refused in (("candidate", False), (swapped, True)):
        await pool.execute(f"UPDATE version SET candidate = {row}, stage = 'awaiting_approval'")  # noqa: S608
        await Acts(pool=pool, kafka=NOWHERE).approve("flood", 1, Word(actor="approver:ann", reason="looks good"))
        approved = (await said(pool))[-1].event
        assert isinstance(approved, ModelApproved)
        if refused:
            with pytest.raises(Unverified, match="expected the metrics that the validator signed"):
                attested(approved.release, store, [public])
        else:
            assert attested(approved.release, store, [public]) == ONNX


def test_only_the_validator_is_told_where_the_private_key_lies(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VALIDATOR_ALONE:
        monkeypatch.delenv(name)  # tests have the whole stack's settings in their own environment

    told = {each.name for each in processes(stack.environment) if VALIDATOR_ALONE & (each.environment or {}).keys()}

    assert told == {"validator"}
