"""What a demo is to show: the declarations, how far, how fast, and what is promised of it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from examples.flights.departures import Record, timeline
from schemas.declarations import parse
from schemas.durations import Duration
from schemas.specs import ModelSpec, StreamSpec

START = datetime(2013, 1, 1, tzinfo=UTC)
END = datetime(2014, 1, 2, tzinfo=UTC)  # after the last landing
SPECS = Path(__file__).parents[2] / "examples" / "flights" / "demo.yaml"
_DURATION: TypeAdapter[timedelta] = TypeAdapter(Duration)


@dataclass(frozen=True, kw_only=True)
class Promises:
    """What the declarations of a demo are good for; each is due once event time has come so far."""

    due: datetime
    second_version_of: frozenset[str] = frozenset()
    least_auc: Mapping[str, float] = field(default_factory=dict)  # of what is served, since the first champion
    least_gain: Mapping[str, float] = field(default_factory=dict)  # over the first version, since the second champion


NOTHING_PROMISED = Promises(due=END)
OF_FLIGHTS = Promises(
    due=datetime(2013, 3, 20, tzinfo=UTC),
    second_version_of=frozenset({"flight-delay", "flight-risk"}),
    least_auc={"flight-delay": 0.88},
    least_gain={"flight-risk": 0.03},
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run of the demo. `pace` is event time a second of wall time, None as fast as everybody follows."""

    folder: Path
    specs: Path = SPECS
    start: datetime = START
    until: datetime = END
    pace: timedelta | None = timedelta(days=1)
    exit: bool = False
    report: Path | None = None
    keep: bool = False
    kill_every_seconds: float | None = None
    seed: int = 1
    scorers: int = 1
    records: Callable[[datetime, datetime], Iterator[Record]] = timeline  # from a start until an end, in event time

    @property
    def promises(self) -> Promises:
        return OF_FLIGHTS if self.specs == SPECS else NOTHING_PROMISED

    @property
    def traced(self) -> bool:
        """Whether every lifecycle's spans must be there: killed processes take theirs along, Zipkin's end with it."""
        return self.kill_every_seconds is None and not self.keep


@dataclass(frozen=True, kw_only=True)
class Declared:
    """One stream and its models, as the file of the plan declares them."""

    text: str
    stream: StreamSpec
    models: tuple[ModelSpec, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(model.model for model in self.models)


def declared(path: Path) -> Declared:
    """Read the declarations.

    Raises:
        DeclarationsInvalid: with every problem of the text.
        ValueError: not exactly one stream, or no model on it.
    """
    text = path.read_text()
    specs = parse(text, str(path))
    streams = [spec for spec in specs if isinstance(spec, StreamSpec)]
    models = tuple(spec for spec in specs if isinstance(spec, ModelSpec))
    if len(streams) != 1 or not models:
        raise ValueError(f"{path}: expected one stream with its models, got {len(streams)} and {len(models)}")
    return Declared(text=text, stream=streams[0], models=models)


def pace_of(written: str) -> timedelta | None:
    """Event time a second of wall time.

    >>> pace_of("1d/s"), pace_of("max")
    (datetime.timedelta(days=1), None)

    Raises:
        ValueError: not so written.
    """
    if written == "max":
        return None
    duration, slash, second = written.partition("/")
    try:
        pace = _DURATION.validate_python(duration.strip())
    except ValidationError:
        pace = timedelta(0)
    if not slash or second.strip() != "s" or not pace:
        raise ValueError(f"expected a pace such as 1d/s, 6h/s or max, got {written!r}")
    return pace


def moment_of(written: str) -> datetime:
    """A date, or a time; UTC where no zone is said.

    >>> moment_of("2013-03-20").isoformat()
    '2013-03-20T00:00:00+00:00'

    Raises:
        ValueError: neither.
    """
    try:
        moment = datetime.fromisoformat(written)
    except ValueError:
        raise ValueError(f"expected a date or a time, such as 2013-03-20, got {written!r}") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
