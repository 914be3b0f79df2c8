"""`python -m services.registry`"""

from services.registry.app import opened
from shared.service import run

if __name__ == "__main__":
    run("registry", opened)
