"""Bells and letters over Redis or Valkey, 7 or newer: Dramatiq's broker with its traps filled in.

- Its consumers forget what they hold when a connection breaks or a message can't be read, and
  nobody else may take that for as long as the process lives: here it is put back.
- It recovers a dead process's messages by chance, on one command in a thousand: here every few
  seconds.
- It tells dead from living by each client's clock: here by the server's.
- It acknowledges what failed: here that is put back.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import redis
from dramatiq import Message, MessageProxy
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from dramatiq.common import compute_backoff
from dramatiq.errors import ConnectionClosed
from redis.backoff import NoBackoff
from redis.retry import Retry

from workers.tasks.letters import BELLS, EVENTS, Line

HEARTBEAT_MS = 15_000
"""After which a process that was silent counts as dead, and what it held is given to others."""
CLOCK_S = 10.0
"""How long the server's clock is followed by ours before it is asked again."""
RECOVER_S = 5.0
ANSWER_S = 10.0
MAX_BELLS = 100
"""Waiting at once: whoever hears one looks at everything."""

# Like Dramatiq's own fetch, but told apart by the id it lies under, not by what the message says of
# itself, and counted. Ids without a message are dropped.
_FETCH = """
local found = {}
for _ = 1, tonumber(ARGV[1]) do
    local id = redis.call("lpop", KEYS[1])
    if not id then break end
    local data = redis.call("hget", KEYS[2], id)
    if data then
        redis.call("sadd", KEYS[3], id)
        found[#found + 1] = {id, data, redis.call("hincrby", KEYS[4], id, 1)}
    end
end
return found
"""


class Redis(RedisBroker):
    """Dramatiq's broker, by the server's clock."""

    def __init__(self, url: str, line: Line) -> None:
        client = redis.Redis.from_url(
            url,
            socket_timeout=ANSWER_S,
            socket_connect_timeout=ANSWER_S / 2,
            socket_keepalive=True,
            # Who waits for the broker holds something up; consumers try again by themselves.
            retry=Retry(NoBackoff(), 1),
        )
        super().__init__(  # type: ignore[no-untyped-call]
            client=client, middleware=[], heartbeat_timeout=HEARTBEAT_MS
        )
        self.line = line
        self.in_hand: defaultdict[str, set[bytes]] = defaultdict(set)
        self.fetch = client.register_script(_FETCH)
        self._clock: tuple[float, float] | None = None
        self._maintained = threading.local()

    @property
    def consumer_class(self) -> type[_RedisConsumer]:
        """Ours."""
        return _Consumer

    def get_declared_delay_queues(self) -> set[str]:
        """Only events may come with a delay, which isn't waited for."""
        return {name for name in self.delay_queues if name.startswith(EVENTS)}

    def is_full_of_bells(self) -> bool:
        """Whether another bell would tell nobody anything."""
        waiting: Any = self.client.llen(f"{self.namespace}:{BELLS}")
        return int(waiting) >= MAX_BELLS

    def server(self) -> tuple[str, str, str]:
        """(what it is, what is wrong with it, the remedy)."""
        said: Any = self.client.info()
        name = "Valkey" if "valkey_version" in said else "Redis"
        version = str(said.get("valkey_version", said.get("redis_version", "?")))
        policy = str(said.get("maxmemory_policy", "noeviction"))
        if version.partition(".")[0].isdigit() and int(version.partition(".")[0]) < 7:
            return f"{name} {version}", "is older than 7", "use Redis 7 or newer, or Valkey"
        if policy != "noeviction":
            return (
                f"{name} {version}",
                f"may throw messages away (maxmemory-policy {policy})",
                "set maxmemory-policy noeviction",
            )
        return f"{name} {version}", "", ""

    def remove(self, queue: str) -> None:
        """Deletes a queue, and this process's own traces in it."""
        self.flush(queue)
        names = (f"{self.namespace}:{queue}.deliveries", _acks(self, queue))
        self.client.delete(*names)
        self.client.zrem(f"{self.namespace}:__heartbeats__", self.broker_id)

    def _now_ms(self) -> int:
        """The server's clock, in milliseconds since 1970."""
        here = time.monotonic()
        if self._clock is None or here - self._clock[0] > CLOCK_S:
            seconds, micros = self.client.time()
            self._clock = (here, float(seconds) + float(micros) / 1e6)
        return int((self._clock[1] + here - self._clock[0]) * 1000)

    def _should_do_maintenance(self, command: str) -> int:
        if command != "heartbeat":
            return 0
        now = time.monotonic()
        if now - getattr(self._maintained, "at", -RECOVER_S) < RECOVER_S:
            return 0
        self._maintained.at = now
        return 1

    def _dispatch(self, command: str) -> Callable[..., Any]:
        def dispatch(queue_name: str, *args: Any) -> Any:
            said = [
                command,
                self._now_ms(),
                queue_name,
                self.broker_id,
                self.heartbeat_timeout,
                self.dead_message_ttl,
                self._should_do_maintenance(command),
                self._max_unpack_size(),  # type: ignore[no-untyped-call]
                *args,
            ]
            return self.scripts["dispatch"](args=said, keys=[self.namespace])

        return dispatch


