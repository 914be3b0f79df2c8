"""The `modelbus` command."""

import os
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from cli import stack_env

_ORDERS = ("rollback", "freeze", "unfreeze", "promote", "train", "approve", "refuse", "retire", "comment")
# command → what it runs, as `module:attribute`: a function, or an app of more commands; in the order of the help page
_COMMANDS = {
    **{name: f"{name}:{name}" for name in ("up", "demo", "apply", "status")},
    **{name: f"orders:{name}" for name in _ORDERS},
    **{name: f"{name}:{name}" for name in ("backfill", "why", "card")},
    "as-of": "as_of:as_of",
    **{name: f"{name}:{name}" for name in ("delivery", "value", "reproduce", "replay", "forget")},
    "erasures": "forget:erasures",
    "audit": "audit:app",
    "registry": "record:app",
    "incident": "incident:incident",
    "dead-letters": "dead_letters:app",
    "rollouts": "rollouts:app",
}


class OnDemand(TyperGroup):
    """Commands whose modules are imported when they are asked for: most start without pandas, pyarrow and SciPy."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*_COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _COMMANDS:
            return super().get_command(ctx, cmd_name)
        module, attribute = _COMMANDS[cmd_name].split(":")
        found, holder = getattr(import_module(f"cli.{module}"), attribute), typer.Typer()
        if isinstance(found, typer.Typer):
            holder.add_typer(found, name=cmd_name)
        else:
            holder.command(cmd_name, rich_help_panel="Orders" if module == "orders" else None)(found)
        return get_group(holder).commands[cmd_name]


app = typer.Typer(
    name="modelbus",
    cls=OnDemand,
    help="Keeps machine-learning models good in production, over a message bus.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def find_stack(
    stack: Annotated[
        Path, typer.Option(envvar="MODELBUS_FOLDER", help="Folder of the running stack to talk to.")
    ] = Path(".modelbus"),
) -> None:
    """Commands that talk to a running stack find it by its folder, or by MODELBUS_* settings in the environment."""
    os.environ["MODELBUS_FOLDER"] = str(stack)
    stack_env.load(stack)


if __name__ == "__main__":
    app()
