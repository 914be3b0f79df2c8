"""`make chaos ARGS="--seed 7 --faults 60 --events 500000"`: break everything by a plan of the seed; judge.

The same seed and numbers give the same faults at the same times, and the same stream. Exit code 0 when every law was
kept and the faults struck.
"""

import argparse
import asyncio
import secrets
from pathlib import Path
from tempfile import mkdtemp

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from tests.chaos.plan import Crew, Plan, brief, planned
from tests.chaos.report import Report
from tests.chaos.run import Progress, run


def plan_of(arguments: argparse.Namespace) -> Plan:
    """The one that `make test` runs, or a long one."""
    if arguments.brief:
        return brief(arguments.seed)
    crew = Crew(scorers=arguments.scorers, ingestors=arguments.ingestors)
    return planned(arguments.seed, faults=arguments.faults, events=arguments.events, crew=crew)


async def watched(arguments: argparse.Namespace, console: Console) -> Report:
    """The run, with bars."""
    plan = plan_of(arguments)
    console.print(f"seed {plan.seed}: {len(plan.faults)} faults in {plan.seconds:.0f} s, below {arguments.folder}")
    progress = Progress(say=lambda line: console.print(f"  {line}", highlight=False))
    with Bars("{task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console) as bars:
        fed, struck = bars.add_task("events", total=plan.events), bars.add_task("faults", total=len(plan.faults))
        running = asyncio.create_task(run(plan, arguments.folder, progress))
        while not running.done():
            await asyncio.wait([running], timeout=0.5)
            bars.update(fed, completed=progress.fed)
            bars.update(struck, completed=progress.struck)
    return await running


def told(report: Report, console: Console) -> None:
    """What people read in the end."""
    for violation in report.violations[:20]:
        console.print(f"{violation.law} at {violation.place}: {violation.what}", style="red", highlight=False)
        for line in report.near.get(violation.what, []):
            console.print(f"    {line}", highlight=False)
    console.print(f"{len(report.log) - len(report.missed)} of {len(report.log)} faults struck")
    for struck in report.missed:
        console.print(f"    met nothing: {struck.fault}", highlight=False)
    console.print(report.counts | {"restarts": report.restarts, "seconds": report.seconds, "rested": report.rested})
    console.print(f"the longest that a record waited for its prediction: {report.longest_wait_seconds:.1f} s")
    console.print(f"{len(report.violations)} violations" if report.violations else "every law was kept", style="bold")
    if not report.violations and not report.ok:
        console.print("but not all came to rest" if not report.rested else "but too few faults struck", style="red")


def main() -> None:
    """Exit 0 when every law was kept and the faults struck, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="of a run to be repeated")
    parser.add_argument("--brief", action="store_true", help="the run of `make test`")
    parser.add_argument("--faults", type=int, default=60, help="of which a few may meet nothing")
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--scorers", type=int, default=3)
    parser.add_argument("--ingestors", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where the stack and its logs go, and report.json")
    arguments, console = parser.parse_args(), Console()
    arguments.folder = arguments.folder or Path(mkdtemp(prefix="modelbus-chaos-"))
    report = asyncio.run(watched(arguments, console))
    (arguments.folder / "report.json").write_text(report.as_json())
    told(report, console)
    raise SystemExit(0 if report.ok else 1)


if __name__ == "__main__":
    main()
