"""The embedded stack with its real parts: side by side, killed in every part, and left by a killed owner."""

import asyncio
import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import asyncpg
import httpx
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from dotenv import dotenv_values
from minio import Minio

from compose.embedded.errors import StackInUse
from compose.embedded.stack import PARTS, Stack
from compose.embedded.supervisor import born

CHECKOUT = Path(__file__).parents[2]
RECORDS = [str(number).encode() for number in range(500)]
OBJECT = os.urandom(5_000_000)
OWNER = """
import asyncio, sys
from pathlib import Path
from compose.embedded.stack import Stack

async def main():
    async with Stack(Path(sys.argv[1])):
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""
pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
async def owner(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[asyncio.subprocess.Process, Path]]:
    """Another process that owns a stack."""
    folder = tmp_path_factory.mktemp("owned")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, str(folder), cwd=CHECKOUT, stdout=subprocess.PIPE
    )
    yield process, folder
    if process.returncode is None:
        process.send_signal(signal.SIGKILL)
    await process.communicate()


@pytest.fixture(scope="module")
async def stack(
    owner: tuple[asyncio.subprocess.Process, Path], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stack]:
    """A stack of this process, started while the other's starts too."""
    async with Stack(tmp_path_factory.mktemp("own")) as stack:
        stdout = owner[0].stdout
        assert stdout
        assert await stdout.readline() == b"ready\n"
        yield stack


async def test_two_stacks_run_side_by_side(stack: Stack, owner: tuple[asyncio.subprocess.Process, Path]) -> None:
    other = environment_of(owner[1])

    same = {name for name in other if other[name] == stack.environment[name]}
    assert same == {"MODELBUS_S3_BUCKET", "MODELBUS_S3_SECURE", "MODELBUS_S3_REGION", "OTEL_TRACES_EXPORTER"}
    assert environment_of(stack.folder) == stack.environment
    assert (stack.folder / "stack.env").stat().st_mode & 0o777 == 0o600


@pytest.mark.usefixtures("stack")  # once it is there, the other one is ready too
async def test_a_second_owner_of_a_running_stack_is_refused(owner: tuple[asyncio.subprocess.Process, Path]) -> None:
    with pytest.raises(StackInUse, match=str(owner[0].pid)):
        await Stack(owner[1]).start()


async def test_every_part_comes_back_with_its_data_after_sigkill(stack: Stack) -> None:
    await put_data(stack.environment)
    before = {state.name: state.restarts for state in stack.supervisor.status()}

    for part in PARTS:
        stack.supervisor.kill(part)

    await until_restarted(stack, before)
    await check_data(stack.environment)
    await post_and_find_a_trace(stack.environment)


@pytest.mark.usefixtures("stack")
async def test_the_stack_of_a_killed_owner_comes_back_with_its_data(
    owner: tuple[asyncio.subprocess.Process, Path],
) -> None:
    process, folder = owner
    environment = environment_of(folder)
    await put_data(environment)

    process.kill()
    await process.wait()

    async with Stack(folder) as stack:
        assert stack.environment == environment
        await check_data(environment)


async def test_only_the_right_credentials_open_the_parts(stack: Stack) -> None:
    environment = stack.environment
    dsn = environment["MODELBUS_POSTGRES_DSN"]
    secret = dsn.split(":")[2].split("@")[0]

    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(dsn.replace(secret, "wrong"))
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await asyncpg.connect(dsn.replace("//modelbus:", "//postgres:"))
    async with httpx.AsyncClient() as client:
        filer = await client.get(f"http://127.0.0.1:{s3_port(stack, 'filer')}/buckets/modelbus/")
        gateway = await client.get(f"http://127.0.0.1:{s3_port(stack, 's3')}/modelbus/")
    assert (filer.status_code, gateway.status_code) == (401, 403)


async def test_stopping_leaves_nothing_behind(stack: Stack) -> None:
    pids = [state.pid for state in stack.supervisor.status()]
    ports = json.loads((stack.folder / "stack.json").read_text())["ports"]

    await stack.stop()

    assert [pid for pid in pids if pid is not None and born(pid) is not None] == []
    assert [name for name, port in ports.items() if answers(port)] == []
    assert not (stack.folder / "stack.env").exists()
    assert not (stack.folder / "processes.json").exists()
    assert sockets_of(ports["s3.filer"]) == []
    await stack.stop()


def environment_of(folder: Path) -> dict[str, str]:
    """What others read of a running stack."""
    return {name: value for name, value in dotenv_values(folder / "stack.env").items() if value is not None}


