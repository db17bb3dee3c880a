"""Bells and letters over RabbitMQ, 3.10 or newer: Dramatiq's broker with its traps filled in.

- It publishes without confirms unless told, and deletes dead letters after a week: here each
  message is confirmed, and what can't be read goes into the database.
- It acknowledges what failed: here that is put back.
- A queue that was deleted is declared again, whatever this process believes.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

import pika.exceptions
from dramatiq import Message, MessageProxy
from dramatiq.brokers.rabbitmq import RabbitmqBroker, _RabbitmqConsumer, _RabbitmqMessage
from dramatiq.common import dq_name, q_name, xq_name
from dramatiq.errors import ConnectionClosed

from workers.tasks.letters import BELLS, EVENTS, Line

ANSWER_S = 10.0
BELL_MS = 60_000
"""An older bell is dropped, by the broker's clock: polling has looked since."""
MAX_BELLS = 100


class Rabbitmq(RabbitmqBroker):
    """Dramatiq's broker, with confirms."""

    def __init__(self, url: str, line: Line) -> None:
        super().__init__(url=url, middleware=[], confirm_delivery=True)
        self.line = line
        several: Any = self.parameters
        for one in several if isinstance(several, list) else [several]:
            # Who waits for the broker holds something up; consumers try again by themselves.
            one.connection_attempts = 1
            one.socket_timeout = one.stack_timeout = one.blocked_connection_timeout = ANSWER_S

    @property
    def consumer_class(self) -> type[_RabbitmqConsumer]:
        """Ours."""
        return _Consumer

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> _RabbitmqConsumer:
        """A consumer; its queue is declared each time. Raises ConnectionClosed."""
        self.queues_pending.add(q_name(queue_name))
        try:
            found = super().consume(queue_name, prefetch, timeout)
        except Exception as error:
            self.line.lost(queue_name, error)
            raise _closed(error) from None
        # The connection that declared would stay idle until the server closes it.
        del self.connection
        assert isinstance(found, _RabbitmqConsumer)
        return found

    def get_declared_delay_queues(self) -> set[str]:
        """Only events may come with a delay, which isn't waited for."""
        return {name for name in self.delay_queues if name.startswith(EVENTS)}

    def is_full_of_bells(self) -> bool:
        """No: the server drops the oldest by itself."""
        return False

    def server(self) -> tuple[str, str, str]:
        """(what it is, what is wrong with it, the remedy)."""
        said = getattr(self.connection, "_impl", None)
        properties: dict[str, Any] = getattr(said, "server_properties", None) or {}
        version = _text(properties.get("version", "?"))
        name = f"{_text(properties.get('product', 'AMQP'))} {version}"
        numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
        if len(numbers) == 2 and numbers < (3, 10):
            return name, "is older than 3.10", "use RabbitMQ 3.10 or newer"
        return name, "", ""

    def remove(self, queue: str) -> None:
        """Deletes a queue and those that Dramatiq declares beside it."""
        for name in (queue, dq_name(queue), xq_name(queue)):
            self.channel.queue_delete(name)

    def _build_queue_arguments(self, queue_name: str) -> dict[str, Any]:
        # Producers declare the other queues too, with Dramatiq's own arguments: they must agree.
        if queue_name != BELLS:
            return super()._build_queue_arguments(queue_name)  # type: ignore[no-any-return, no-untyped-call]
        return {"x-message-ttl": BELL_MS, "x-max-length": MAX_BELLS}


class _Consumer(_RabbitmqConsumer):
    """Reads each message in a known form, or leaves it at the queue's end."""

    broker: Rabbitmq

    def __init__(self, broker: Rabbitmq, queue_name: str, prefetch: int, timeout: int) -> None:
        super().__init__(broker, queue_name, prefetch, timeout)  # type: ignore[no-untyped-call]
        try:
            self.channel.confirm_delivery()
        except pika.exceptions.AMQPError as error:
            raise _closed(error) from None

    def __next__(self) -> MessageProxy | None:
        try:
            found = self._next()
        except Exception as error:
            # All alike: Dramatiq rests for three seconds and makes another consumer. StopIteration
            # is a queue that was deleted.
            self.broker.line.lost(self.queue_name, error)
            raise _closed(error) from None
        self.broker.line.found(self.queue_name)
        return found

    def _next(self) -> MessageProxy | None:
        method, properties, body = next(self.iterator)
        if method is None:
            return None
        tag: int = method.delivery_tag
        letter = self.broker.line.sort(self.queue_name, body, again=bool(method.redelivered))
        if letter is None:
            self.broker.line.pause_if_same(body)
            self.channel.basic_publish("", self.queue_name, body, properties, mandatory=True)
            self.channel.basic_ack(tag)
            return None
        self.known_tags.add(tag)
        message: Message[Any] = Message(self.queue_name, letter.actor, (letter,), {}, {})
        return _RabbitmqMessage(method.redelivered, tag, message)  # type: ignore[no-untyped-call]

    def ack(self, message: MessageProxy) -> None:
        """Acknowledges what was done; what failed is put back, whatever the reason."""
        if message._exception is None:
            super().ack(message)  # type: ignore[no-untyped-call]
            return
        tag = message._tag
        if tag in self.known_tags:
            self.known_tags.discard(tag)
            # A connection that is gone has given it back already.
            with suppress(pika.exceptions.AMQPError):
                self.connection.add_callback_threadsafe(
                    partial(self.channel.basic_nack, tag, requeue=True)
                )

    nack = ack


def _closed(error: Exception) -> ConnectionClosed:
    """What Dramatiq takes for a broker that is away."""
    return ConnectionClosed(error)  # type: ignore[no-untyped-call]


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
