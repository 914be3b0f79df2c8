"""The Open Inference Protocol on the real stack: requests are events, and scorers answer them by the rollout."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import SecretStr
from tritonclient.http import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from compose.embedded.stack import Stack
from schemas.events.deployer import RolloutSwitched
from schemas.topics import DATA, PREDICTIONS
from services.deployer.domain.arms import is_canary
from services.deployer.gateway import exchange as module
from services.deployer.gateway.events import Event
from services.deployer.gateway.exchange import Exchange
from services.deployer.settings import GatewaySettings
from tests.gateway_world import GRANTED, TOKEN, Gateway, asking, gateway, output
from tests.scoring_world import World, changed, scorers, until

pytestmark = pytest.mark.stack
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
Served = tuple[World, Gateway]


@pytest.fixture(scope="module")
async def served(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """A champion and a canary of a third of the entities, a model without either, a scorer and a gateway."""
    world = await World.made("asked", models=2)
    world.say(changed(1, world.release(1), world.release(2), share=0.3))
    folder = tmp_path_factory.mktemp("asked")
    with scorers(folder), gateway(folder) as running:
        await until(lambda: running.serves("asked-m0"))
        await until(lambda: len(world.said(RolloutSwitched)) >= world.stream.partitions)
        yield world, running


async def infer(running: Gateway, path: str, body: dict[str, Any], **headers: str) -> httpx.Response:
    return await asyncio.to_thread(running.infer, path, body, **headers)


async def test_a_request_is_answered_by_the_arm_that_the_rollout_gives_its_entity(served: Served) -> None:
    world, running = served
    entities = [f"machine-{number}" for number in range(40)]

    answer = await infer(running, "asked-m0", asking(40, entities, id="42"))

    assert answer.status_code == 200, answer.text
    assert (answer.json()["id"], answer.json()["model_name"]) == ("42", "asked-m0")
    assert output(answer, "version") == [2 if is_canary(each, "a-salt", 0.3) else 1 for each in entities]
    committed = {each["id"]: each for each in world.predictions()}
    found = [committed[each] for each in output(answer, "prediction_id")]
    assert [each["score"] for each in found] == output(answer, "score")
    assert [each["label"] for each in found] == output(answer, "label")
    assert [each["entity"] for each in found] == entities
    assert [each["event_id"] for each in found] == output(answer, "event_id")


async def test_a_version_asked_by_name_says_what_it_would_serve_and_leaves_nothing(served: Served) -> None:
    world, running = served
    entity = next(f"m{number}" for number in range(99) if not is_canary(f"m{number}", "a-salt", 0.3))
    published = await infer(running, "asked-m0", asking(5, entity))
    before = len(world.read(DATA.of("asked")))

    champion = await infer(running, "asked-m0/versions/1", asking(5))
    challenger = await infer(running, "asked-m0/versions/2", asking(5))

    assert output(champion, "score") == output(published, "score") != output(challenger, "score")
    assert [each.json()["model_version"] for each in (published, champion, challenger)] == ["1", "1", "2"]
    assert "prediction_id" not in {each["name"] for each in champion.json()["outputs"]}
    assert len(world.read(DATA.of("asked"))) == before


async def test_tritons_client_asks_and_is_told_what_is_wrong(served: Served) -> None:
    _, running = served
    await asyncio.to_thread(ask_as_triton, running.url.removeprefix("http://"))


def ask_as_triton(url: str) -> None:
    client, granted = InferenceServerClient(url), dict(GRANTED)  # it adds headers of its own
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("asked-m0", headers=granted)
    assert client.is_model_ready("asked-m0", "2", headers=granted)
    assert not client.is_model_ready("asked-m1", headers=granted)
    assert "binary_tensor_data" in client.get_server_metadata(headers=granted)["extensions"]
    metadata = client.get_model_metadata("asked-m0", headers=granted)
    assert metadata["versions"] == ["1", "2"]
    assert {each["name"]: each["datatype"] for each in metadata["inputs"]} == {
        "heat": "FP64", "weight": "FP64", "colour": "BYTES"}  # fmt: skip

    heat, colour = InferInput("heat", [2, 1], "FP32"), InferInput("colour", [2], "BYTES")
    heat.set_data_from_numpy(np.array([[1.5], [np.nan]], np.float32))
    colour.set_data_from_numpy(np.array(["red", "green"], object))
    parameters = {"entity": "machine-7"}
    found = client.infer("asked-m0", [heat, colour], request_id="7", parameters=parameters, headers=granted)

    assert found.get_response()["id"] == "7"
    assert found.as_numpy("score").shape == (2,)
    assert found.as_numpy("label").tolist() == (found.as_numpy("score") >= 0.5).tolist()
    assert found.as_numpy("prediction_id")[0].decode().endswith(f"@asked-m0:{found.as_numpy('version')[0]}")
    for model, version, entity, status, said in (
        ("nobody", "", "a", "404", "expected a declared one, got 'nobody'"),
        ("asked-m1", "", "a", "409", "no version serves it yet"),
        ("asked-m0", "9", "a", "404", "expected a live version, 1 or 2, got '9'"),
        ("asked-m0", "", "", "400", "Expected `str` of length >= 1"),
    ):
        with pytest.raises(InferenceServerException) as refused:
            client.infer(model, [heat], model_version=version, parameters={"entity": entity}, headers=granted)
        assert (refused.value.status(), said in refused.value.message()) == (status, True), refused.value
    with pytest.raises(InferenceServerException, match="expected a known token"):
        client.infer("asked-m0", [heat])
    client.close()


async def test_what_the_stream_refuses_is_told_by_row_and_never_published(served: Served) -> None:
    world, running = served
    before = len(world.read(DATA.of("asked")))
    body = asking(2)
    body["inputs"][0] |= {"datatype": "FP64", "data": [1.0, 1e300]}

    answer = await infer(running, "asked-m0", body)

    assert answer.status_code == 400
    assert answer.json()["error"] == "row 1: features.heat: expected a number that float32 can hold, got 1e+300"
    assert len(world.read(DATA.of("asked"))) == before


async def test_requests_with_the_same_event_id_get_each_their_own_answer(served: Served) -> None:
    _, running = served
    values = [-2.0, -1.0, 0.0, 1.0, 2.0]
    tensors = [{"name": "heat", "shape": [1], "datatype": "FP64", "data": [value]} for value in values]
    same = {"entity": "machine-3", "id": "the-same", "time": "2013-01-01T00:00:00Z"}

    answers = await asyncio.gather(
        *(infer(running, "asked-m0", {"parameters": same, "inputs": [tensor]}) for tensor in tensors)
    )

    scores = [output(each, "score")[0] for each in answers]
    version = output(answers[0], "version")[0]
    alone = [await infer(running, f"asked-m0/versions/{version}", {"inputs": [tensor]}) for tensor in tensors]
    assert scores == [output(each, "score")[0] for each in alone]
    assert {output(each, "event_id")[0] for each in answers} == {"the-same"}


async def test_a_callers_trace_goes_on_with_the_event(served: Served) -> None:
    world, running = served

    answer = await infer(running, "asked-m0", asking(1, "traced"), traceparent=TRACE)

    (event_id,) = output(answer, "event_id")
    (record,) = [each for each in world.read(DATA.of("asked")) if json.loads(each.value())["id"] == event_id]
    assert dict(record.headers())["traceparent"].decode()[:35] == TRACE[:35]
    assert (record.key(), json.loads(record.value())["entity"]) == (b"traced", "traced")


async def test_a_model_that_nobody_asks_any_more_is_not_listened_to_until_it_is_asked_again(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, _ = served
    monkeypatch.setattr(module, "_IDLE_SECONDS", -9.0)
    exchange = Exchange(world.kafka, GatewaySettings(caller_token=SecretStr(TOKEN), deadline_seconds=10))
    value = {"id": "e", "entity": "a", "time": "2013-01-01T00:00:00Z", "features": {"heat": 1}}
    event, stopped = Event(id="e", entity="a", value=json.dumps(value).encode()), threading.Event()
    running = asyncio.create_task(asyncio.to_thread(exchange.run, stopped.is_set))

    for _ in range(2):
        assert [each.event_id for each in await exchange.ask("asked", "asked-m0", [event])] == ["e"]
        assert list(exchange._followed) == [PREDICTIONS.of("asked-m0")]
        await until(lambda: exchange._followed == {})

    stopped.set()
    await running


@pytest.mark.parametrize("aimed", [False, True])
async def test_a_fuzzer_finds_no_server_error(served: Served, tmp_path: Path, aimed: bool) -> None:
    world, running = served
    before = len(world.predictions())
    schema = tmp_path / "openapi.json"
    described = await asyncio.to_thread(running.described)
    schema.write_text(json.dumps(aim(described) if aimed else described))
    left_out = "positive_data_acceptance,negative_data_rejection" if aimed else "positive_data_acceptance"
    command = [Path(sys.executable).with_name("st"), "run", schema, "--url", running.url, "--max-examples", "15",
               "--checks", "all", "--exclude-checks", left_out, "--request-timeout", "20",
               "--continue-on-failure", "--seed", "7", "--no-color",
               "--header", f"Authorization: {GRANTED['Authorization']}"]  # fmt: skip

    fuzzed = await asyncio.to_thread(subprocess.run, command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert fuzzed.returncode == 0, fuzzed.stdout[-8000:]
    assert not aimed or len(world.predictions()) > before, "no request was good enough to be answered"


def aim(described: dict[str, Any]) -> dict[str, Any]:
    """The description narrowed to the model that is served, its tensors and their values: most requests are good."""
    for path in described["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = {"enum": {"model": ["asked-m0"], "version": ["1", "2"]}[parameter["name"]]}
    number = {"enum": ["FP32", "FP64", "INT8", "UINT64"]}
    tensors = [
        tensor({"enum": ["heat", "weight"]}, number, {"type": ["number", "null"]}),
        tensor({"const": "colour"}, {"const": "BYTES"}, {"type": "string"}),
    ]
    request = described["components"]["schemas"]["InferenceRequest"]["properties"]
    request["inputs"] |= {"items": {"anyOf": tensors}, "maxItems": 3}
    request["outputs"]["items"] = {"type": "object", "required": ["name"], "properties": {
        "name": {"enum": ["score", "label", "version", "prediction_id"]},
        "parameters": {"type": "object", "properties": {"binary_data": {"type": "boolean"}}}}}  # fmt: skip
    request["parameters"] = {"type": "object", "required": ["entity"], "properties": {
        "entity": {"type": "string", "minLength": 1}, "id": {"type": "string"},
        "time": {"type": "string", "format": "date-time"}}}  # fmt: skip
    described["components"]["schemas"]["InferenceRequest"]["required"] = ["inputs", "parameters"]
    return described


def tensor(name: dict[str, Any], datatype: dict[str, Any], element: dict[str, Any]) -> dict[str, Any]:
    data = {"type": "array", "items": element, "minItems": 1, "maxItems": 1}
    properties = {"name": name, "datatype": datatype, "shape": {"enum": [[1], [1, 1]]}, "data": data}
    return {"type": "object", "required": list(properties), "properties": properties, "additionalProperties": False}
