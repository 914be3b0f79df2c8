"""The demo in small: the flights' declarations quickened, and the command run as a user runs it."""

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from cli.demonstration.plan import SPECS

Json = dict[str, Any]
QUICKER = {
    r"min_rows: 8000": "min_rows: 3000",
    r"min_rows: 2000": "min_rows: 1500",
    r"trials: 4": "trials: 1",
    r"shadow: 1000": "shadow: 300",
    r"margin: 0.02, error_rate: 0.05, max_labels: 8000": "margin: 0.2, error_rate: 0.05, max_labels: 1000",
    r"every: 21d, cooldown: 20d": "every: 11d, cooldown: 11d",
    r"calibration_error: \{max: [0-9.]+\}": "calibration_error: {max: 0.5}",
    r"slices: \{max_gap: [0-9.]+\}": "slices: {max_gap: 0.5}",
    r"roc_auc: \{min: 0.55, not_worse_than_champion: [0-9.]+\}": "roc_auc: {min: 0.5}",
}


def quick_specs(folder: Path) -> Path:
    """The demo's declarations, so quickened that three weeks show a second version of flight-risk.

    The margin is wide: a thousand labels cannot tell a version that is worse by 0.02 from one that is as good.
    """
    text = SPECS.read_text()
    for pattern, quicker in QUICKER.items():
        text, replaced = re.subn(pattern, quicker, text)
        assert replaced, f"{pattern} is not in {SPECS}"
    path = folder / "quick.yaml"
    path.write_text(text)
    return path


async def run_demo(folder: Path, *options: str, until: str) -> tuple[int, Json, str]:
    """Exit code, report and output of `modelbus demo --exit` on the quick declarations."""
    report = folder / "report.json"
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", "demo", "--exit", "--report", str(report), "--until", until),
        *("--folder", str(folder / "stack"), "--specs", str(quick_specs(folder)), *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=dict(os.environ),
    )
    try:
        output, _ = await child.communicate()
    finally:
        if child.returncode is None:
            child.terminate()
            await child.wait()
    said = output.decode(errors="replace")
    assert report.exists(), said[-4000:]
    return child.returncode or 0, json.loads(report.read_text()), said
