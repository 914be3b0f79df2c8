"""The history that the registry's topic holds: in which order everything was heard and done, row by row."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC

from schemas.envelope import Envelope
from schemas.events.base import Event
from schemas.events.registry import AuditAdvanced
from services.registry.domain.audit import Row, Verification
from shared.errors import Refusal


class NotRebuilt(Refusal):
    """The topics do not hold one whole history; says from where on."""


def row_of(head: AuditAdvanced) -> Row:
    """The row that a head names, as it was sealed.

    Raises:
        NotRebuilt: it was said without its row.
    """
    if head.row is None:
        raise NotRebuilt(f"row {head.position} was said without what it says, before audit.advanced 1.1")
    sealed = head.row.model_dump(exclude={"at"})
    at = head.row.at.astimezone(UTC).isoformat(timespec="microseconds")
    return Row(position=head.position, at=at, hash=head.hash.removeprefix("sha256:"), **sealed)


@dataclass(kw_only=True)
class History:
    """What the registry said: the rows of its audit log, what people did by event id, and what followed from what.

    `deeds` are the types of events by which people act.
    """

    deeds: Collection[type[Event]]
    heads: dict[int, AuditAdvanced] = field(default_factory=dict)
    done: dict[str, Envelope] = field(default_factory=dict)
    said: set[tuple[str, str]] = field(default_factory=set)  # type, and id of what it followed from

    def add(self, heard: Envelope) -> None:
        """The next that was said.

        Raises:
            NotRebuilt: a row was said twice, with another content.
        """
        if isinstance(heard.event, AuditAdvanced):
            known = self.heads.setdefault(heard.event.position, heard.event)
            if known.hash != heard.event.hash:
                raise NotRebuilt(f"row {known.position} was said twice and differently; expected one history")
        elif type(heard.event) in self.deeds:
            self.done[heard.id] = heard
        elif heard.causation_id is not None:
            self.said.add((heard.event.type_name(), heard.causation_id))

    def is_empty(self) -> bool:
        return not self.heads and not self.done

    def rows(self, until: int | None = None) -> list[Row]:
        """The whole audit log, oldest first, or as far as it had come.

        Raises:
            NotRebuilt: a row is missing, or is not what was sealed.
        """
        positions = sorted(each for each in self.heads if until is None or each <= until)
        rows, seen = [row_of(self.heads[position]) for position in positions], Verification()
        if broken := seen.follow(rows):
            raise NotRebuilt(f"row {broken.position} of the audit log as the bus tells it: {broken.why}")
        return rows
