"""Labels that stay away: told when many more predictions than usual mature without one."""

from msgspec import Struct

from services.monitor.domain.alerts import Finding

_LEAST = 100  # matured predictions
_SURGE = 0.3


class Absent(Struct, kw_only=True):
    """How many had matured with and without a label when it was last looked, and how many of each are the usual."""

    labelled: int = 0
    expired: int = 0
    usual_labelled: int = 0
    usual_expired: int = 0

    def look(self, labelled: int, expired: int) -> list[Finding] | None:
        """Totals so far; None while too few have matured since the last look. What surges is not the usual.

        >>> absent = Absent()
        >>> [len(found) for labelled, expired in ((100, 10), (110, 120), (210, 130)) if (found := absent.look(
        ...     labelled, expired)) is not None]
        [0, 1, 0]
        """
        came, stayed = labelled - self.labelled, expired - self.expired
        if came + stayed < _LEAST:
            return None
        self.labelled, self.expired = labelled, expired
        share, known = stayed / (came + stayed), self.usual_labelled + self.usual_expired
        usually = self.usual_expired / known if known else share
        if share >= usually + _SURGE:
            words = f"labels: {share:.0%} of the predictions that matured have none, {usually:.0%} is usual"
            return [Finding(subject="labels", explanation=words, overwhelming=True)]
        self.usual_labelled, self.usual_expired = self.usual_labelled + came, self.usual_expired + stayed
        return []
