"""An SMTP server that takes a message 150 ms after its final dot, on disk before it answers.

The recipient's local part is the message's key. The first attempt of a share of the keys is refused
with 451, so that there are always tasks that fail and are tried again.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from pathlib import Path
from typing import BinaryIO

from bench.peers.cell import Cell

TAKES_S = 0.15
READY = "listening"


class Sink:
    """Listens on 127.0.0.1; `log` gets one line for each message that was taken."""

    def __init__(self, log: BinaryIO, seed: int, refused_share: float) -> None:
        self._log, self._seed, self._share = log, seed, refused_share
        self._seen: set[str] = set()

    async def serve(self, port: int) -> None:
        """Serves until it is cancelled."""
        server = await asyncio.start_server(self._session, "127.0.0.1", port)
        print(READY, flush=True)
        async with server:
            await server.serve_forever()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        keys: list[str] = []
        try:
            writer.write(b"220 sink.example ESMTP\r\n")
            while line := await reader.readline():
                text = line.decode("latin-1").strip()
                verb = text.partition(" ")[0].upper()
                if verb == "DATA" and keys:
                    writer.write(b"354 go on\r\n")
                    await reader.readuntil(b"\r\n.\r\n")
                    await asyncio.sleep(TAKES_S)
                    writer.write(self._answer(keys))
                    keys = []
                elif verb == "RCPT":
                    keys.append(text.partition("<")[2].partition("@")[0])
                    writer.write(b"250 2.1.5 ok\r\n")
                elif verb == "QUIT":
                    writer.write(b"221 2.0.0 bye\r\n")
                    return
                else:
                    writer.write(b"250 2.0.0 ok\r\n")
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the sender was killed
        finally:
            writer.close()

    def _answer(self, keys: list[str]) -> bytes:
        wanted = [key for key in keys if self._likes(key)]
        for key in wanted:
            line = json.dumps({"t": time.monotonic(), "key": key})
            self._log.write(line.encode() + b"\n")
        self._log.flush()
        os.fsync(self._log.fileno())
        return b"250 2.0.0 taken\r\n" if wanted else b"451 4.3.0 not now\r\n"

    def _likes(self, key: str) -> bool:
        if key in self._seen:
            return True
        self._seen.add(key)
        return random.Random(f"{self._seed} {key}").random() >= self._share


def main() -> None:
    """Serves the cell that the environment names."""
    cell = Cell.load()
    with Path(cell.arrivals).open("ab") as log:
        asyncio.run(Sink(log, cell.seed, cell.refused_share).serve(cell.smtp_port))


if __name__ == "__main__":
    main()
