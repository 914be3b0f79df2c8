"""What applying declarations would change, and whether it may: what lives on a stream must be able to go on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

from schemas.declarations import Spec
from schemas.specs import CategoryFeature, Feature, ModelSpec, StreamSpec
from schemas.topics import CORRECTIONS, DATA, LABELS, PREDICTIONS, SHADOW
from shared.errors import DeclarationError

Verdict = Literal["created", "changed", "unchanged"]


@dataclass(frozen=True, kw_only=True)
class Misfit:
    """One thing that keeps a declaration from being applied; `where` is the path inside it."""

    kind: Literal["stream", "model"]
    name: str
    where: tuple[str | int, ...]
    found: str
    expected: str

    def __str__(self) -> str:
        path = ".".join(str(part) for part in self.where)
        return f"{self.kind} {self.name}: {path}: found {self.found}; expected {self.expected}"


class Misfits(DeclarationError):
    """Declarations that are well written and do not fit what is declared; `misfits` holds every reason."""

    def __init__(self, misfits: Sequence[Misfit]) -> None:
        self.misfits = tuple(misfits)
        super().__init__("\n".join(str(misfit) for misfit in misfits))


@dataclass(frozen=True, kw_only=True)
class FieldChange:
    """A field's path and its values in JSON; None where there is none."""

    field: str
    old: Any
    new: Any


@dataclass(frozen=True, kw_only=True)
class Change:
    """What happens to one stream or model, and the revision it has afterwards."""

    kind: Literal["stream", "model"]
    name: str
    verdict: Verdict
    revision: int
    spec: Spec
    stream: StreamSpec
    stream_revision: int
    fields: tuple[FieldChange, ...] = ()

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that have to be created for it."""
        families = (DATA, LABELS) if self.kind == "stream" else (PREDICTIONS, SHADOW, CORRECTIONS)
        return tuple(family.of(self.name) for family in families) if self.verdict == "created" else ()


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What is declared already.

    `serving` names the versions in use by what they need: (stream, feature) → `model:version`, …;
    `columns` are the types that features of a stream ever had, for its table keeps its columns.
    """

    streams: Mapping[str, tuple[StreamSpec, int]] = field(default_factory=dict)
    models: Mapping[str, tuple[ModelSpec, int]] = field(default_factory=dict)
    serving: Mapping[tuple[str, str], Sequence[str]] = field(default_factory=dict)
    columns: Mapping[tuple[str, str], str] = field(default_factory=dict)


def plan(specs: Iterable[Spec], declared: Declared) -> list[Change]:
    """The changes, streams first; a changed stream changes every model on it, for a model's events carry its stream.

    Raises:
        Misfits: with all reasons why not.
    """
    specs = list(specs)
    streams = {spec.stream: spec for spec in specs if isinstance(spec, StreamSpec)}
    models = {spec.model: spec for spec in specs if isinstance(spec, ModelSpec)}
    all_streams = {name: spec for name, (spec, _) in declared.streams.items()} | streams
    all_models = {name: spec for name, (spec, _) in declared.models.items()} | models
    misfits = [misfit for spec in streams.values() for misfit in _misfits_of_stream(spec, declared, all_models)]
    misfits += [misfit for spec in models.values() for misfit in _misfits_of_model(spec, declared, all_streams)]
    if misfits:
        raise Misfits(misfits)
    changes = {name: _stream_change(spec, declared) for name, spec in streams.items()}
    moved = {name for name, change in changes.items() if change.verdict == "changed"}
    touched = [spec for spec in all_models.values() if spec.model in models or spec.stream in moved]
    return [*changes.values(), *(_model_change(spec, declared, all_streams, changes) for spec in touched)]


def _stream_change(spec: StreamSpec, declared: Declared) -> Change:
    old, revision = declared.streams.get(spec.stream, (None, 0))
    fields = differences(old, spec)
    verdict: Verdict = "created" if old is None else "changed" if fields else "unchanged"
    number = revision + (verdict != "unchanged")
    return Change(kind="stream", name=spec.stream, verdict=verdict, revision=number, spec=spec, stream=spec,
                  stream_revision=number, fields=fields)  # fmt: skip


def _model_change(
    spec: ModelSpec, declared: Declared, streams: Mapping[str, StreamSpec], changes: Mapping[str, Change]
) -> Change:
    old, revision = declared.models.get(spec.model, (None, 0))
    fields = differences(old, spec)
    stream_revision = declared.streams[spec.stream][1] if spec.stream in declared.streams else 0
    if spec.stream in changes:
        was, stream_revision = stream_revision, changes[spec.stream].revision
        if old is not None and was != stream_revision:
            fields = (*fields, FieldChange(field="stream.revision", old=was, new=stream_revision))
    verdict: Verdict = "created" if old is None else "changed" if fields else "unchanged"
    return Change(kind="model", name=spec.model, verdict=verdict, revision=revision + (verdict != "unchanged"),
                  spec=spec, stream=streams[spec.stream], stream_revision=stream_revision, fields=fields)  # fmt: skip


