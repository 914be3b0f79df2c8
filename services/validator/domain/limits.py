"""What a card must say that no figure shows: how far a version may be trusted. Sentences, from what was found."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from schemas.events.parts import Candidate

_SEASONS_DAYS = 365
_OFTEN_MISSING = 0.05
_MOST_NAMED = 6
Json = dict[str, Any]


def limits(candidate: Candidate, card: Json) -> list[str]:
    """Of a card's plain content: each limit in a sentence or two, what weighs most first."""
    return [
        *([] if card["purpose"] else ["Nobody has said what it is for, and what it is not for."]),
        *_of_time(card),
        *_of_labels(candidate),
        *_of_parts(card),
        *_of_people(candidate),
        *_of_values(card),
        *_of_gates(card),
        "It goes by what occurred together. What would happen if somebody changed a feature, it does not know.",
    ]


def _of_time(card: Json) -> Iterator[str]:
    learned, held_out = card["data"].get("learned"), card["data"].get("held_out")
    if learned and learned["from"]:
        days = (datetime.fromisoformat(learned["until"]) - datetime.fromisoformat(learned["from"])).days + 1
        if days < _SEASONS_DAYS:
            yield f"It learned from {days} days. Other seasons than those it has not seen."
    if held_out and held_out["rows"]:
        yield (
            f"All that is said of its quality comes from {held_out['rows']:,} rows that it had not seen,"
            f" {held_out['from'][:10]} to {held_out['until'][:10]}; it holds while the world stays as it was then."
            " The monitor watches whether it does."
        )


def _of_labels(candidate: Candidate) -> Iterator[str]:
    label = candidate.stream_spec.label
    known = _span(label.delay.total_seconds())
    yield f"Whether an answer was right is known for certain after {known}; until then quality is estimated."
    if label.feedback == "selective":
        yield "Labels come only of what was answered with true: of the others nobody learns what they would have been."


def _of_parts(card: Json) -> Iterator[str]:
    small = [f"{each['feature']}={each['value']}" for each in card["slices"] if each["gap"] is None]
    if small:
        yield f"Too few rows to judge it for {_named(small)}."
    worst = max(card["weak_spots"], key=lambda each: (each["at_least"] > 0, each["excess"]), default=None)
    if worst:
        where = f"{worst['part']} ({worst['rows']:,} rows)"
        if worst["at_least"] > 0:
            yield f"Do not rely on it for {where}: there a constant answer was better."
        elif worst["excess"] > 0:
            yield f"It may be no better than a constant answer for {where}; the rows are too few to tell."
        else:
            yield f"It gains least for {where}."


def _of_people(candidate: Candidate) -> Iterator[str]:
    sensitive = [
        name for name, feature in candidate.stream_spec.features.items() if getattr(feature, "sensitive", False)
    ]
    if not sensitive:
        yield "No feature is declared sensitive, so nothing is known of how it treats groups of people."


def _of_values(card: Json) -> Iterator[str]:
    for feature in card["data"]["features"]:
        if feature["never"]:
            yield (
                f"{feature['name']}: {len(feature['never'])} of {feature['values']} declared values did not occur"
                f" in what it was made from ({_named(feature['never'])})."
            )
    lacking = [
        f"{each['name']} ({each['missing']:.0%})"
        for each in card["data"]["features"]
        if each["missing"] and each["missing"] >= _OFTEN_MISSING
    ]
    if lacking:
        yield f"Often missing in what it was made from: {', '.join(lacking)}."


def _of_gates(card: Json) -> Iterator[str]:
    kinds = {gate["name"] for gate in card["gates"] if gate["verdict"] == "not_asked"}
    silent = sorted(kind.replace("_", " ") for kind in kinds if not kind.endswith("_vs_champion"))
    if silent:
        yield f"Nobody asked for a bound on: {', '.join(silent)}."


def _named(names: list[str]) -> str:
    """The first few.

    >>> _named(["a", "b"]), _named(list("abcdefgh"))
    ('a, b', 'a, b, c, d, e, f and 2 more')
    """
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _span(seconds: float) -> str:
    """A length of time in the largest unit that it fills.

    >>> _span(46800), _span(86400 * 3)
    ('13 hours', '3 days')
    """
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"
