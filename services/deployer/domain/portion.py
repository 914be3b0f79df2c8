"""How many records are scored at once, so that a model which is slow, or hangs on some rows, stops nothing else."""

from dataclasses import dataclass

LONGEST_SECONDS = 1.0


@dataclass(kw_only=True)
class Portion:
    """`size` records, `most` at first; fewer when they take longer than a second, more again when they do not.

    >>> portion = Portion(most=1000)
    >>> portion.took(12.0)
    >>> portion.size
    500
    """

    most: int
    size: int = 0

    def __post_init__(self) -> None:
        self.size = self.size or self.most

    def took(self, seconds: float) -> None:
        """What was scored at once took so long."""
        if seconds > LONGEST_SECONDS:
            self.size = max(1, self.size // 2)
        elif seconds < LONGEST_SECONDS / 4:
            self.size = min(self.most, 2 * self.size)
