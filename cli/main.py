"""The `modelbus` command."""

from pathlib import Path
from typing import Annotated

import typer

from cli import (
    apply,
    as_of,
    audit,
    backfill,
    card,
    dead_letters,
    delivery,
    demo,
    incident,
    orders,
    record,
    replay,
    reproduce,
    rollouts,
    stack_env,
    status,
    up,
    value,
    why,
)

app = typer.Typer(
    name="modelbus",
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
    stack_env.load(stack)


app.command()(up.up)
app.command()(demo.demo)
app.command()(apply.apply)
app.command()(status.status)
for order in orders.COMMANDS:
    app.command(rich_help_panel="Orders")(order)
app.command()(backfill.backfill)
app.command()(why.why)
app.command()(card.card)
app.command()(as_of.as_of)
app.command()(delivery.delivery)
app.command()(value.value)
app.command()(reproduce.reproduce)
app.command()(replay.replay)
app.add_typer(audit.app, name="audit")
app.add_typer(record.app, name="registry")
app.command()(incident.incident)
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(rollouts.app, name="rollouts")

if __name__ == "__main__":
    app()
