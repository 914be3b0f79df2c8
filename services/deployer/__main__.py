"""`python -m services.deployer`: the rollout; scorers are `python -m services.deployer.scorer --slot N`."""

from services.deployer.app import opened
from shared.service import run

if __name__ == "__main__":
    run("deployer", opened)
