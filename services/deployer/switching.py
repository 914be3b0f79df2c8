"""Switches of partitions to newer revisions, and how they are said."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from opentelemetry.trace import SpanKind

from schemas.envelope import Envelope
from schemas.events.deployer import RolloutSwitched
from schemas.topics import DATA, DEPLOYER
from services.deployer.places import Place, Where
from services.deployer.serving import Known, Serving
from shared import telemetry


class Switch(NamedTuple):
    """From `offset` on, `where` is served under `revision` of `model`."""

    where: Where
    offset: int
    model: str
    revision: int


def switches_of(known: Known, places: Mapping[Where, Place]) -> list[Switch]:
    """What these partitions, idle ones too, have to switch to serve under what is known."""
    return [
        Switch(where, place.position, model, revision)
        for where, place in places.items()
        for model, revision in known.revisions_of(DATA.owner(where[0]) or "").items()
        if place.revisions.get(model, 0) < revision
    ]


def announce(switches: Sequence[Switch], known: Known) -> Iterator[Envelope]:
    """The events of these switches, each model's in one span of the rollout's trace.

    Ids are made of what is said: a switch that is written again after an abort is the same event.
    """
    by_model: dict[str, list[Switch]] = defaultdict(list)
    for switch in switches:
        by_model[switch.model].append(switch)
    for model, group in by_model.items():
        serving = known.serving[model]
        attributes = {
            **telemetry.messaging_attributes(DEPLOYER.name, "send"),
            "modelbus.model": model,
            "modelbus.revision": serving.changed.revision,
            "modelbus.partitions": [f"{switch.where[1]}@{switch.offset}" for switch in group],
        }
        parent = serving.said.traceparent
        with telemetry.span("switch rollout", kind=SpanKind.PRODUCER, parent=parent, attributes=attributes):
            yield from [_said(switch, serving) for switch in group]


def _said(switch: Switch, serving: Serving) -> Envelope:
    event = RolloutSwitched(
        model=switch.model,
        stream=DATA.owner(switch.where[0]) or "",
        partition=switch.where[1],
        offset=switch.offset,
        revision=switch.revision,
    )
    return serving.follow_up(event, f"switched/{switch.model}/{switch.revision}/{switch.where[1]}")
