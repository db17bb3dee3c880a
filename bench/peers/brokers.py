"""A cell's broker: a server of its own, killed, wiped, and searched for what is left in it."""

from __future__ import annotations

import re
from typing import Protocol, cast

import pika
import redis
from pika.exceptions import ChannelClosedByBroker

from bench.peers.cell import KEY_PATTERN
from tests import rabbitmq
from tests import redis as redis_server

QUEUES = (
    *("default", "default.DQ", "default.XQ", "celery"),
    *(f"celery_delayed_{level}" for level in range(28)),
)
"""All that the peers name their queues in RabbitMQ."""
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
SHIPPED = ("--save", "3600 1 300 100 60 10000")


class Broker(Protocol):
    """A server on a port of its own, kept when it is killed and started again."""

    url: str

    def start(self) -> None:
        """Starts it and waits until it answers."""

    def kill(self) -> None:
        """SIGKILL."""

    def wipe(self) -> None:
        """Removes every message that it has."""

    def left(self) -> set[str] | None:
        """The keys found anywhere in it; None where looking would disturb its workers."""

    def left_at_the_end(self) -> set[str]:
        """The keys found anywhere in it, its workers being dead."""

    def remove(self) -> None:
        """Kills it and removes its data."""


class RedisBroker:
    """Redis 7; `shipped` has the snapshots of its own configuration file and no append-only file,
    the other writes every command to disk before it answers."""

    def __init__(self, *, shipped: bool) -> None:
        self._server = redis_server.OwnServer(*(SHIPPED if shipped else DURABLE))
        self.url = self._server.url

    def start(self) -> None:
        """Starts it."""
        self._server.start()

    def kill(self) -> None:
        """Kills it."""
        self._server.kill()

    def wipe(self) -> None:
        """FLUSHALL."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def left(self) -> set[str]:
        """Looks into every value, whatever it is for."""
        found: set[str] = set()
        with redis.Redis.from_url(self.url) as client:
            for name in client.scan_iter(count=1000):
                for value in _values(client, name):
                    found.update(keys_in(value))
        return found

    def left_at_the_end(self) -> set[str]:
        """The same."""
        return self.left()

    def remove(self) -> None:
        """Removes it."""
        self._server.remove()


class RabbitmqBroker:
    """RabbitMQ with durable queues."""

    def __init__(self) -> None:
        self._server = rabbitmq.OwnServer()
        self.url = self._server.url

    def start(self) -> None:
        """Starts it."""
        self._server.start()

    def kill(self) -> None:
        """Kills it."""
        self._server.kill()

    def wipe(self) -> None:
        """Purges every queue; what workers have in hand stays theirs."""
        with pika.BlockingConnection(pika.URLParameters(self.url)) as connection:
            for queue in QUEUES:
                try:
                    connection.channel().queue_purge(queue)
                except ChannelClosedByBroker:
                    continue  # this peer has no such queue

    def left(self) -> None:
        """Reading a queue takes its messages away from the workers."""
        return

    def left_at_the_end(self) -> set[str]:
        """Reads every queue; what the dead workers had in hand is back in it."""
        found: set[str] = set()
        with pika.BlockingConnection(pika.URLParameters(self.url)) as connection:
            for queue in QUEUES:
                channel = connection.channel()
                try:
                    while (got := channel.basic_get(queue))[0] is not None:
                        found.update(keys_in(cast(bytes, got[2])))
                except ChannelClosedByBroker:
                    continue
        return found

    def remove(self) -> None:
        """Removes it."""
        self._server.remove()


def keys_in(value: bytes) -> set[str]:
    """The messages' keys that a value of a broker has in it."""
    return {match.decode() for match in re.findall(KEY_PATTERN, value)}


def _values(client: redis.Redis, name: bytes) -> list[bytes]:
    kind = cast(bytes, client.type(name))
    if kind == b"hash":
        return cast(list[bytes], client.hvals(cast(str, name)))
    if kind == b"list":
        return cast(list[bytes], client.lrange(cast(str, name), 0, -1))
    return []  # ids and scores only