def s3_port(stack: Stack, listener: str) -> int:
    ports = json.loads((stack.folder / "stack.json").read_text())["ports"]
    return int(ports[f"s3.{listener}"])


def sockets_of(port: int) -> list[Path]:
    return list(Path("/tmp").glob(f"seaweedfs-*-{port}.sock"))


def answers(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


async def until_restarted(stack: Stack, before: Mapping[str, int]) -> None:
    """Poll until every part runs again."""
    for _ in range(600):
        if all(state.ready and state.restarts > before[state.name] for state in stack.supervisor.status()):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"not back within 60 s: {stack.supervisor.status()}")


async def put_data(environment: Mapping[str, str]) -> None:
    """The transaction last: what follows finds its commit decided and, often, its markers still to be written."""
    await asyncio.gather(asyncio.to_thread(put_object, environment), insert_rows(environment))
    await asyncio.to_thread(produce, environment)


async def check_data(environment: Mapping[str, str]) -> None:
    assert await asyncio.to_thread(consume, environment) == RECORDS
    assert await asyncio.to_thread(read_object, environment) == OBJECT
    assert await count_rows(environment) == 1000


def produce(environment: Mapping[str, str]) -> None:
    servers = environment["MODELBUS_KAFKA_BOOTSTRAP_SERVERS"]
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic("kept", 1, 1)])["kept"].result(30)
    producer = Producer({"bootstrap.servers": servers, "transactional.id": "kept", "transaction.timeout.ms": 10_000})
    producer.init_transactions(30)
    producer.begin_transaction()
    for record in RECORDS:
        producer.produce("kept", record)
    producer.commit_transaction(30)


def consume(environment: Mapping[str, str]) -> list[bytes]:
    servers = environment["MODELBUS_KAFKA_BOOTSTRAP_SERVERS"]
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "reader", "isolation.level": "read_committed"})
    kept = TopicPartition("kept", 0, 0)
    consumer.assign([kept])
    messages = consumer.consume(len(RECORDS), 30)
    assert messages, f"nothing within 30 s; offsets {consumer.get_watermark_offsets(kept, 10)}"
    assert not (errors := [str(error) for message in messages if (error := message.error())]), errors
    consumer.close()
    return [value for message in messages if isinstance(value := message.value(), bytes)]


def bucket(environment: Mapping[str, str]) -> Minio:
    keys = environment["MODELBUS_S3_ACCESS_KEY"], environment["MODELBUS_S3_SECRET_KEY"]
    return Minio(environment["MODELBUS_S3_ENDPOINT"], *keys, secure=False, region=environment["MODELBUS_S3_REGION"])


def put_object(environment: Mapping[str, str]) -> None:
    bucket(environment).put_object(environment["MODELBUS_S3_BUCKET"], "kept/object", io.BytesIO(OBJECT), len(OBJECT))


def read_object(environment: Mapping[str, str]) -> bytes:
    response = bucket(environment).get_object(environment["MODELBUS_S3_BUCKET"], "kept/object")
    try:
        return response.read()
    finally:
        response.close()
        response.release_conn()


async def insert_rows(environment: Mapping[str, str]) -> None:
    connection = await asyncpg.connect(environment["MODELBUS_POSTGRES_DSN"])
    await connection.execute("CREATE SCHEMA kept; CREATE TABLE kept.rows AS SELECT generate_series(1, 1000) AS number")
    await connection.close()


async def count_rows(environment: Mapping[str, str]) -> int:
    connection = await asyncpg.connect(environment["MODELBUS_POSTGRES_DSN"])
    count = await connection.fetchval("SELECT count(*) FROM kept.rows")
    await connection.close()
    return int(count)


async def post_and_find_a_trace(environment: Mapping[str, str]) -> None:
    """A span of the year 2013 is found again, too."""
    spans = environment["OTEL_EXPORTER_ZIPKIN_ENDPOINT"]
    span = {"traceId": "a" * 16, "id": "b" * 16, "name": "step", "timestamp": 1_357_000_000_000_000, "duration": 1}
    async with httpx.AsyncClient() as client:
        posted = await client.post(spans, json=[span])
        assert posted.status_code == 202
        for _ in range(100):
            found = await client.get(spans.removesuffix("spans") + f"trace/{span['traceId']}")
            if found.status_code == 200:
                return
            await asyncio.sleep(0.1)
    raise AssertionError("the trace was not found within 10 s")
