"""The embedded stack of one folder: Kafka, PostgreSQL, S3 and Zipkin, and the settings by which others reach them."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from compose.embedded import jars, s3
from compose.embedded.folder import LOOPBACK, SCORER_PORTS, StackFolder, write_private
from compose.embedded.kafka import kafka
from compose.embedded.keys import key_pair
from compose.embedded.postgres import NAME, postgres
from compose.embedded.supervisor import Process, Supervisor
from compose.embedded.zipkin import zipkin

PARTS = frozenset({"kafka", "postgres", "s3", "zipkin"})
SERVICES = ("ingestor", "trainer", "validator", "registry", "deployer", "monitor")
ROLES = ("viewer", "operator", "approver")
_NONE: Mapping[int, int] = {}


class Stack:
    """Real parts on the loopback; ports and secrets stay the same from run to run while the ports are free.

    While it runs, `environment` is also in <folder>/stack.env. start() raises StackInUse when another process runs
    this folder's stack, StartFailed when a part does not become ready. `kafka_proxies` are ports of proxies; whoever
    comes to the broker through one is kept on it, and `behind_proxies` says which port each has to lead to. The broker
    of a `busy` stack is not quick to start and to start again, but to work.
    """

    def __init__(
        self, folder: Path, parts: frozenset[str] = PARTS, *, kafka_proxies: Sequence[int] = (), busy: bool = False
    ) -> None:
        if unknown := parts - PARTS:
            raise ValueError(f"unknown parts {sorted(unknown)}; there are {sorted(PARTS)}")
        self.folder = folder.resolve()
        self.parts = parts
        self.environment: dict[str, str] = {}
        self.behind_proxies: dict[int, int] = {}
        self.supervisor = Supervisor(self.folder)
        self._claim: StackFolder | None = None
        self._kafka_proxies = kafka_proxies
        self._busy = busy

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the parts at the same time and return when all are ready; after a failure nothing is left running."""
        self._claim = claim = StackFolder(self.folder)
        try:
            await self._fetch_jars()
            self.environment = _environment(claim)
            self.behind_proxies = {port: claim.port(f"kafka.behind.{port}") for port in self._kafka_proxies}
            await self.supervisor.start(*(self._process(part, claim) for part in sorted(self.parts)))
            write_private(self.folder / "stack.env", _dotenv(self.environment))
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop what runs, in reverse order; harmless when nothing does."""
        if self._claim is None:
            return
        (self.folder / "stack.env").unlink(missing_ok=True)
        await self.supervisor.stop()
        s3.forget_sockets(_s3_ports(self._claim))
        self._claim.release()
        self._claim = None

    def _process(self, part: str, claim: StackFolder) -> Process:
        if part == "kafka":
            return _kafka(claim, {own: proxy for proxy, own in self.behind_proxies.items()}, busy=self._busy)
        return BUILD[part](claim)

    async def _fetch_jars(self) -> None:
        if java := self.parts & {jars.KAFKA, jars.ZIPKIN}:
            await asyncio.to_thread(jars.class_path, *java)


def _kafka(claim: StackFolder, proxied: Mapping[int, int] = _NONE, *, busy: bool = False) -> Process:
    ports = claim.port("kafka"), claim.port("kafka.controller")
    return kafka(claim.path / "kafka", *ports, cluster=claim.secret("kafka.cluster"), proxied=proxied, busy=busy)


def _postgres(claim: StackFolder) -> Process:
    return postgres(claim.path / "postgres", claim.port("postgres"), claim.secret("postgres"))


def _s3(claim: StackFolder) -> Process:
    keys = claim.secret("s3.access_key"), claim.secret("s3.secret_key")
    return s3.s3(claim.path / "s3", _s3_ports(claim), *keys, secret=claim.secret)


def _zipkin(claim: StackFolder) -> Process:
    return zipkin(claim.path / "zipkin", claim.port("zipkin"))


BUILD: dict[str, Callable[[StackFolder], Process]] = {
    "kafka": _kafka,
    "postgres": _postgres,
    "s3": _s3,
    "zipkin": _zipkin,
}


def _s3_ports(claim: StackFolder) -> dict[str, int]:
    return {name: claim.port(f"s3.{name}") for name in s3.LISTENERS}


def _environment(claim: StackFolder) -> dict[str, str]:
    private, public = key_pair(claim.path / "keys")
    parts = {
        "MODELBUS_KAFKA_BOOTSTRAP_SERVERS": f"{LOOPBACK}:{claim.port('kafka')}",
        "MODELBUS_POSTGRES_DSN": f"postgresql://{NAME}:{claim.secret('postgres')}@{LOOPBACK}:{claim.port('postgres')}/{NAME}",
        "MODELBUS_S3_ENDPOINT": f"{LOOPBACK}:{claim.port('s3.s3')}",
        "MODELBUS_S3_ACCESS_KEY": claim.secret("s3.access_key"),
        "MODELBUS_S3_SECRET_KEY": claim.secret("s3.secret_key"),
        "MODELBUS_S3_BUCKET": s3.BUCKET,
        "MODELBUS_S3_SECURE": "false",
        "MODELBUS_S3_REGION": "us-east-1",
        "MODELBUS_VALIDATOR_SIGNING_KEY": str(private),
        "MODELBUS_SIGNING_PUBLIC_KEY": str(public),
        "OTEL_TRACES_EXPORTER": "zipkin",
        "OTEL_EXPORTER_ZIPKIN_ENDPOINT": f"http://{LOOPBACK}:{claim.port('zipkin')}/api/v2/spans",
    }
    http = {f"MODELBUS_{name.upper()}_HTTP_PORT": str(claim.port(name)) for name in SERVICES}
    http |= {"MODELBUS_GATEWAY_HTTP_PORT": str(claim.port("gateway"))}
    http |= {"MODELBUS_SCORER_HTTP_PORT": str(claim.port("scorer", SCORER_PORTS))}  # of slot 0
    tokens = {f"MODELBUS_REGISTRY_{role.upper()}_TOKEN": claim.secret(f"registry.{role}") for role in ROLES}
    tokens |= {"MODELBUS_GATEWAY_CALLER_TOKEN": claim.secret("gateway.caller")}
    return parts | http | tokens


def _dotenv(environment: dict[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in environment.items())
