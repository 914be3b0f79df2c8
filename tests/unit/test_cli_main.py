"""The command finds all its commands, and starts without what only a few of them need."""

import subprocess
import sys
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from cli.main import app

HEAVY = {"pandas", "pyarrow", "scipy", "onnxruntime", "deltalake", "sklearn"}


def names() -> list[str]:
    group: Any = get_command(app)
    return list(group.list_commands(None))


@pytest.mark.parametrize("name", names())
def test_each_command_tells_what_it_does(name: str) -> None:
    found = CliRunner().invoke(app, [name, "--help"])

    assert (found.exit_code, f"Usage: modelbus {name}" in found.output) == (0, True), found.output


def test_the_help_page_names_each_command() -> None:
    page = CliRunner().invoke(app, ["--help"]).output

    assert [name for name in names() if f" {name} " not in page] == []


def test_asking_for_the_status_imports_nothing_heavy() -> None:
    program = (
        "import sys; from typer.testing import CliRunner; from cli.main import app;"
        "CliRunner().invoke(app, ['status', '--help']); print(*sys.modules)"
    )

    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    assert HEAVY & set(said.split()) == set()
