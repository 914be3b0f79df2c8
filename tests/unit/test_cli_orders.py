"""How a version is named on the command line."""

import pytest
import typer

from cli.orders import version_path


@pytest.mark.parametrize(
    "odd", ["fraud", "fraud:", ":1", "fraud:x", "fraud:0", "fraud:-1", "fraud:99999999999", "a b:1"]
)
def test_what_names_no_version_is_refused_with_an_example(odd: str) -> None:
    with pytest.raises(typer.BadParameter, match="such as flight-delay"):
        version_path(odd)
