"""Model cards over HTTP and by command: a real Postgres and a real S3."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import pytest
from typer.testing import CliRunner, Result

from cli.main import app as modelbus
from schemas.events.parts import Card
from services.registry.acts import Acts, Word
from services.registry.api import api
from services.registry.app import MIGRATIONS
from services.registry.cards import Cards
from shared.health import serve
from shared.objects import Objects
from shared.settings import HttpSettings
from tests.conftest import PoolFor
from tests.integration.registry_kit import NOWHERE, STREAM, declare, hear, model, rejected, validated
from tests.integration.test_registry_api import SETTINGS, TOKENS
from tests.integration.test_registry_lineage import objects  # noqa: F401  # a store

PAGE = b"<html><!-- standing --><p>flood</p></html>"
pytestmark = pytest.mark.stack


@pytest.fixture
async def card(objects: Objects) -> Card:  # noqa: F811  # the fixture
    return Card(page=await objects.put(PAGE), data=await objects.put(b'{"model":"flood"}'))


@pytest.fixture
async def pool(pool_for: PoolFor, card: Card) -> asyncpg.Pool:
    """One version awaits approval, one was rejected, of one the judgement broke."""
    pool = await pool_for("registry", [MIGRATIONS])
    await declare(pool, STREAM, model(rollout={"approval": "four_eyes", "expires": "36500d"}))
    await hear(pool, validated("a").model_copy(update={"card": card}))
    await hear(pool, rejected("b").model_copy(update={"card": card}))
    await hear(pool, rejected("c"))
    return pool


@pytest.fixture
async def url(
    pool: asyncpg.Pool,
    objects: Objects,  # noqa: F811  # the fixture
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[str]:
    app = api(SETTINGS)
    app.state.cards = Cards(pool=pool, objects=objects)
    async with serve(app, HttpSettings()) as port:
        monkeypatch.setenv("MODELBUS_REGISTRY_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("MODELBUS_REGISTRY_VIEWER_TOKEN", TOKENS["viewer"])
        yield f"http://127.0.0.1:{port}/models/flood/versions"


async def get(url: str) -> httpx.Response:
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {TOKENS['viewer']}"}) as client:
        return await client.get(url)


async def run(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, modelbus, ["card", *arguments])


async def test_a_card_is_served_with_how_the_version_stands_and_may_run_nothing(url: str, pool: asyncpg.Pool) -> None:
    await Acts(pool=pool, kafka=NOWHERE).approve("flood", 1, Word(actor="approver:ann", reason="<b>fine</b>"))

    answer = await get(f"{url}/1/card")

    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "Version 1, awaiting approval since 20" in answer.text
    assert "approved by approver:ann (&lt;b&gt;fine&lt;/b&gt;)" in answer.text
    assert answer.text.endswith("<p>flood</p></html>")


async def test_a_rejected_version_has_its_card(url: str) -> None:
    answer = await get(f"{url}/2/card")

    assert answer.status_code == 200
    assert "Version 2, rejected" in answer.text


async def test_the_data_of_a_card_is_served_as_it_was_stored(url: str) -> None:
    answer = await get(f"{url}/1/card.json")

    assert (answer.headers["content-type"], answer.json()) == ("application/json", {"model": "flood"})


@pytest.mark.parametrize("version", [3, 4])
async def test_a_version_without_a_card_is_a_404_that_says_why(url: str, version: int) -> None:
    answer = await get(f"{url}/{version}/card")

    assert answer.status_code == 404
    assert answer.json()["detail"] == {
        3: "flood:3 has no card: roc_auc failed",
        4: "version flood:4 is not known",
    }[version]  # fmt: skip


async def test_the_command_writes_the_page_or_the_numbers(url: str, tmp_path: Path) -> None:
    page = await run("flood:1", "--out", str(tmp_path / "card.html"))
    data = await run("flood:1", "--json", "--out", str(tmp_path / "card.json"))

    assert (page.exit_code, data.exit_code) == (0, 0), page.output + data.output
    assert b"Version 1, awaiting approval" in (tmp_path / "card.html").read_bytes()
    assert json.loads((tmp_path / "card.json").read_text()) == {"model": "flood"}
