"""Why a request has no prediction, as an HTTP status. All are told as the protocol says: {"error": …}.

Unanswered
├── Invalid        400   the request is not as expected
├── Unknown        404   no such model, or the version is not live
├── NotServed      409   declared, but no version serves it yet: asking again soon will not help
├── TooLarge       413   more bytes or rows than one request may have
├── Unsupported    415   a body that is coded in a way that is not read here
├── Busy           429   too many rows are in flight
├── Unavailable    503   a part that is needed does not answer; not all is known to be published
└── Late           504   published, and not yet answered: the prediction will still be made
"""

from typing import ClassVar

from shared.errors import ModelbusError


class Unanswered(ModelbusError):
    """A request without prediction."""

    status: ClassVar[int]
    retry_after_seconds: ClassVar[int | None] = None


class Invalid(Unanswered):
    """The request is not as expected."""

    status = 400


class Unknown(Unanswered):
    """There is no such model, or the version is not live."""

    status = 404


class NotServed(Unanswered):
    """The model is declared, but has no champion."""

    status = 409


class TooLarge(Unanswered):
    """More than one request may hold."""

    status = 413


class Unsupported(Unanswered):
    """The body is coded in a way that is not read here."""

    status = 415


class Busy(Unanswered):
    """Too many rows are in flight."""

    status = 429
    retry_after_seconds = 1


class Unavailable(Unanswered):
    """A part that is needed does not answer; what was asked may not have been published."""

    status = 503
    retry_after_seconds = 5


class Late(Unanswered):
    """Published, and not answered in time."""

    status = 504
