"""Evidently's data drift report on the leading rows and columns of two matrices: processor seconds, drifted columns.

Runs in an environment of its own (requirements.lock): `python report.py REFERENCE.npy CURRENT.npy ROWS COLUMNS`.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any


def main(reference: Path, current: Path, rows: int, columns: int) -> dict[str, float]:
    """Loading is not counted."""
    import numpy as np  # noqa: PLC0415  # these are not of the project's environment
    import pandas as pd  # noqa: PLC0415
    from evidently import Report  # type: ignore[import-not-found]  # noqa: PLC0415
    from evidently.presets import DataDriftPreset  # type: ignore[import-not-found]  # noqa: PLC0415

    def frame(path: Path) -> Any:
        part = np.load(path, mmap_mode="r")[:rows, :columns]
        return pd.DataFrame(np.array(part), columns=[f"x{index}" for index in range(columns)])

    frames = frame(current), frame(reference)
    started = time.process_time()
    said = Report([DataDriftPreset()]).run(*frames).dict()
    seconds = time.process_time() - started
    drifted = next(metric["value"]["count"] for metric in said["metrics"] if "DriftedColumns" in metric["metric_name"])
    return {"seconds": seconds, "drifted": drifted}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))
