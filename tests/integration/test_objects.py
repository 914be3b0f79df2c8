"""Artifacts on the real S3: found by what they are, and not believed when they are something else."""

import io
import os

import pytest

from compose.embedded.stack import Stack
from shared.errors import Fault
from shared.objects import Missing, Objects, Tampered, digest_of
from shared.settings import S3Settings


@pytest.fixture
async def objects(stack: Stack) -> Objects:
    opened = Objects(S3Settings())  # type: ignore[call-arg]  # from the environment
    await opened.ensure_bucket()
    return opened


async def test_bytes_come_back_by_their_digest_and_the_same_bytes_have_one_address(objects: Objects) -> None:
    data = os.urandom(1000)

    first, second = await objects.put(data), await objects.put(data)

    assert first == second
    assert await objects.get(first.digest) == data


async def test_bytes_that_were_changed_in_the_store_are_not_believed(objects: Objects) -> None:
    artifact = await objects.put(os.urandom(1000))
    stored = f"artifacts/{artifact.digest.replace(':', '/')}"
    objects._client.put_object(objects._bucket, stored, data=io.BytesIO(b"other"), length=5)

    with pytest.raises(Tampered, match=artifact.digest):
        await objects.get(artifact.digest)


async def test_an_absent_artifact_is_a_fault_that_names_it(objects: Objects) -> None:
    with pytest.raises(Missing, match="not in the store"):
        await objects.get(digest_of(b"never stored"))


async def test_wrong_credentials_are_refused(stack: Stack) -> None:
    stranger = Objects(S3Settings(endpoint=stack.environment["MODELBUS_S3_ENDPOINT"], access_key="x", secret_key="y"))

    with pytest.raises(Fault, match=r"InvalidAccessKeyId|SignatureDoesNotMatch|AccessDenied"):
        await stranger.get(digest_of(b"anything"))
