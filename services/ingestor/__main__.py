"""`python -m services.ingestor`."""

from shared.imports import leave_out
from shared.memory import keep_little
from shared.service import run

if __name__ == "__main__":
    leave_out("pandas")
    keep_little()
    from services.ingestor.app import opened  # pyarrow comes with it

    run("ingestor", opened)