def differences(old: Spec | None, new: Spec) -> tuple[FieldChange, ...]:
    """The fields whose values differ, by path; none where there was nothing before."""
    if old is None:
        return ()
    before, after = flat(old.model_dump(mode="json")), flat(new.model_dump(mode="json"))
    return tuple(
        FieldChange(field=name, old=before.get(name), new=after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    )


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested objects by dotted paths; lists stay values.

    >>> flat({"a": {"b": 1, "c": [2]}, "d": None})
    {'a.b': 1, 'a.c': [2], 'd': None}
    """
    found: dict[str, Any] = {}
    for name, inner in value.items():
        found |= flat(inner, f"{prefix}{name}.") if isinstance(inner, Mapping) else {f"{prefix}{name}": inner}
    return found


def _misfits_of_stream(new: StreamSpec, declared: Declared, models: Mapping[str, ModelSpec]) -> list[Misfit]:
    misfit = partial(Misfit, kind="stream", name=new.stream)
    if new.stream not in declared.streams:
        return []
    old, _ = declared.streams[new.stream]
    found = [
        misfit(where=(name,), found=repr(getattr(new, name)), expected=f"{getattr(old, name)!r}: it cannot change")
        for name in ("partitions", "entity")
        if getattr(new, name) != getattr(old, name)
    ]
    if new.label.type != old.label.type:
        expected = f"{old.label.type}: a label's type cannot change"
        found.append(misfit(where=("label", "type"), found=new.label.type, expected=expected))
    if wrong := _not_appended(old.label.values, new.label.values):
        found.append(misfit(where=("label", "values"), found=wrong.found, expected=wrong.expected))
    for name in sorted(old.features.keys() - new.features.keys()):
        if users := _users(new.stream, name, declared, models):
            expected = f"it to stay: {', '.join(users)} use it"
            found.append(misfit(where=("features", name), found="it gone", expected=expected))
    for name, feature in new.features.items():
        column = declared.columns.get((new.stream, name), feature.type)
        if wrong := _misfit_of_feature(feature, old.features.get(name), column):
            where = ("features", name, wrong.field)
            found.append(misfit(where=where, found=wrong.found, expected=wrong.expected))
    return found


class _Wrong(NamedTuple):
    field: str
    found: str
    expected: str


def _misfit_of_feature(new: Feature, old: Feature | None, column: str) -> _Wrong | None:
    if new.type != column:
        return _Wrong("type", new.type, f"{column}: a feature's type cannot change")
    if new.required and not (old and old.required):
        return _Wrong("required", "true", "false: producers that leave it out must go on")
    if isinstance(new, CategoryFeature) and isinstance(old, CategoryFeature):
        return _not_appended(old.values, new.values)
    return None


def _not_appended(old: tuple[str, ...], new: tuple[str, ...]) -> _Wrong | None:
    if new[: len(old)] == old:
        return None
    return _Wrong("values", str(list(new)), f"values that begin with {list(old)}: they may only be appended to")


def _users(stream: str, feature: str, declared: Declared, models: Mapping[str, ModelSpec]) -> list[str]:
    using = [f"model {spec.model}" for spec in models.values() if spec.stream == stream and feature in spec.features]
    return [*using, *declared.serving.get((stream, feature), ())]


def _misfits_of_model(new: ModelSpec, declared: Declared, streams: Mapping[str, StreamSpec]) -> list[Misfit]:
    def misfit(found: str, expected: str, *where: str) -> Misfit:
        return Misfit(kind="model", name=new.model, where=where, found=found, expected=expected)

    found = []
    if old := declared.models.get(new.model):
        found += [
            misfit(repr(getattr(new, name)), f"{getattr(old[0], name)!r}: it cannot change", name)
            for name in ("stream", "task")
            if getattr(new, name) != getattr(old[0], name)
        ]
    if unsuitable := new.unsuitable():
        found.append(misfit(unsuitable, "estimators of its task", "training", "estimators"))
    if new.stream not in streams:
        return [*found, misfit(repr(new.stream), f"a declared stream: {sorted(streams)}", "stream")]
    for problem in new.problems_on(streams[new.stream]):
        where, _, words = problem.partition(": ")
        found.append(misfit(words, f"a model that fits stream {new.stream!r}", where))
    return found
