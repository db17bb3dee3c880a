"""A wish for a scan under seal, by RabbitMQ: where `events.require_signature` is set."""

import base64
import hashlib
import hmac
import json
import os
from datetime import UTC, datetime

import pika

event = {
    "specversion": "1.0",
    "id": "sealed-1",
    "source": "billing",
    "type": "duewatch.scan.requested.v1",
    "data": {"kind": "payment"},
}
body = json.dumps(event)
time = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
signed = hmac.new(
    os.environ["PRODUCER_SECRET"].encode(), f"{event['id']}.{time}.{body}".encode(), hashlib.sha256
)
message = {
    "sealed": "v1",
    "producer": "billing",
    "key": "2026a",
    "id": event["id"],
    "time": time,
    "body": body,
    "signature": base64.b64encode(signed.digest()).decode(),
}

with pika.BlockingConnection(pika.URLParameters(os.environ["BROKER_URL"])) as connection:
    channel = connection.channel()
    channel.confirm_delivery()
    properties = pika.BasicProperties(content_type="application/json", delivery_mode=2)
    channel.basic_publish("", "duewatch.events", json.dumps(message).encode(), properties)
