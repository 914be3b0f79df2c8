"""When findings become an alert, and when an alert is over: what is overwhelming at once, the rest if it persists."""

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import Struct, field

PERSISTS = 2  # windows in a row
CLEAN = 2  # windows in a row without a finding resolve an alert


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one window says of one feature (or of the version's quality); `since` (µs) when it came suddenly."""

    subject: str
    explanation: str
    overwhelming: bool
    since: int | None = None


class Alert(Struct, frozen=True):
    """An alert that is not resolved; `since` (µs) when its first subject changed suddenly."""

    id: str
    subjects: tuple[str, ...]
    explanation: str
    since: int | None = None


class Alarm(Struct, kw_only=True):
    """One kind of alert about one version: at most one open at a time, into which further findings coalesce."""

    streaks: dict[str, int] = field(default_factory=dict)
    clean: int = 0
    open: Alert | None = None

    def hear(self, findings: Sequence[Finding], id: str) -> Alert | None:
        """Findings of a closed window, strongest first. Returns the alert named `id` when one is raised now."""
        self.streaks = {found.subject: self.streaks.get(found.subject, 0) + 1 for found in findings}
        self.clean = 0 if findings else self.clean + 1
        alarming = [each for each in findings if each.overwhelming or self.streaks[each.subject] >= PERSISTS]
        if self.open is not None or not alarming:
            return None
        self.open = Alert(
            id,
            tuple(each.subject for each in alarming),
            "; ".join(each.explanation for each in alarming),
            alarming[0].since,
        )
        return self.open

    def over(self) -> Alert | None:
        """The alert that enough clean windows have resolved, if any; it is closed."""
        if self.open is None or self.clean < CLEAN:
            return None
        return self.close()

    def close(self) -> Alert | None:
        closed, self.open = self.open, None
        return closed
