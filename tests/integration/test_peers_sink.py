"""The peers' SMTP server: what it takes is on disk by the time the sender knows."""

from __future__ import annotations

import asyncio
import json
import smtplib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from bench.peers.cell import key
from bench.peers.sink import Sink
from tests.redis import free_port


@asynccontextmanager
async def listening(log: Path, refused_share: float) -> AsyncIterator[int]:
    port = free_port()
    with log.open("ab") as out:
        serving = asyncio.create_task(Sink(out, seed=7, refused_share=refused_share).serve(port))
        for _ in range(500):
            if await answers(port):
                break
            await asyncio.sleep(0.02)
        yield port
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


async def answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def send(port: int, name: str) -> None:
    with smtplib.SMTP("127.0.0.1", port, "test.example", timeout=10) as server:
        server.sendmail("a@t.example", f"{name}@t.example", "Subject: due\r\n\r\n..dots\r\n")


def taken(log: Path) -> list[str]:
    return [json.loads(line)["key"] for line in log.read_text().splitlines()]


async def test_a_taken_message_is_on_disk_under_its_key_once_a_copy(tmp_path: Path) -> None:
    log = tmp_path / "sink.jsonl"
    async with listening(log, refused_share=0.0) as port:
        for number in (1, 2, 1):
            await asyncio.to_thread(send, port, key(number))
        found = taken(log)

    assert found == [key(1), key(2), key(1)]


async def test_a_refused_first_attempt_leaves_no_line_and_the_second_does(tmp_path: Path) -> None:
    log = tmp_path / "sink.jsonl"
    async with listening(log, refused_share=1.0) as port:
        with pytest.raises(smtplib.SMTPDataError) as refused:
            await asyncio.to_thread(send, port, key(1))
        before = taken(log)
        await asyncio.to_thread(send, port, key(1))

    assert refused.value.smtp_code == 451
    assert (before, taken(log)) == ([], [key(1)])
