"""Whether a record would be refused again: what today's declaration of its stream says of it."""

from collections.abc import Callable

import httpx
import msgspec

from cli.client import Registry, RegistryError
from cli.letters import Letter, Reason
from schemas.specs import StreamSpec
from schemas.topics import DATA, LABELS
from shared.records import UNREADABLE, LabelDecoder, StreamDecoder

Check = Callable[[bytes | None], str | None]


class Verdicts:
    """Asks the registry once a stream; of one that is not declared nothing is known."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}

    def refusal(self, letter: Letter) -> str | None:
        """Why the ingestor would park the record again; None when it would not, or when nobody can tell.

        Raises:
            RegistryError: the registry does not answer, or does not let one look.
        """
        if letter.reason == Reason.EXHAUSTED:  # to decode it here may end this process
            return None
        if letter.topic not in self._checks:
            self._checks[letter.topic] = _check(letter.topic)
        return self._checks[letter.topic](letter.value)


def _check(topic: str) -> Check:
    stream = DATA.owner(topic) or LABELS.owner(topic)
    spec = _spec(stream) if stream else None
    if spec is None:
        return lambda _: None
    return _data_check(spec) if DATA.owner(topic) else _label_check(spec)


def _spec(stream: str) -> StreamSpec | None:
    try:
        with Registry("viewer") as registry:
            return StreamSpec.model_validate(registry.get(f"/streams/{stream}")["spec"])
    except RegistryError as error:
        if error.status == httpx.codes.NOT_FOUND:
            return None
        raise


def _data_check(spec: StreamSpec) -> Check:
    decoder = StreamDecoder(spec)

    def check(value: bytes | None) -> str | None:
        return next((refused.error for refused in decoder.decode([value]).refused), None)

    return check


def _label_check(spec: StreamSpec) -> Check:
    decoder = LabelDecoder(spec)

    def check(value: bytes | None) -> str | None:
        try:
            decoder.decode(value)
        except (msgspec.ValidationError, *UNREADABLE) as error:
            return str(error)
        return None

    return check
