"""`make bench ARGS="throughput latency …"`: figures beside ceilings measured in the same run; a table, and JSON.

Exit code 1 when an aim was missed.
"""

import argparse
import asyncio
import json
from functools import partial
from importlib import import_module
from pathlib import Path

from rich.console import Console

from tests.bench.figures import Figure, table_of

AT_LENGTH = ("soak",)
NAMES = (
    "throughput",
    "latency",
    "models",
    "shapes",
    "poison",
    "ingest",
    "commits",
    "early-warning",
    "drift-speed",
    "monitor",
    "rollouts",
)


def main() -> None:
    """Everything, or what is named; each is a module with `measure(arguments, say)`."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"some of {', '.join(NAMES)}; all these when none is named; or {', '.join(AT_LENGTH)}",
    )
    parser.add_argument(
        "--events",
        type=int,
        default=1_000_000,
        help="how many a benchmark of rates takes in a turn; ingest three times, shapes a twentieth",
    )
    parser.add_argument("--minutes", type=float, default=20, help="how long the soak goes on")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="where the figures are written, too")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - {*NAMES, *AT_LENGTH}:
        parser.error(f"expected some of {', '.join(NAMES)}, got {', '.join(sorted(unknown))}")
    console, found = Console(), dict[str, list[Figure]]()
    for name in arguments.names or NAMES:
        say = partial(console.print, f"  {name}:", highlight=False)
        say("starts")
        found[name] = asyncio.run(import_module(f"tests.bench.{name.replace('-', '_')}").measure(arguments, say))
        console.print(table_of(found[name]))
    said = {name: [figure.as_json() for figure in figures] for name, figures in found.items()}
    arguments.json.write_text(json.dumps(said, indent=1) + "\n")
    raise SystemExit(any(figure.holds is False for figures in found.values() for figure in figures))


if __name__ == "__main__":
    main()
