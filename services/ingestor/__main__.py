"""`python -m services.ingestor`."""

from services.ingestor.app import opened
from shared.service import run

if __name__ == "__main__":
    run("ingestor", opened)
