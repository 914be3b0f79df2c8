"""`modelbus up`: the stack and the services, until Ctrl-C."""

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from compose.embedded.errors import StackError
from compose.embedded.stack import Stack
from compose.embedded.up import up as run_stack


def up(
    folder: Annotated[Path, typer.Option(help="Where ports, secrets, logs and data of this stack live.")] = Path(
        ".modelbus"
    ),
    scorers: Annotated[int, typer.Option(min=1, max=8, help="Scorer processes; partitions are shared among them.")] = 1,
) -> None:
    """Start Kafka, PostgreSQL, S3, Zipkin and the six services here, and keep them running until Ctrl-C."""
    console = Console(stderr=True)
    started = time.monotonic()
    words = "starting Kafka, PostgreSQL, S3, Zipkin and the six services"
    status = console.status(words)
    if not console.is_terminal:  # a file shows no status
        console.print(words)

    async def announce(stack: Stack) -> None:
        status.stop()
        console.print(where(stack.environment))
        console.print(
            f"ready in {time.monotonic() - started:.1f} s; logs in {stack.folder}/logs; Ctrl-C stops all of it"
        )
        try:
            await asyncio.Event().wait()
        finally:
            console.print("stopping")

    status.start()
    try:
        code = asyncio.run(run_stack(folder, scorers=scorers, on_ready=announce))
    except StackError as error:
        console.print(str(error), style="red", markup=False)
        raise typer.Exit(1) from None
    finally:
        status.stop()
    console.print(f"stopped; the data stays in {folder}", highlight=False)
    raise typer.Exit(code)


def where(environment: dict[str, str]) -> Table:
    """Where a person looks: the API, the traces, the bus, the objects."""
    table = Table("what", "where", title="modelbus", title_justify="left")
    traces = environment["OTEL_EXPORTER_ZIPKIN_ENDPOINT"].removesuffix("/api/v2/spans")
    table.add_row("registry API", f"http://127.0.0.1:{environment['MODELBUS_REGISTRY_HTTP_PORT']}")
    table.add_row(
        "inference (Open Inference Protocol)", f"http://127.0.0.1:{environment['MODELBUS_GATEWAY_HTTP_PORT']}/v2"
    )
    table.add_row("traces", f"{traces}/zipkin/")
    table.add_row("Kafka", environment["MODELBUS_KAFKA_BOOTSTRAP_SERVERS"])
    table.add_row("S3", f"http://{environment['MODELBUS_S3_ENDPOINT']} (bucket {environment['MODELBUS_S3_BUCKET']})")
    return table
