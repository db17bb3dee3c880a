"""A one-off message, by Redis, as it lies there: what Dramatiq's own clients write. Needs redis."""

import json
import os
import uuid

import redis

QUEUE = "dramatiq:duewatch.events"
event = {
    "specversion": "1.0",
    "id": "redis-1",
    "source": "ops",
    "type": "duewatch.notification.requested.v1",
    "time": "2026-11-24T02:00:00Z",
    "data": {
        "ref": "REDIS-1",
        "partner": "P-1001",
        "role": "finance",
        "values": {"title": "Maintenance on Saturday", "text": "From 00:00 to 04:00."},
        "requested_at": "2026-11-24T02:00:00Z",
    },
}

with redis.Redis.from_url(os.environ["BROKER_URL"]) as server:
    number = str(uuid.uuid4())
    with server.pipeline(transaction=True) as both:
        both.hset(f"{QUEUE}.msgs", number, json.dumps(event))
        both.rpush(QUEUE, number)
        both.execute()
