"""A process that runs jobs of one schema until it is killed: python -m tests.integration.job_service SCHEMA."""

import asyncio
import sys

from shared import postgres
from shared.settings import PostgresSettings
from tests.integration.job_words import runner_of


async def main(schema: str) -> None:
    """Run until killed."""
    async with postgres.open_pool(PostgresSettings(), schema) as pool:
        await runner_of(pool).run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
