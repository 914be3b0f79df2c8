"""`python -m services.deployer.gateway`: build and run."""

import asyncio
import logging
import os

from services.deployer.gateway.app import opened
from services.deployer.settings import GatewaySettings
from shared import telemetry
from shared.settings import TelemetrySettings
from shared.stopping import until_stopped

log = logging.getLogger(__name__)


def main() -> None:
    """Exit 0 when told to stop, 1 with the error in the log otherwise."""
    provider = telemetry.set_up("gateway", TelemetrySettings())

    async def live() -> None:
        async with opened(GatewaySettings()) as loops:
            log.info("the gateway is up")
            await until_stopped(loops)

    try:
        asyncio.run(live())
    except Exception:
        log.exception("the gateway ends")
        provider.shutdown()
        os._exit(1)  # at once: a client that waits for a broker must not keep the process alive
    provider.shutdown()


if __name__ == "__main__":
    main()
