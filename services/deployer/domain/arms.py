"""Which arm serves an entity: a salted hash against the canary's share."""

from hashlib import blake2b

_RANGE = 2.0**64


def position_of(entity: str, salt: str) -> float:
    """Where an entity stands in [0, 1) under a rollout's salt; the same for ever.

    >>> position_of("N14228", "a") == position_of("N14228", "a") != position_of("N14228", "b")
    True
    """
    digest = blake2b(entity.encode(), key=salt.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / _RANGE


def is_canary(entity: str, salt: str, share: float) -> bool:
    """Whether the challenger serves this entity. Raising `share` only moves entities from champion to canary.

    >>> is_canary("N14228", "a", 0.0), is_canary("N14228", "a", 1.0)
    (False, True)
    """
    return position_of(entity, salt) < share
