"""Webhooks in real processes: a worker tells what it sent; ops people look, test, retry, enable."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.shell import COMMAND, Shell, load
from tests.fakes.webhook_receiver import SECRET, Receiver
from workers.endpoints import key_of

pytestmark = pytest.mark.acceptance

SETTINGS = """
[webhooks.erp]
url = "{url}"
secret = "{secret}"
private_host = "127.0.0.1"
kinds = ["invitation"]
"""


class House(Shell):
    """A folder with one endpoint in its settings."""

    def settle(self, receiver: Receiver) -> None:
        """Writes the settings."""
        text = SETTINGS.format(url=receiver.url, secret=SECRET)
        self.write("duewatch.toml", f"[web]\nport = 0\n{text}")

    async def do(self, *words: str) -> Any:
        """Runs a command while the receiver goes on."""
        return await asyncio.to_thread(self, *words)

    async def works_until(self, receiver: Receiver, count: int) -> int:
        """Runs the whole product until the receiver got so many; returns its exit code."""
        process = await asyncio.create_subprocess_exec(
            *COMMAND, "run", cwd=self.folder, env=self._environ({}), stdout=DEVNULL, stderr=DEVNULL
        )
        try:
            await receiver.reached(count)
            await asyncio.sleep(0.5)
        finally:
            process.terminate()
            code = await asyncio.wait_for(process.wait(), 40)
        return code


async def test_a_worker_tells_and_a_person_looks_tests_retries_and_enables(tmp_path: Path) -> None:
    async with Receiver(410) as receiver:
        house = House(tmp_path)
        house.settle(receiver)
        listed = (await house.do("webhooks", "list", "--json")).json
        assert [(one["name"], one["state"]) for one in listed] == [("erp", "unknown")]
        assert "no worker knows it yet" in (await house.do("doctor")).out

        # The endpoint is known from the first start; what is sent afterwards is told.
        await house.do("migrate")
        await asyncio.to_thread(load, house)
        assert await house.works_until(receiver, 1) == 0
        (one,) = (await house.do("webhooks", "list", "--json")).json
        assert (one["state"], one["answer"]) == ("disabled", "HTTP 410 Gone")
        failed = (await house.do("webhooks", "failed", "--json")).json
        assert {row["word"] for row in failed} == {"accepted"}
        doctor = await house.do("doctor")
        assert doctor.code == 1
        assert "duewatch webhooks enable erp" in doctor.out
        assert SECRET not in doctor.out + (await house.do("settings")).out

        tried = await house.do("webhooks", "test", "erp")
        assert (tried.code, tried.err.strip()) == (1, "erp: HTTP 410 Gone")
        receiver.status = 204
        tried = await house.do("webhooks", "test", "erp")
        assert (tried.code, tried.out.strip()) == (0, "erp: HTTP 204 No Content")
        assert receiver.got[-1].event["type"] == "duewatch.webhook.test.v1"
        ids = [str(row["id"]) for row in failed]
        again = await house.do("webhooks", "retry", *ids)
        assert again.out.strip() == f"{len(ids)} to be told again."
        assert (await house.do("webhooks", "retry", *ids)).code == 1
        assert (await house.do("webhooks", "enable", "erp")).out.startswith("erp is enabled; ")
        assert (await house.do("webhooks", "enable", "erp")).code == 2

        before = len(receiver.got)
        assert await house.works_until(receiver, before + 2) == 0
        told = {got.uid for got in receiver.got[before:]}
        assert len(told) == 2, "the mail to the customer and the one to the inviter"
        (one,) = (await house.do("webhooks", "list", "--json")).json
        assert (one["state"], one["waiting"], one["failed"]) == ("well", 0, 0)
        for words in (("list",), ("failed",)):
            assert (await house.do("webhooks", *words)).code == 0


def test_a_wrong_call_says_what_to_do(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    wrong = shell("webhooks", "test", "erp")
    assert (wrong.code, wrong.err) == (
        2,
        "duewatch: there is no [webhooks.erp] in the settings; there are none\n",
    )
    assert shell("webhooks", "retry").code == 2
    assert shell("webhooks", "retry", "1", "--all", "erp").code == 2


def test_a_secret_is_made_that_the_settings_take(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    made = shell("webhooks", "secret").out.strip()
    assert len(key_of(made)) == 32
    shell.write("duewatch.toml", '[webhooks.erp]\nurl = "https://erp.example.com/"\n')
    assert shell("webhooks", "list", DUEWATCH_WEBHOOKS__ERP__SECRET=made).code == 0
    refused = shell("webhooks", "list", DUEWATCH_WEBHOOKS__ERP__SECRET="whsec_short")
    assert refused.code == 2
    assert "webhooks.erp.secret" in refused.err
    assert "whsec_short" not in refused.err