class _Consumer(_RedisConsumer):
    """Knows what it holds by its ids, and puts back what nobody works on."""

    broker: Redis

    def __init__(self, broker: Redis, queue_name: str, prefetch: int, timeout: int) -> None:
        super().__init__(broker, queue_name, prefetch, timeout)  # type: ignore[no-untyped-call]
        name = f"{broker.namespace}:{queue_name}"
        self._keys = [name, f"{name}.msgs", _acks(broker, queue_name), f"{name}.deliveries"]
        self._hand = broker.in_hand[queue_name]
        self._fetched: list[tuple[bytes, bytes, int]] = []
        self._recovered = self._beaten = float("-inf")

    def __next__(self) -> MessageProxy | None:
        try:
            found = self._next()
        except Exception as error:
            # All alike: Dramatiq rests for three seconds and makes another consumer.
            self.broker.line.lost(self.queue_name, error)
            raise _closed(error) from None
        self.broker.line.found(self.queue_name)
        return found

    def _next(self) -> MessageProxy | None:
        now = time.monotonic()
        if now - self._beaten > 1.0:
            self.broker.do_heartbeat(self.queue_name)
            self._beaten = now
        if not self._fetched:
            if now - self._recovered > RECOVER_S:
                self._put_back_forgotten()
                self._recovered = now
            room = self.prefetch - len(self._hand)
            self._fetched = self.broker.fetch(keys=self._keys, args=[room]) if room > 0 else []
        if not self._fetched:
            self.misses, rest = compute_backoff(self.misses, max_backoff=self.timeout)
            time.sleep(rest / 1000)
            return None
        self.misses = 0
        number, body, times = self._fetched.pop(0)
        letter = self.broker.line.sort(self.queue_name, body, again=times > 1)
        if letter is None:
            self.broker.line.pause_if_same(body)
            self.broker.do_requeue(self.queue_name, number)
            self.broker.client.hdel(self._keys[3], number)
            return None
        self._hand.add(number)
        options = {"redis_message_id": number}
        return MessageProxy(Message(self.queue_name, letter.actor, (letter,), {}, options))

    def ack(self, message: MessageProxy) -> None:
        """Acknowledges what was done; what failed is put back, whatever the reason."""
        number = message.options["redis_message_id"]
        try:
            if message._exception is not None:
                self.broker.do_requeue(self.queue_name, number)
            else:
                self.broker.do_ack(self.queue_name, number)
                self.broker.client.hdel(self._keys[3], number)
        except redis.RedisError as error:
            raise _closed(error) from None
        self._hand.discard(number)

    nack = ack

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Puts back what wasn't begun."""
        numbers = [message.options["redis_message_id"] for message in messages]
        if not numbers:
            return
        try:
            self.broker.do_requeue(self.queue_name, *numbers)
            self.broker.client.hdel(self._keys[3], *numbers)
        except redis.RedisError as error:
            raise _closed(error) from None
        self._hand.difference_update(numbers)

    def close(self) -> None:
        """Puts back what was fetched and not handed on."""
        self._fetched = []
        try:
            self._put_back_forgotten()
        except redis.RedisError as error:
            raise _closed(error) from None

    def _put_back_forgotten(self) -> None:
        held: Any = self.broker.client.smembers(self._keys[2])
        # One that is acknowledged meanwhile isn't put back: it has left the server's set by then.
        if forgotten := set(held) - self._hand:
            self.broker.do_requeue(self.queue_name, *forgotten)


def _closed(error: Exception) -> ConnectionClosed:
    """What Dramatiq takes for a broker that is away."""
    return ConnectionClosed(error)  # type: ignore[no-untyped-call]


def _acks(broker: Redis, queue: str) -> str:
    return f"{broker.namespace}:__acks__.{broker.broker_id}.{queue}"
