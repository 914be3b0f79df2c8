"""python -m services.trainer"""

from services.trainer.app import opened
from shared.service import run

if __name__ == "__main__":
    run("trainer", opened)
