"""`modelbus demo`: the departures of 2013 through the whole loop, live."""

import asyncio
import shutil
import signal
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from cli.client import RegistryError, fail
from cli.demonstration.plan import END, SPECS, Plan, declared, moment_of, pace_of
from compose.embedded.errors import StackError
from compose.embedded.folder import StackFolder
from schemas.declarations import DeclarationsInvalid

INTERRUPTED = 130
Value = TypeVar("Value")


def demo(  # noqa: PLR0917  # typer passes them by name
    until: Annotated[str, typer.Option(help="Event time to stop publishing at.")] = f"{END:%Y-%m-%d}",
    pace: Annotated[str, typer.Option(help="The most event time a second of wall time: 1d/s, 6h/s; or max.")] = "1d/s",
    exit_: Annotated[bool, typer.Option("--exit", help="Settle, count, check and end after --until.")] = False,
    report: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write what was seen and checked as JSON; with --exit.")
    ] = None,
    folder: Annotated[Path, typer.Option(help="Where the demo's own stack lives.")] = Path(".modelbus/demo"),
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the last demo's data and go on with it; else it is deleted.")
    ] = False,
    specs: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="Other declarations for the flights.")
    ] = SPECS,
    kill_every: Annotated[
        float | None,
        typer.Option(min=0.5, help="SIGKILL a random service process every so many seconds, once all are back."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the kills.")] = 1,
    scorers: Annotated[int, typer.Option(min=1, max=8, help="Scorer processes.")] = 1,
) -> None:
    """Stream the departures of 2013 from New York City through the whole loop, and show what happens.

    Starts a stack of its own and deletes the last demo's. Event time passes at most at the pace, and is held while a
    training run or a switch is under way or consumers lag. Goes on until Ctrl-C. With --exit it ends by itself, counts
    everything again from the topics, and exits with 1 when a check fails.
    """
    # pandas and its like are for this command alone: the others start without them
    from cli.demonstration.feeder import FeederFailed  # noqa: PLC0415
    from cli.demonstration.run import demonstrate  # noqa: PLC0415
    from cli.demonstration.settle import NotSettled  # noqa: PLC0415

    if report is not None and not exit_:
        raise typer.BadParameter("expected with --exit", param_hint="--report")
    if report is not None and not report.absolute().parent.is_dir():
        raise typer.BadParameter(f"{report.parent} is not there: expected a folder", param_hint="--report")
    try:
        plan = Plan(
            folder=folder,
            specs=specs.resolve(),
            until=_option("--until", moment_of, until),
            pace=_option("--pace", pace_of, pace),
            exit=exit_,
        )
        wanted = declared(plan.specs)
    except (ValueError, DeclarationsInvalid) as error:
        fail(str(error))
    plan = replace(plan, report=report, keep=keep, kill_every_seconds=kill_every, seed=seed, scorers=scorers)
    console = Console()
    try:
        _clear(plan, console)
        console.print("starting Kafka, PostgreSQL, S3, Zipkin and the services (first time: fetching jars)")
        raise typer.Exit(asyncio.run(_interruptible(demonstrate(plan, wanted, console), plan)))
    except (StackError, RegistryError, NotSettled, FeederFailed) as error:
        fail(str(error))


def _option(name: str, read: Callable[[str], Value], written: str) -> Value:
    try:
        return read(written)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=name) from None


def _clear(plan: Plan, console: Console) -> None:
    """A fresh demo each time: forget the last one, and nothing but a stack's folder.

    Raises:
        StackInUse: it runs.
        StackError: the folder holds something else.
    """
    if plan.keep or not plan.folder.exists() or not any(plan.folder.iterdir()):
        return
    if not (plan.folder / "stack.json").exists():
        raise StackError(f"{plan.folder}: expected the folder of a stack, or none; it is not deleted")
    StackFolder(plan.folder).release()
    console.print(f"deleting the last demo in {plan.folder}")
    shutil.rmtree(plan.folder)


async def _interruptible(work: Coroutine[Any, Any, int], plan: Plan) -> int:
    """The exit code of the work; Ctrl-C ends it tidily: a success, unless it was to end by itself."""
    task = asyncio.create_task(work)
    loop = asyncio.get_running_loop()
    for word in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(word, task.cancel)
    await asyncio.wait([task])
    if task.cancelled():
        return INTERRUPTED if plan.exit else 0
    return task.result()
