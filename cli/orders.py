"""What an operator or approver orders: each command is one request, one event and one row of the audit log."""

import re
from typing import Annotated, Any

import typer

from cli.client import Role, registry, say

_VERSION_LIMIT = 2**31 - 1
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
Model = Annotated[str, typer.Argument(help="The model's name.")]
Version = Annotated[str, typer.Argument(metavar="MODEL:VERSION", help="A version, such as flight-delay:3.")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; it stays in the audit log.")]
Forced = Annotated[str, typer.Option("--reason", "-r", help="Why evidence is not waited for; it stays on record.")]
Actor = Annotated[str | None, typer.Option("--as", envvar="MODELBUS_ACTOR", help="Your name in the audit log.")]


def rollback(model: Model, reason: Reason = "ordered", actor: Actor = None) -> None:
    """End the running rollout of MODEL; when none runs, restore the champion before."""
    _order(model, "rollback", reason, actor)


def freeze(model: Model, reason: Reason = "ordered", actor: Actor = None) -> None:
    """Keep who serves MODEL as it is: no step, no promotion, until unfrozen."""
    _order(model, "freeze", reason, actor)


def unfreeze(model: Model, reason: Reason = "ordered", actor: Actor = None) -> None:
    """Let the rollouts of MODEL go on."""
    _order(model, "unfreeze", reason, actor)


def promote(model: Model, reason: Forced, actor: Actor = None) -> None:
    """Force the challenger of MODEL to be its champion now, without waiting for evidence; a reason must be given."""
    _order(model, "promote", reason, actor)


def train(model: Model, reason: Reason = "ordered", actor: Actor = None) -> None:
    """Ask for a training run of MODEL now."""
    _order(model, "train", reason, actor)


def approve(version: Version, reason: Reason = "approved", actor: Actor = None) -> None:
    """Say yes to a version that awaits approval; with four_eyes, two people have to."""
    _decide(version, "approve", "approver", reason, actor)


def refuse(version: Version, reason: Reason = "refused", actor: Actor = None) -> None:
    """Say no to a version that awaits approval, for good."""
    _decide(version, "refuse", "approver", reason, actor)


def retire(version: Version, reason: Reason = "retired", actor: Actor = None) -> None:
    """Take a version that does not serve out of use, for good."""
    _decide(version, "retire", "operator", reason, actor)


def comment(
    about: Annotated[str, typer.Argument(metavar="MODEL[:VERSION]", help="A model, or a version of it.")],
    text: Annotated[str, typer.Argument(help="What there is to say.")],
    actor: Actor = None,
) -> None:
    """Say something about a model or version; `modelbus why` and the audit log keep it."""
    model, _, number = about.partition(":")
    version = None if not number else version_path(about).rpartition("/")[2]
    with registry("operator", actor=actor) as client:
        answer = client.post(f"{model_path(model)}/comments", text=text, version=version and int(version))
    say(f"{about}: said (event {answer['event_id']})")


def _order(model: str, order: str, reason: str, actor: str | None) -> None:
    path = f"{model_path(model)}/{order}"
    with registry("operator", actor=actor) as client:
        answer = client.act(path, reason)
    say(f"{model}: {order} ordered (event {answer['event_id']})")


def _decide(version: str, verdict: str, role: Role, reason: str, actor: str | None) -> None:
    path = f"{version_path(version)}/{verdict}"
    with registry(role, actor=actor) as client:
        answer = client.act(path, reason)
    say(f"{version} is {answer['stage']}{_still_needed(answer)}")


def model_path(model: str) -> str:
    """Where a model stands in the registry's API.

    Raises:
        typer.BadParameter: it is not a model's name.
    """
    return f"/models/{_name(model)}"


def version_path(version: str) -> str:
    """Where MODEL:VERSION stands in the registry's API.

    >>> version_path("flight-delay:3")
    '/models/flight-delay/versions/3'

    Raises:
        typer.BadParameter: it is not MODEL:VERSION.
    """
    if (parts := version_parts(version)) is None:
        raise typer.BadParameter(f"expected MODEL:VERSION, such as flight-delay:3, got {version!r}")
    return f"/models/{parts[0]}/versions/{parts[1]}"


def version_parts(version: str) -> tuple[str, int] | None:
    """Model and number; None when it is not MODEL:VERSION."""
    model, _, number = version.rpartition(":")
    fits = is_model_name(model) and number.isdecimal() and 1 <= int(number) <= _VERSION_LIMIT
    return (model, int(number)) if fits else None


def _still_needed(version: dict[str, Any]) -> str:
    if version["stage"] != "awaiting_approval":
        return ""
    given = ", ".join(approval["actor"] for approval in version["approvals"])
    return f"; approved by {given}, one more person has to"


def is_model_name(words: str) -> bool:
    return _NAME.fullmatch(words) is not None


def _name(model: str) -> str:
    """A model's name fits into a path as it is; anything else is not a model's name."""
    if not is_model_name(model):
        raise typer.BadParameter(f"expected a model's name, such as flight-delay, got {model!r}")
    return model
