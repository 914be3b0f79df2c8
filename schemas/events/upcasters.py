"""How the payload of an older major becomes that of the next: plain dictionaries in and out."""

from collections.abc import Callable
from typing import Any

Payload = dict[str, Any]


def _alert_raised_v1(payload: Payload) -> Payload:
    """v2 names all features.

    >>> _alert_raised_v1({"alert": "a", "feature": "distance"})
    {'alert': 'a', 'features': ['distance']}
    """
    rest = {name: value for name, value in payload.items() if name != "feature"}
    return {**rest, "features": [payload["feature"]]}


UPCASTERS: dict[tuple[str, int], Callable[[Payload], Payload]] = {("alert.raised", 1): _alert_raised_v1}
