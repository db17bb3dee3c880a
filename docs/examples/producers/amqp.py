"""An invitation that was sent, by RabbitMQ, as plain JSON: needs pika, not Dramatiq."""

import json
import os

import pika

QUEUE = "duewatch.events"
event = {
    "specversion": "1.0",
    "id": "amqp-1",
    "source": "crm",
    "type": "duewatch.invitation.opened.v1",
    "time": "2026-11-24T02:00:00Z",
    "data": {
        "ref": "AMQP-1",
        "partner": "P-1001",
        "origin": "ONLINE",
        "sent_at": "2026-11-23T02:00:00Z",
        "customer_name": "Northwind Traders GmbH",
        "customer_mail": "it@northwind.example",
    },
}

with pika.BlockingConnection(pika.URLParameters(os.environ["BROKER_URL"])) as connection:
    channel = connection.channel()
    channel.confirm_delivery()  # without it a message may be lost unnoticed
    channel.basic_publish(
        exchange="",
        routing_key=QUEUE,
        body=json.dumps(event).encode(),
        properties=pika.BasicProperties(
            content_type="application/cloudevents+json", delivery_mode=2
        ),
        mandatory=True,  # raises while the queue isn't there
    )
