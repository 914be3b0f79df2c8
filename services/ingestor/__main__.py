"""`python -m services.ingestor`."""

from services.ingestor.app import opened
from shared.imports import leave_out
from shared.service import run

if __name__ == "__main__":
    leave_out("pandas")
    run("ingestor", opened)
