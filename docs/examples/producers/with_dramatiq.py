"""A contact, from a service that uses Dramatiq itself: an actor by name, its code elsewhere."""

import os

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.redis import RedisBroker

url = os.environ["BROKER_URL"]
broker = (
    RedisBroker(url=url)
    if url.startswith("redis")
    else RabbitmqBroker(url=url, confirm_delivery=True)
)
dramatiq.set_broker(broker)

event = {
    "specversion": "1.0",
    "id": "dramatiq-1",
    "source": "crm",
    "type": "duewatch.contact.upserted.v1",
    "time": "2026-11-24T02:00:00Z",
    "data": {
        "ref": "DRAMATIQ-1",
        "partner": "P-1001",
        "role": "finance",
        "name": "Ann Lee",
        "mail": "ann@harbour.example",
        "language": "en",
    },
}
broker.declare_queue("duewatch.events")
broker.enqueue(dramatiq.Message("duewatch.events", "event", (), {"event": event}, {}))
broker.close()
