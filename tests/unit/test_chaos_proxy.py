"""The proxy of chaos does to real connections what its weather says, and meets the request that it waits for."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from tests.chaos.proxy import BOTH, KafkaRequests, Proxy, Trap, Weather, delta_commits
from tests.scoring_world import until

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]
END_TXN, FETCH = 26, 1


@pytest.fixture
async def heard() -> list[bytes]:
    """What comes through to the server."""
    return []


@pytest.fixture
async def proxy(heard: list[bytes]) -> AsyncIterator[Proxy]:
    """Before a server that answers everything with itself."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1000):
                heard.append(data)
                writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    proxy = Proxy(spotter=KafkaRequests, target=server.sockets[0].getsockname()[1])
    await proxy.start()
    yield proxy
    proxy.stop()
    server.close()


async def test_in_fair_weather_bytes_go_through(proxy: Proxy) -> None:
    reader, writer = await _connected(proxy)

    assert await _asked(reader, writer, b"hello") == b"hello"
    assert proxy.touched == 0
    writer.close()


async def test_a_cut_line_ends_its_connections_and_takes_no_new_ones(proxy: Proxy) -> None:
    reader, writer = await _connected(proxy)

    with proxy.under(Weather(refuses=True)):
        assert await _ended(reader)
        fresh, second = await _connected(proxy)
        assert await _ended(fresh)
    assert proxy.touched == 2
    again, third = await _connected(proxy)
    assert await _asked(again, third, b"hello") == b"hello"
    for each in (writer, second, third):
        each.close()


async def test_what_is_held_arrives_afterwards(proxy: Proxy) -> None:
    reader, writer = await _connected(proxy)

    with proxy.under(Weather(holds=BOTH)):
        writer.write(b"hello")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(100), 0.2)
    assert await reader.read(100) == b"hello"
    assert proxy.touched == 1
    writer.close()


async def test_where_answers_are_lost_the_server_hears_and_the_client_does_not(
    proxy: Proxy, heard: list[bytes]
) -> None:
    reader, writer = await _connected(proxy)

    with proxy.under(Weather(loses=frozenset({"answers"}))):
        writer.write(b"hello")
        await until(lambda: heard == [b"hello"], 5, every=0.01)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(100), 0.2)
    assert await _ended(reader)
    assert proxy.touched == 2  # the answer, and its connection
    writer.close()


async def test_of_two_weathers_the_one_that_stays_is_what_it_is_like(proxy: Proxy) -> None:
    with proxy.under(Weather(refuses=True)):
        with proxy.under(Weather(delay_seconds=0.1)):
            pass
        assert proxy.touched == 0
        reader, writer = await _connected(proxy)
        assert await _ended(reader)
    writer.close()


@pytest.mark.parametrize("loses", ["asks", "answers"])
async def test_a_trap_loses_the_request_it_waits_for_or_its_answer(
    proxy: Proxy, heard: list[bytes], loses: str
) -> None:
    reader, writer = await _connected(proxy)
    begun = _request(FETCH)[:9]
    assert await _asked(reader, writer, begun) == begun
    proxy.trap = trap = Trap(spots="EndTxn", loses="asks" if loses == "asks" else "answers", seconds=0.2)

    rest = _request(FETCH)[9:] + _request(FETCH)
    assert await _asked(reader, writer, rest) == rest
    assert not trap.sprung
    writer.write(_request(END_TXN))

    assert await _ended(reader)
    assert trap.sprung
    assert heard == [begun, rest, *([_request(END_TXN)] if loses == "answers" else [])]
    writer.close()


def test_requests_are_spotted_wherever_the_bytes_are_cut() -> None:
    stream = _request(FETCH) + _request(END_TXN) + _request(FETCH)

    for size in range(1, len(stream)):
        spot = KafkaRequests()
        found = [name for at in range(0, len(stream), size) for name in spot(stream[at : at + size])]
        assert found.count("EndTxn") == 1


def test_the_request_that_makes_a_version_of_a_table_is_spotted() -> None:
    assert delta_commits(b"PUT /modelbus/tables/data/s/_delta_log/00000000000000000007.json HTTP/1.1\r\n")
    assert not delta_commits(b"GET /modelbus/tables/data/s/_delta_log/00000000000000000007.json HTTP/1.1\r\n")
    assert not delta_commits(b"PUT /modelbus/tables/data/s/part-0.parquet HTTP/1.1\r\n")


async def _connected(proxy: Proxy) -> Pair:
    return await asyncio.open_connection("127.0.0.1", proxy.port)


async def _asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bytes:
    writer.write(data)
    return await asyncio.wait_for(reader.read(1000), 5)


async def _ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(1000), 5) == b""
    except ConnectionError:
        return True


def _request(kind: int) -> bytes:
    return struct.pack(">ihh", 7, kind, 4) + b"abc"
