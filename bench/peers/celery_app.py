"""Celery: the app with its settings, the tasks, and how messages are put.

Workers run `python -m celery -A bench.peers.celery_app worker`.
"""

from __future__ import annotations

import pika
import redis
from celery import Celery

from bench.peers import sends
from bench.peers.cell import FIRST_RETRY_S, LAST_RETRY_S, MAX_RETRIES
from bench.peers.sends import CELL

QUEUE = "celery"
NO_JSON = b"{ this is not JSON"
BEST = {
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "worker_prefetch_multiplier": 1,
    "worker_cancel_long_running_tasks_on_connection_loss": True,
}
BEST_REDIS = {
    "broker_transport_options": {
        "visibility_timeout": 15,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        "unacked_mutex_expire": 5,
    }
}
BEST_RABBITMQ = {
    "broker_transport_options": {"confirm_publish": True},
    "task_default_queue_type": "quorum",
    "task_default_exchange_type": "topic",
}

app = Celery("peers", broker=CELL.url)
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)
if CELL.best:
    app.conf.update(BEST)
    app.conf.update(BEST_REDIS if CELL.broker == "redis" else BEST_RABBITMQ)

retries = {
    "autoretry_for": (Exception,),
    "max_retries": MAX_RETRIES,
    "retry_backoff": FIRST_RETRY_S,
    "retry_backoff_max": LAST_RETRY_S,
}
send = app.task(sends.send, name="send", **retries)
abort = app.task(sends.abort, name="abort", **retries)


def post(key: str) -> None:
    """Enqueues a message. Raises what Celery raises."""
    send.delay(key)


def post_not_json(key: str) -> None:
    """Puts bytes that aren't JSON where a message's would stand."""
    if CELL.broker == "redis":
        with redis.Redis.from_url(CELL.url) as client:
            client.lpush(QUEUE, NO_JSON)
        return
    kind = pika.BasicProperties(content_type="application/json", content_encoding="utf-8")
    with pika.BlockingConnection(pika.URLParameters(CELL.url)) as connection:
        connection.channel().basic_publish("", QUEUE, NO_JSON, kind)


def post_unknown_task(key: str) -> None:
    """Enqueues a message for a task that no worker has."""
    app.send_task("nobody", args=["poison"])


def post_wrong_arguments(key: str) -> None:
    """Enqueues a message that the task can't be called with; by name, or Celery would notice."""
    app.send_task("send", kwargs={"nonsense": True})


def post_abort(key: str) -> None:
    """Enqueues a message whose task ends its process."""
    abort.delay(key)
