"""`python -m services.monitor`."""

from shared.memory import keep_little
from shared.service import run

if __name__ == "__main__":
    keep_little()
    from services.monitor.app import opened  # pyarrow comes with it

    run("monitor", opened)
