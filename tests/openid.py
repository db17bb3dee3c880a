"""A real OpenID Connect provider in a process of its own: oidc-provider-mock, on Authlib."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

START_S = 60


@asynccontextmanager
async def provider(*people: dict[str, Any], host: str = "127.0.0.1") -> AsyncIterator[str]:
    """Its issuer. `people` are claims, of which `sub` is what is typed into its form."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    words = [
        sys.executable,
        "-m",
        "oidc_provider_mock",
        "--port",
        str(port),
        "--require-nonce",
        "true",
    ]
    for person in people:
        words += ["--user-claims", json.dumps(person)]
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    issuer = f"http://{host}:{port}"
    try:
        await _answers(f"{issuer}/.well-known/openid-configuration")
        yield issuer
    finally:
        process.terminate()
        await process.wait()


async def _answers(url: str) -> None:
    async with asyncio.timeout(START_S), aiohttp.ClientSession() as client:
        while True:
            try:
                async with client.get(url) as got:
                    if got.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.1)
