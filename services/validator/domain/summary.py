"""What a card says first: what the version answers, how well, at what cost, and what was decided. Sentences."""

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]


def summary(card: Json) -> list[str]:
    """Of a card's plain content."""
    return [*_answers(card), *_quality(card), *_cost(card), _decision(card), *_next(card)]


def _answers(card: Json) -> Iterator[str]:
    answers, stream = card["answers"], card["answers"]["stream"]
    if card["task"] == "regression":
        yield f"For each event of {stream} it foretells a number."
    elif card["task"] == "multiclass":
        yield f"For each event of {stream} it says how probable each of {len(answers['classes'])} classes is."
    else:
        why = ""
        if costs := answers["costs"]:
            why = f", as a false alarm costs {costs['false_positive']:g} and a miss {costs['false_negative']:g}"
        yield (
            f"For each event of {stream} it says how probable it is that the label will be true, and answers true from"
            f" {answers['threshold']:.2f} on{why}."
        )


def _quality(card: Json) -> Iterator[str]:
    found = next((each for each in card["quality"] if each["metric"] == card.get("metric")), None)
    if found is None:
        yield "It could not be asked about rows it had not seen."
        return
    low, high = found["confidence"]
    beside = "" if found["champion"] is None else f", the champion {found['champion']:.3f}"
    yield (
        f"On {card['data']['held_out']['rows']:,} later events that it had not seen, its {_METRIC[found['metric']]} is"
        f" {found['value']:.3f} (95 % confidence {low:.3f} to {high:.3f}); always saying the mean gets"
        f" {found['constant']:.3f}{beside}."
    )


def _cost(card: Json) -> Iterator[str]:
    if cost := card.get("cost"):
        beside = "" if cost["champion"] is None else f" {cost['champion']:.0f} with the champion and"
        yield (
            f"A thousand such events cost {cost['candidate']:.0f} with it, by the declared costs, against{beside}"
            f" {cost['constant']:.0f} with the better of always or never."
        )


def _decision(card: Json) -> str:
    verdicts = [gate["verdict"] for gate in card["gates"]]
    passed, failed = verdicts.count("passed"), verdicts.count("failed")
    if failed:
        return f"It may not serve: {failed} of {passed + failed} gates stopped it."
    alone = "; no champion was there to compare it with" if "no_champion" in verdicts else ""
    return f"It may serve: it passed all {passed} gates that were asked{alone}."


def _next(card: Json) -> Iterator[str]:
    if card["verdict"] == "rejected":
        return
    rollout = card["rollout"]
    steps = ", then ".join(f"{share:.0%}" for share in rollout["canary"])
    canary = f", then answers for {steps} of the entities" if steps else ""
    approval = {"required": "once a person says yes, ", "four_eyes": "once two people say yes, "}
    yield (
        f"Next, {approval.get(rollout['approval'], '')}it is scored on {rollout['shadow']:,} events in the champion's"
        f" shadow{canary}; matured labels decide at each step whether it goes on, and where nobody serves yet it serves"
        " at once."
    )


_METRIC = {"roc_auc": "ROC AUC", "rmse": "root mean squared error"}
