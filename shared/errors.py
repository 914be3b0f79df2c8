"""One tree of errors; ids are attributes, messages say what was wrong, where, and what was expected.

ModelbusError
├── Fault            may pass: retried with back-off, then parked
│   └── TooEarly     something this event needs has not arrived yet
├── Refusal          will never pass: becomes an event or an answer to a person, and is acknowledged
│   ├── DeclarationError   a YAML document is wrong (schemas/declarations.py has its own, with lines)
│   └── Forbidden          the caller may not do this
└── Fatal            the process must end and be restarted: going on could break a guarantee
    ├── Fenced       somebody else owns this state now
    └── DeadLetterFailed   a record could be neither handled nor parked
"""


class ModelbusError(Exception):
    """Any error of modelbus."""


class Fault(ModelbusError):
    """Something failed that may work later."""


class TooEarly(Fault):
    """Something this event needs has not arrived yet."""


class Refusal(ModelbusError):
    """A well-formed request that will not be done."""


class DeclarationError(Refusal):
    """A declaration does not fit what is already declared."""


class Forbidden(Refusal):
    """The caller may not do this."""


class Fatal(ModelbusError):
    """Going on could break a guarantee; the process ends and the supervisor starts it again."""


class Fenced(Fatal):
    """Somebody else has moved this state on."""


class DeadLetterFailed(Fatal):
    """A record could be neither handled nor parked; its partition must not go on."""
