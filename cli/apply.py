"""`modelbus apply`: declare streams and models."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from cli.client import fail, registry, show_table, table
from schemas.declarations import DeclarationsInvalid, parse

Json = dict[str, Any]
_COLOURS = {"created": "green", "changed": "yellow", "unchanged": "dim"}


def apply(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", exists=True, dir_okay=False, readable=True, help="YAML files, applied one after another."
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")] = False,
    reason: Annotated[str, typer.Option(help="Why, for the audit log.")] = "applied",
    actor: Annotated[
        str | None, typer.Option("--as", envvar="MODELBUS_ACTOR", help="Your name in the audit log.")
    ] = None,
) -> None:
    """Declare streams and models, or change them compatibly; applying the same again changes nothing.

    A file holds one or more documents, each a stream or a model. All problems of all files are shown, with their lines.
    """
    texts = {file: _text(file) for file in files}
    _check(texts)
    with registry("operator", actor=actor) as client:
        for file, text in texts.items():
            answer = client.apply(text, source=str(file), reason=reason, dry_run=dry_run)
            show_table(changes(answer["changes"], dry_run=dry_run))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{file}: {error}")


def _check(texts: dict[Path, str]) -> None:
    """All files are read before the first is applied."""
    problems = []
    for file, text in texts.items():
        try:
            parse(text, str(file))
        except DeclarationsInvalid as invalid:
            problems += invalid.problems
    if problems:
        fail("\n".join(str(problem) for problem in problems))


def changes(made: list[Json], *, dry_run: bool) -> Table:
    """One row a stream or model; below it what changes, field by field."""
    shown = table("what", "verdict", "revision", "changes", title="would apply" if dry_run else "applied")
    for change in made:
        colour = _COLOURS[change["verdict"]]
        lines = [f"{field['field']}: {field['old']!r} → {field['new']!r}" for field in change["fields"]]
        lines += [f"topic {topic}" for topic in change["topics"]]
        verdict = f"[{colour}]{change['verdict']}[/]"
        what = escape(f"{change['kind']} {change['name']}")
        shown.add_row(what, verdict, str(change["revision"]), escape("\n".join(lines)))
    return shown
