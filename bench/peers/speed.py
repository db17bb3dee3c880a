"""What Celery's and Dramatiq's workers do when only speed counts: build the message with
EmailMessage and send it over a kept connection.

    PEER_URL   the broker (Redis)          PEER_SMTP   the port of the sink

Workers run `celery -A bench.peers.speed worker` or `dramatiq bench.peers.speed`; `python -m
bench.peers.speed celery|dramatiq N` puts N messages into the queue.
"""

from __future__ import annotations

import smtplib
import sys
import threading

import dramatiq
from celery import Celery
from dramatiq.brokers.redis import RedisBroker

from bench.peers.speed_mail import PORT, URL, message

_kept = threading.local()

app = Celery("speed", broker=URL)
app.conf.update(
    task_ignore_result=True, broker_connection_retry_on_startup=True, worker_prefetch_multiplier=64
)
dramatiq.set_broker(RedisBroker(url=URL))  # type: ignore[no-untyped-call]


def deliver(number: int) -> None:
    """Builds one message and sends it; the connection is opened once a thread."""
    client = getattr(_kept, "client", None)
    if client is None:
        client = _kept.client = smtplib.SMTP("127.0.0.1", PORT)
    client.send_message(message(number))


celery_task = app.task(deliver, name="deliver")
actor = dramatiq.actor(actor_name="deliver", queue_name="default")(deliver)


def main() -> int:
    """Puts the messages into the queue."""
    put = celery_task.delay if sys.argv[1] == "celery" else actor.send
    for number in range(int(sys.argv[2])):
        put(number)
    return 0


if __name__ == "__main__":
    sys.exit(main())
