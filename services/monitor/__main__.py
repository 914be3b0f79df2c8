"""`python -m services.monitor`."""

from services.monitor.app import opened
from shared.service import run

if __name__ == "__main__":
    run("monitor", opened)
