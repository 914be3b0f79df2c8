"""`make bench`: every figure beside a ceiling measured in the same run; a table, and JSON with `--json FILE`."""

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench import scorer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--events", type=int, default=300_000, help="how many events to score")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    found = {"scorer": scorer.measure(arguments.events)}
    table = Table("benchmark", "ours / s", "ceiling / s", "ratio")
    figures = found["scorer"]
    table.add_row(
        f"one scorer, exactly once, {figures['events']:,} events",
        f"{figures['scorer_per_second']:,.0f}",
        f"{figures['bare_loop_per_second']:,.0f}",
        f"{figures['ratio']:.2f}",
    )
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
