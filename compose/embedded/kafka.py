"""Apache Kafka: one broker that is its own controller (KRaft), tuned to start and recover quickly in little memory."""

import base64
import signal
from collections.abc import Mapping
from pathlib import Path

from compose.embedded import jars
from compose.embedded.folder import LOOPBACK
from compose.embedded.java import bare_environment, java, path_of
from compose.embedded.probes import kafka_answers
from compose.embedded.supervisor import Process, run

LOGGING = Path(__file__).with_name("kafka-log4j2.properties")
SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    # topics are made by the registry alone
    "auto.create.topics.enable": "false",
    "log.message.timestamp.type": "LogAppendTime",
    # 1 MiB of payload, with room for the headers of dead letters
    "message.max.bytes": 2 * 2**20,
    "replica.fetch.max.bytes": 2 * 2**20,
    "default.replication.factor": 1,
    "min.insync.replicas": 1,
    "offsets.topic.replication.factor": 1,
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "transaction.state.log.num.partitions": 4,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    "share.coordinator.state.topic.num.partitions": 1,
    # a stack may rest for months and must go on where it stopped
    "offsets.retention.minutes": 10 * 365 * 24 * 60,
    "transactional.id.expiration.ms": 2**31 - 1,
    # a partition's fence: 4 KiB, as Kafka is delivered, are the revisions of some 150 models of a stream
    "offset.metadata.max.bytes": 64 * 2**10,
    # a killed consumer is noticed, and its partitions are moved, in seconds
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 2_000,
    "group.consumer.min.session.timeout.ms": 2_000,
    "group.consumer.session.timeout.ms": 6_000,
    "group.consumer.min.heartbeat.interval.ms": 500,
    "group.consumer.heartbeat.interval.ms": 1_000,
    "transaction.max.timeout.ms": 60_000,
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1_000,
    # a broker that was killed must wait until its own former session has ended, 9 s by default
    "broker.session.timeout.ms": 2_000,
    "broker.heartbeat.interval.ms": 500,
    # a broker that was killed reads no more than this again for each partition
    "log.segment.bytes": 64 * 2**20,
    "num.recovery.threads.per.data.dir": 2,
    "num.network.threads": 2,
    "num.io.threads": 4,
    "background.threads": 2,
    "log.cleaner.dedupe.buffer.size": 8 * 2**20,
}

# to flush a full segment holds up what is written meanwhile: as Kafka is delivered, seldom
BUSY = {"log.segment.bytes": 2**30}


def kafka(
    folder: Path, port: int, controller_port: int, *, cluster: str, proxied: Mapping[int, int], busy: bool = False
) -> Process:
    """The broker on `port`, its data below `folder`.

    `proxied` are further ports to listen on, each with the port of the proxy before it, where clients are sent.
    A `busy` one is set as brokers are that do nothing else for months.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    path = path_of(jars.class_path(jars.KAFKA))
    properties = folder / "server.properties"
    properties.write_text(_properties(folder / "data", port, controller_port, proxied, BUSY if busy else {}))

    async def format_once() -> None:
        if not (folder / "data" / "meta.properties").exists():
            arguments = ("format", "-t", _cluster_id(cluster), "-c", str(properties))
            tool = java("-XX:TieredStopAtLevel=1", "-cp", path, "kafka.tools.StorageTool", *arguments, heap_mb=128)
            await run(tool, environment=bare_environment(), folder=folder)

    return Process(
        name="kafka",
        argv=java(
            *(() if busy else ("-XX:TieredStopAtLevel=1",)),
            f"-Dlog4j2.configurationFile={LOGGING}",
            "-cp",
            path,
            "kafka.Kafka",
            str(properties),
            heap_mb=512,
            part="kafka",
        ),
        environment=bare_environment(),
        folder=folder,
        prepare=format_once,
        ready=lambda: kafka_answers(port),
        stop_signal=signal.SIGTERM,
        grace_seconds=20,
        ready_within_seconds=120,  # a broker that was killed checks its logs
    )


def _properties(
    data: Path, port: int, controller_port: int, proxied: Mapping[int, int], more: Mapping[str, int]
) -> str:
    names = {own: f"PROXIED_{own}" for own in proxied}
    ways = {"PLAINTEXT": port} | {name: own for own, name in names.items()}
    told = {"PLAINTEXT": port} | {name: proxied[own] for own, name in names.items()}
    protocols = [SETTINGS["listener.security.protocol.map"], *(f"{name}:PLAINTEXT" for name in names.values())]
    settings = {
        **SETTINGS,
        **more,
        "log.dirs": data,
        "listeners": _listeners(ways | {"CONTROLLER": controller_port}),
        "advertised.listeners": _listeners(told),
        "listener.security.protocol.map": ",".join(map(str, protocols)),
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _listeners(ports: Mapping[str, int]) -> str:
    return ",".join(f"{name}://{LOOPBACK}:{port}" for name, port in ports.items())


def _cluster_id(secret: str) -> str:
    """16 bytes in URL-safe base64, as Kafka's own ids are."""
    return base64.urlsafe_b64encode(secret.encode()[:16]).decode().rstrip("=")
