"""Everything the monitor derives from a stream's data plane: one value, written with its offsets in one transaction."""

from typing import Any

import msgspec
import numpy as np
from msgspec import Struct, field

from services.monitor.domain.absent import Absent
from services.monitor.domain.alerts import Alarm, Alert
from services.monitor.domain.clock import Checkpoint, Clock
from services.monitor.domain.course import Course
from services.monitor.domain.join import Join
from services.monitor.domain.labelled import Labelled
from services.monitor.domain.losses import Losses
from services.monitor.domain.maturity import Matured
from services.monitor.domain.pairs import Evidence
from services.monitor.domain.realised import Realised
from services.monitor.domain.rows import Rows
from services.monitor.domain.windows import Window
from shared.errors import Fatal

FORM = 1  # of the snapshot; a field with a default may be added without a new one
Vector = dict[int, int]  # partition → next offset


class Cleared(Struct, array_like=True, frozen=True):
    """Where what had settled left before a window closed."""

    heard: Vector
    data: Vector
    labels: Vector
    clock: int


class VersionState(Struct, kw_only=True):
    """One version that serves or has served."""

    window: Window | None = None
    windows: int = 0  # closed so far
    realised: Realised = field(default_factory=Realised)
    losses: Losses = field(default_factory=Losses)
    estimates: list[tuple[int, int, float]] = field(default_factory=list)  # from, until, main metric, of past windows
    courses: dict[str, Course] = field(default_factory=dict)  # by column
    faulty: list[tuple[int, int]] = field(default_factory=list)  # from, until, of the newest faulty windows
    data_fault: Alarm = field(default_factory=Alarm)
    drift: Alarm = field(default_factory=Alarm)
    decay: Alarm = field(default_factory=Alarm)


class ModelState(Struct, kw_only=True):
    """One model that has been served. `evidence` is by rollout, `<champion>:<challenger>`."""

    join: Join = field(default_factory=Join)
    refused: int = 0  # records in its topics that no scorer writes
    answered: Vector = field(default_factory=dict)  # input partition → next input offset without an answer
    shadowed: Vector = field(default_factory=dict)  # likewise, of the shadow's answers
    clock: int | None = None
    versions: dict[int, VersionState] = field(default_factory=dict)
    evidence: dict[str, Evidence] = field(default_factory=dict)
    settled: int = 0  # matured with a label
    cleared: list[Cleared] = field(default_factory=list)  # since a window closed; the newest
    absent: Absent = field(default_factory=Absent)
    unlabelled: Alarm = field(default_factory=Alarm)
    missed: Alert | None = None  # that runs were no better


class StreamState(Struct, kw_only=True):
    """One stream and its models. `positions` is topic → partition → next offset to take."""

    clock: Clock
    form: int = FORM
    positions: dict[str, Vector] = field(default_factory=dict)
    data: Vector = field(default_factory=dict)  # behind the last accepted record
    labels: Vector = field(default_factory=dict)
    labels_time: dict[int, int] = field(default_factory=dict)  # how far each labels partition has come
    refused: int = 0  # data records that break the contract; the ingestor parks them
    labels_refused: int = 0
    labelled: Labelled = field(default_factory=Labelled)  # data events
    matured: Matured = field(default_factory=Matured)
    matured_until: int | None = None
    rows: Rows = field(default_factory=Rows)
    sampling: int = 0  # one in 2**sampling ids is taken in (sampling.py)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    models: dict[str, ModelState] = field(default_factory=dict)


class _Form(Struct):
    form: int = 1  # of the snapshots before the number was written


def _encoded(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    raise NotImplementedError(f"no wire form for {type(value)}")


def _decoded(kind: Any, value: Any) -> Any:
    if getattr(kind, "__origin__", kind) is np.ndarray:
        dtype, shape, data = value
        return np.frombuffer(data, dtype=dtype).reshape(shape).copy()
    raise NotImplementedError(f"no wire form for {kind}")


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_encoded)
_FORM_DECODER = msgspec.msgpack.Decoder(_Form)
_WAY_OUT = "run the release that wrote it, or delete the stream's row of stream_state to measure it anew"
_DECODER = msgspec.msgpack.Decoder(StreamState, dec_hook=_decoded)


def dump(state: StreamState) -> bytes:
    """Compact, and the same bytes for the same state."""
    return _ENCODER.encode(state)


def load(snapshot: bytes) -> StreamState:
    """The inverse of `dump`.

    It is not rebuilt from the log when it was written in another form: rounds would fall differently, so that evidence
    would be said again with other numbers, and new windows and alerts would take ids that were said before.

    Raises:
        Fatal: written in another form.
    """
    try:
        form = _FORM_DECODER.decode(snapshot).form
        if form == FORM:
            return _DECODER.decode(snapshot)
    except msgspec.DecodeError as error:
        raise Fatal(f"the snapshot cannot be read as form {FORM}: {error}; {_WAY_OUT}") from error
    raise Fatal(f"the snapshot has form {form}, expected {FORM}; {_WAY_OUT}")
