"""One cell of the table: a peer with its settings under one fault, as its processes are told it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Self

VARIABLE = "PEERS_CELL"
"""Names the file in which a process of a cell finds what it is part of."""

Library = Literal["dramatiq", "celery"]
Broker = Literal["redis", "rabbitmq"]
MAX_RETRIES = 20
FIRST_RETRY_S, LAST_RETRY_S = 1, 5
"""The same back-off for all, so that a refused message is tried again within the waiting time."""
KEY_PATTERN = rb"n\d{7}"
"""What a message's key looks like, wherever a broker keeps it."""


def key(number: int) -> str:
    """The key of the good message with that number, from 0."""
    return f"n{number:07d}"


@dataclass(frozen=True, slots=True)
class Cell:
    """What all processes of a cell know.

    `best` chooses the peer's most careful settings over its defaults; `poison` is how many messages
    of each kind of poison are mixed in; times in seconds.
    """

    library: Library
    broker: Broker
    best: bool
    url: str
    smtp_port: int
    home: str
    seed: int
    number: int
    poison: int = 0
    refused_share: float = 0.3
    """Of the messages, those whose first attempt the SMTP server refuses with 451."""
    spread_s: float = 20.0
    """Half of the messages are enqueued at once, the others over this time."""

    @property
    def accounts(self) -> Path:
        """What the producer was told of each message: one JSON line each."""
        return Path(self.home, "producer.jsonl")

    @property
    def arrivals(self) -> Path:
        """What the SMTP server took: one JSON line each, on disk before the server answered."""
        return Path(self.home, "sink.jsonl")

    @property
    def aborts(self) -> Path:
        """A line for each start of a task that ends its process."""
        return Path(self.home, "aborts.log")

    def environ(self) -> dict[str, str]:
        """The environment of a process of this cell; writes the file it reads."""
        path = Path(self.home, "cell.json")
        path.write_text(json.dumps(asdict(self)))
        return {**os.environ, VARIABLE: str(path)}

    @classmethod
    def load(cls) -> Self:
        """The cell that this process is part of. Raises KeyError outside of any."""
        said = json.loads(Path(os.environ[VARIABLE]).read_text())
        return cls(**said)
