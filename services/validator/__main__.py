"""Run the validator."""

from services.validator.app import opened
from shared.service import run

if __name__ == "__main__":
    run("validator", opened)
