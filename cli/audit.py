"""`modelbus audit`: is the record of who did what untouched, and a copy of it."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli.client import fail, registry

app = typer.Typer(help="The audit log: who did what, and why.", no_args_is_help=True)


@app.command("verify")
def verify() -> None:
    """Hold every row against the one before, and the chain against the heads said on the bus.

    Exit code 0: it is intact. 1: it is broken, and where.
    """
    with registry("viewer") as client:
        found = client.get("/audit/verify")
    upto = f"intact up to row {found['rows']:,}"
    if broken := found["broken"]:
        fail(f"the audit log is {upto} and broken at {broken['position']:,}: {broken['why']}")
    _say(f"the audit log is {upto}; the bus tells of it up to {found['said_up_to']:,}")
    _say(f"head {found['hash']}")


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
    _say(f"{rows:,} rows written to {out}")
    if rows:
        _say(f"head {head}")


def _say(words: str) -> None:
    Console().print(words, markup=False, highlight=False, soft_wrap=True)
