"""A post goes to checked addresses only, and no receiver can hold or fill a worker."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.webhook_receiver import SECRET, Receiver
from workers.endpoints import Endpoint
from workers.webhooks.post import MAX_ANSWER_BYTES, MAX_BODY_BYTES, Answer, Poster

NOW = datetime(2026, 11, 24, 1, 0, tzinfo=UTC)
DOCS = Path(__file__).parents[2] / "docs" / "webhooks.md"


def unchecked(url: str, **more: Any) -> Endpoint:
    """An endpoint as if its settings hadn't been looked at."""
    fine = Endpoint(url="https://erp.example.com/", secret=SECRET, timeout_s=2)
    return fine.model_copy(update={"url": url, **more})


async def posted(endpoint: Endpoint, lookup: Any = None, body: bytes = b"{}") -> Answer:
    """The answer to one post."""
    poster = Poster(endpoint, lookup)
    try:
        return await poster.post("id-1", body, NOW)
    finally:
        await poster.close()


HOSTILE = """
127.0.0.1 127.1 127.0.1 127.255.255.254 0.0.0.0 0 2130706433 0x7f000001 0x7f.1 0177.0.0.1
017700000001
[::1] [::] [::ffff:127.0.0.1] [::ffff:7f00:1] [0:0:0:0:0:ffff:127.0.0.1] [64:ff9b::7f00:1]
localhost LOCALHOST localhost. ip6-localhost user@127.0.0.1 erp.example.com@127.0.0.1
169.254.169.254 [fd00:ec2::254] 10.0.0.1 192.168.0.1 172.16.0.1 100.100.100.200 224.0.0.1
"""


@pytest.mark.parametrize("host", HOSTILE.split())
async def test_no_spelling_of_a_private_address_is_connected_to(host: str) -> None:
    async with Receiver() as receiver:
        answer = await posted(unchecked(f"http://{host}:{receiver.port}/told"))

        assert receiver.got == []
        assert answer.status == 0
        assert answer.words.startswith(("refused: ", "no connection: gaierror", "no whole answer"))


async def test_a_name_that_is_another_address_a_moment_later_gains_nothing() -> None:
    asked: list[str] = []

    async def rebinding(host: str) -> list[str]:
        asked.append(host)
        # Fit once, then where a cloud's credentials are, then this machine beside a fit one.
        return [["127.0.0.1"], ["169.254.169.254"], ["127.0.0.1", "fe80::1"]][(len(asked) - 1) % 3]

    async with Receiver(headers={"Connection": "close"}) as receiver:
        url = f"http://erp.lan:{receiver.port}/told"
        poster = Poster(unchecked(url, private_host="erp.lan"), rebinding)
        answers = [await poster.post(f"id-{n}", b"{}", NOW) for n in range(9)]
        await poster.close()

        assert [one.status for one in answers] == [204, 0, 0] * 3
        assert answers[1].words.startswith("refused: erp.lan leads to 169.254.169.254, which")
        assert len(receiver.got) == 3
        assert asked == ["erp.lan"] * 9, "once for each connection: none is looked up again"
        assert {one.headers["host"] for one in receiver.got} == {f"erp.lan:{receiver.port}"}


async def test_without_its_host_named_a_name_never_leads_into_ones_own_network() -> None:
    async def lookup(host: str) -> list[str]:
        return ["127.0.0.1"]

    async with Receiver() as receiver:
        answer = await posted(unchecked(f"http://erp.example.com:{receiver.port}/"), lookup)

        assert answer.words == (
            "refused: erp.example.com leads to 127.0.0.1, which isn't a public address"
        )
        assert receiver.got == []


