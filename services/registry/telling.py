"""What the registry tells catalogues, beside what it records: OpenLineage run events, in the same transaction."""

from collections.abc import Sequence
from typing import Any

from schemas.topics import OPENLINEAGE
from services.registry.domain.openlineage import encoded, key_of
from shared import telemetry
from shared.outbox import Work

_HEADERS = [("content-type", b"application/json")]


async def tell(work: Work, events: Sequence[dict[str, Any]]) -> None:
    """Say them when, and only if, the transaction commits."""
    for event in events:
        await work.write(OPENLINEAGE, key_of(event), encoded(event), _HEADERS, telemetry.current_traceparent())
