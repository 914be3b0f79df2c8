"""`modelbus card`: what a version is, how good, for whom, of what it was made, and why it may serve or not."""

from pathlib import Path
from typing import Annotated

import typer

from cli.client import registry, say
from cli.orders import Version, version_path


def card(
    version: Version,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to write it; by default MODEL-VERSION.html or .json here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The numbers, not the page.")] = False,
) -> None:
    """Write the model card of a version, also of one that was rejected: one HTML page that needs nothing else."""
    kind = "json" if as_json else "html"
    path = out or Path(f"{version.replace(':', '-')}.{kind}")
    with registry("viewer") as client:
        data = client.read(version_path(version) + ("/card.json" if as_json else "/card"))
    path.write_bytes(data)
    say(f"{path} is the model card of {version}")