async def test_a_name_server_that_does_not_answer_is_waited_for_no_longer_than_the_receiver() -> (
    None
):
    async def lookup(host: str) -> list[str]:
        await asyncio.sleep(60)
        return []

    endpoint = unchecked("https://erp.example.com/", timeout_s=1.0)
    assert await posted(endpoint, lookup) == Answer(0, "no answer within 1 s")


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@asynccontextmanager
async def raw(talk: Talk) -> AsyncIterator[str]:
    """A server that says what it likes; gives its address."""
    talks: set[asyncio.Task[None]] = set()

    async def heard(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks.add(task)
        try:
            await talk(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # the other end has gone, or the test is over
        finally:
            writer.close()

    server = await asyncio.start_server(heard, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.close()
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks)


async def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    written = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            written += 65536

    async with raw(talk) as url:
        answer = await posted(unchecked(url, private_host="127.0.0.1"))

    assert answer == Answer(200, "HTTP 200 OK")
    assert written < 64 * MAX_ANSWER_BYTES * 16, "what the network keeps for itself, no more"


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n"])
async def test_an_answer_that_drips_is_given_up_in_time(first: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while True:
            writer.write(b"X")
            await writer.drain()
            await asyncio.sleep(0.05)

    loop = asyncio.get_running_loop()
    async with raw(talk) as url:
        began = loop.time()
        answer = await posted(unchecked(url, private_host="127.0.0.1", timeout_s=1.0))

        assert loop.time() - began < 2
    assert answer.status in {0} or not first.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"HTTP/1.1 999999 \r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: " + b"b" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort",
        b"HTTP/1.1 500 \xff\xfe\r\nRetry-After: \xff\r\n\r\n",
    ],
)
async def test_what_is_no_answer_is_told_apart_and_breaks_nothing(said: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)

    async with raw(talk) as url:
        answer = await posted(unchecked(url, private_host="127.0.0.1"))

    assert not answer.well


async def test_a_compressed_answer_is_not_unpacked() -> None:
    import gzip

    bomb = gzip.compress(b"0" * 10_000_000)
    async with Receiver(200, {"Content-Encoding": "gzip"}, bomb) as receiver:
        answer = await posted(Endpoint.model_validate(receiver.settings()))

        assert answer.well
        assert receiver.got[0].headers["accept-encoding"] == "identity"


async def test_a_message_that_is_too_large_is_not_posted() -> None:
    async with Receiver() as receiver:
        endpoint = Endpoint.model_validate(receiver.settings())
        answer = await posted(endpoint, body=b"x" * (MAX_BODY_BYTES + 1))

        assert answer.words == "the message is larger than 65536 bytes"
        assert receiver.got == []


async def test_the_receivers_code_in_the_documentation_tells_true_from_forged() -> None:
    async with Receiver() as receiver:
        endpoint = Endpoint.model_validate(receiver.settings())
        poster = Poster(endpoint)
        body = '{"好": 1}'.encode()
        await poster.post("id-1", body, datetime.now(UTC))
        await poster.post("id-1", body, NOW)
        await poster.close()
        fresh, old = receiver.got
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text("utf-8"), re.S)
    names: dict[str, Any] = {}
    exec(compile(code, str(DOCS), "exec"), names)
    verified = names["verified"]

    assert verified(fresh.headers, fresh.body, SECRET)
    assert not verified(old.headers, old.body, SECRET), "too old"
    assert not verified(fresh.headers, fresh.body + b" ", SECRET)
    assert not verified(fresh.headers | {"webhook-id": "id-2"}, fresh.body, SECRET)
    assert not verified(fresh.headers, fresh.body, SECRET.replace("M", "N"))
    later = str(int(fresh.headers["webhook-timestamp"]) + 1)
    assert not verified(fresh.headers | {"webhook-timestamp": later}, fresh.body, SECRET)
    signature = fresh.headers["webhook-signature"]
    rotated = fresh.headers | {"webhook-signature": f"v1,b3RoZXI= {signature}"}
    assert verified(rotated, fresh.body, SECRET)
    v2 = fresh.headers | {"webhook-signature": signature.replace("v1,", "v2,")}
    assert not verified(v2, fresh.body, SECRET)
