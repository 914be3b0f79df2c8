"""`modelbus audit`: is the record of who did what untouched, and a copy of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from cli.client import Registry, fail, registry, say
from cli.orders import version_path

app = typer.Typer(help="The audit log: who did what, and why.", no_args_is_help=True)


@app.command("verify")
def verify(
    artifacts: Annotated[bool, typer.Option(help="Also read every artifact and report of every version.")] = True,
) -> None:
    """Hold every row against the one before, the chain against the heads said on the bus, and artifacts to digests.

    Exit code 0: all is intact. 1: something is not, and what.
    """
    with registry("viewer") as client:
        found = client.get("/audit/verify")
        wrong = list(_wrong(client)) if artifacts else []
    upto = f"intact up to row {found['rows']:,}"
    if broken := found["broken"]:
        fail(f"the audit log is {upto} and broken at {broken['position']:,}: {broken['why']}")
    say(f"the audit log is {upto}; the bus tells of it up to {found['said_up_to']:,}")
    say(f"head {found['hash']}")
    if wrong:
        fail("\n".join(wrong))
    if artifacts:
        say("every artifact and report has the digest that is recorded")


def _wrong(client: Registry) -> Iterator[str]:
    """What of the versions' bytes is not as it was recorded."""
    for model in client.pages("/models"):
        for version in client.pages(f"/models/{model['name']}/versions"):
            name = f"{model['name']}:{version['version']}"
            for each in client.get(f"{version_path(name)}/artifacts")["artifacts"]:
                if each["verdict"] != "intact":
                    yield f"{name}: {each['name']} is {each['verdict']}: {each['why']}"


@app.command("export")
def export(
    out: Annotated[Path, typer.Option("--out", dir_okay=False, writable=True, help="A file of JSON lines.")],
) -> None:
    """Write the audit log to a file, a row a line, oldest first, with the hashes that chain them."""
    rows, head = 0, ""
    with registry("viewer") as client, out.open("w", encoding="utf-8") as file:
        for row in client.pages("/audit"):
            file.write(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n")
            rows, head = rows + 1, row["hash"]
    say(f"{rows:,} rows written to {out}")
    if rows:
        say(f"head {head}")
