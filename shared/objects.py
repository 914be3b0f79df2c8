"""Artifacts in S3, found by what they are: the key is the SHA-256 of the bytes, so a read can be verified."""

import asyncio
import hashlib
import io

from minio import Minio
from minio.error import S3Error
from urllib3 import PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError

from schemas.events.parts import Artifact
from shared.errors import Fault
from shared.settings import S3Settings

_TIMEOUT = Timeout(connect=5, read=30)
_RETRIES = Retry(total=2, backoff_factor=0.2, status_forcelist=(500, 502, 503, 504))


class Missing(Fault):
    """There are no bytes under a digest (yet)."""


class Tampered(Fault):
    """The bytes under a digest are not the bytes of that digest."""


def digest_of(data: bytes) -> str:
    """The content address.

    >>> digest_of(b"")[:17]
    'sha256:e3b0c44298'
    """
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def client_of(settings: S3Settings) -> Minio:
    """A client of the store; its calls block, a minute and a half at most (by its own defaults half an hour)."""
    return Minio(
        endpoint=settings.endpoint,
        access_key=settings.access_key,
        secret_key=settings.secret_key.get_secret_value(),
        region=settings.region,
        secure=settings.secure,
        http_client=PoolManager(timeout=_TIMEOUT, retries=_RETRIES, maxsize=10),
    )


class Objects:
    """A content-addressed store in one bucket; calls of the client run in threads."""

    def __init__(self, settings: S3Settings) -> None:
        self._bucket = settings.bucket
        self._client = client_of(settings)

    async def ensure_bucket(self) -> None:
        await asyncio.to_thread(self._ensure_bucket)

    def _ensure_bucket(self) -> None:
        if self._client.bucket_exists(bucket_name=self._bucket):
            return
        try:
            self._client.make_bucket(bucket_name=self._bucket)
        except S3Error as error:
            if error.code not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                raise

    async def put(self, data: bytes) -> Artifact:
        return await asyncio.to_thread(self.put_now, data)

    async def get(self, digest: str) -> bytes:
        return await asyncio.to_thread(self.get_now, digest)

    async def remove(self, digest: str) -> None:
        """Only of what is not meant to stay; what is not there is removed."""
        await asyncio.to_thread(self._client.remove_object, bucket_name=self._bucket, object_name=_key(digest))

    def put_now(self, data: bytes) -> Artifact:
        """Store bytes under their digest; the same bytes twice are stored once."""
        digest = digest_of(data)
        self._client.put_object(
            bucket_name=self._bucket, object_name=_key(digest), data=io.BytesIO(data), length=len(data)
        )
        return Artifact(digest=digest, size_bytes=len(data))

    def get_now(self, digest: str) -> bytes:
        """Read and verify.

        Raises:
            Tampered: the bytes do not have this digest.
            Missing: there are none.
            Fault: S3 failed.
        """
        try:
            response = self._client.get_object(bucket_name=self._bucket, object_name=_key(digest))
        except S3Error as error:
            if error.code == "NoSuchKey":
                raise Missing(f"{digest} is not in the store") from error
            raise Fault(f"{digest}: {error.code}") from error
        except HTTPError as error:
            raise Fault(f"{digest}: S3 does not answer: {error}") from error
        try:
            data = response.read()
        except HTTPError as error:
            raise Fault(f"{digest}: S3 broke off: {error}") from error
        finally:
            response.close()
            response.release_conn()
        if (found := digest_of(data)) != digest:
            raise Tampered(f"{digest}: the stored bytes have {found}")
        return data


def _key(digest: str) -> str:
    algorithm, _, value = digest.partition(":")
    return f"artifacts/{algorithm}/{value}"
