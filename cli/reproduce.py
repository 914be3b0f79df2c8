"""`modelbus reproduce`: make a version again from its manifest, and hold its bytes against the record."""

import asyncio
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from cli.client import fail, registry
from cli.orders import Version, version_path
from shared.jobs import Limits
from shared.parent import Crashed, open_child

CHILD = "services.trainer.reproduction"
Json = dict[str, Any]


def reproduce(
    version: Version,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also where code or libraries differ from those of the manifest.")
    ] = False,
) -> None:
    """Make a version again in a fresh process, from its manifest and the pinned tables alone: are the bytes equal?

    Exit code 0: they are. 1: they are not, or nothing was made, and why.
    """
    with registry("viewer") as client:
        known = client.get(version_path(version))
    recorded = known["artifacts"]
    digests = {name: recorded[name]["digest"] for name in ("onnx", "reference")}
    said = {name: known[name] for name in ("model", "run_id", "spec", "stream_spec", "cut")} | {"digests": digests}
    erased = "; ".join(f"erasure {each['receipt']} of {each['erased_at'][:19]}" for each in known["erasures"])
    request = {"manifest": recorded["manifest"]["digest"], "recorded": said, "anyway": anyway, "erased": erased}
    try:
        outcome = asyncio.run(_made(request))
    except Crashed as crash:
        fail(f"{version}: {crash}")
    if failed := outcome.get("failed"):
        fail(f"{version} was not made again ({failed['reason']}): {failed['explanation']}")
    result = outcome["result"]
    _tell(result)
    if other := [name for name in result["made"] if result["made"][name] != recorded[name]["digest"]]:
        fail(f"{version} is NOT reproduced: {', '.join(other)} came out different")
    Console().print(f"{version} is reproduced, bit for bit, from {result['rows']:,} rows", highlight=False)


async def _made(request: Json) -> Json:
    """The child's outcome, its progress shown on the way."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("starting", total=1)
        async with open_child(CHILD, Limits().memory_bytes) as child:
            await child.ask(request)
            async for line in child.lines():
                if "progress" not in line:
                    return line
                said = line["progress"]
                bars.update(task, description=said["stage"], completed=said["done"], total=said["total"])
    raise AssertionError("lines end with an outcome or Crashed")


def _tell(result: Json) -> None:
    console = Console()
    for name, digest in result["made"].items():
        verdict = "equal" if digest == result["recorded"][name] else f"recorded {result['recorded'][name]}"
        console.print(f"{name:<10}{digest}  {verdict}", highlight=False, soft_wrap=True)
    for difference in result["differences"]:
        console.print(f"made elsewhere: {difference}", highlight=False, soft_wrap=True)
