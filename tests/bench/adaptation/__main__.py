"""`make bench-adaptation`: what the platform makes of worlds that change, beside others. Table, JSON, pictures."""

import argparse
import json
import multiprocessing
import sys
from functools import partial
from pathlib import Path

from rich.console import Console

from tests.bench.adaptation.contestants import Contest, contest_of
from tests.bench.adaptation.pictures import draw
from tests.bench.adaptation.report import json_of, promises, table_of
from tests.bench.adaptation.stack import through_the_stack
from tests.bench.adaptation.streams import NAMES, ON_STACK, stream_of

_TOGETHER = 2


def main() -> None:
    """Exit code 1 where a promise does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.adaptation", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="STREAM", help=f"some of {', '.join(NAMES)}; all when none is named"
    )
    parser.add_argument("--out", type=Path, default=Path(".modelbus/adaptation"), help="folder of JSON and pictures")
    parser.add_argument("--without-forest", action="store_true", help="leave out the slowest contestant")
    parser.add_argument("--stack", action="store_true", help="through the running stack too")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(NAMES):
        parser.error(f"expected some of {', '.join(NAMES)}, got {', '.join(sorted(unknown))}")
    console, found = Console(width=140), dict[str, Contest]()
    names = arguments.names or NAMES
    with multiprocessing.get_context("spawn").Pool(_TOGETHER, maxtasksperchild=1) as pool:
        for each in pool.imap_unordered(partial(contest_of, with_forest=not arguments.without_forest), names):
            found[each.name] = each
            console.print(f"  {each.name}: done in {each.seconds:.0f} s", highlight=False)
    contests = [found[name] for name in names]
    if arguments.stack:
        contests += [through_the_stack(stream_of(name), found[name], console) for name in ON_STACK if name in found]
    console.print(table_of(contests))
    draw(contests, arguments.out)
    (arguments.out / "adaptation.json").write_text(json.dumps(json_of(contests), indent=1) + "\n")
    kept = list(promises(contests))
    for promise in kept:
        console.print(
            f"  {'holds' if promise.holds else 'FAILS'}: {promise.what}: {promise.found:.2f}", highlight=False
        )
    sys.exit(0 if all(promise.holds for promise in kept) else 1)


if __name__ == "__main__":
    main()
