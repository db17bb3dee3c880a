"""Plain Dramatiq: the broker with its settings, the actors, and how messages are put.

Workers run `python -m dramatiq bench.peers.dramatiq_app`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

import dramatiq
import pika
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.redis import RedisBroker

from bench.peers import sends
from bench.peers.cell import FIRST_RETRY_S, LAST_RETRY_S, MAX_RETRIES
from bench.peers.sends import CELL

QUEUE = "default"
NO_JSON = b"{ this is not JSON"
BEST_REDIS = {"heartbeat_timeout": 15_000, "maintenance_chance": 100_000}
"""A silent worker counts as dead after 15 s, not 60 s; one command of ten, not of a thousand,
looks for dead ones."""


def _broker() -> dramatiq.Broker:
    if CELL.broker == "redis":
        options = BEST_REDIS if CELL.best else {}
        return RedisBroker(url=CELL.url, **options)  # type: ignore[no-untyped-call]
    return RabbitmqBroker(url=CELL.url, confirm_delivery=CELL.best)


broker = _broker()
dramatiq.set_broker(broker)


def _actor(name: str, act: Callable[[str], None]) -> dramatiq.Actor[[str], None]:
    made = dramatiq.actor(
        actor_name=name,
        queue_name=QUEUE,
        max_retries=MAX_RETRIES,
        min_backoff=FIRST_RETRY_S * 1000,
        max_backoff=LAST_RETRY_S * 1000,
    )
    return made(act)


send, abort = _actor("send", sends.send), _actor("abort", sends.abort)


def post(key: str) -> None:
    """Enqueues a message. Raises what Dramatiq raises."""
    send.send(key)


def post_not_json(key: str) -> None:
    """Puts bytes that aren't JSON where a message's would stand."""
    if isinstance(broker, RedisBroker):
        broker.do_enqueue(QUEUE, str(uuid.uuid4()), NO_JSON)
        return
    with pika.BlockingConnection(pika.URLParameters(CELL.url)) as connection:
        connection.channel().basic_publish("", QUEUE, NO_JSON)


def post_unknown_task(key: str) -> None:
    """Enqueues a message for an actor that no worker has."""
    broker.enqueue(
        dramatiq.Message(
            queue_name=QUEUE, actor_name="nobody", args=("poison",), kwargs={}, options={}
        )
    )


def post_wrong_arguments(key: str) -> None:
    """Enqueues a message that the actor can't be called with."""
    broker.enqueue(send.message_with_options(args=(), kwargs={"nonsense": True}))


def post_abort(key: str) -> None:
    """Enqueues a message whose actor ends its process."""
    abort.send(key)
