"""The peers, each with its defaults and with the most careful settings that it documents."""

from __future__ import annotations

from dataclasses import dataclass

from bench.peers.cell import Broker, Library


@dataclass(frozen=True, slots=True)
class Settings:
    """A peer on a broker; `said` is what was set, for the reader of the table."""

    library: Library
    broker: Broker
    best: bool
    said: str

    @property
    def title(self) -> str:
        """How the table calls it."""
        return "best" if self.best else "defaults"

    @property
    def name(self) -> str:
        """How the command line calls it, such as dramatiq-redis-best."""
        return f"{self.library}-{self.broker}-{self.title}"


SETTINGS = (
    Settings("dramatiq", "redis", False, "none: `RedisBroker(url=…)`"),
    Settings(
        "dramatiq",
        "redis",
        True,
        "`heartbeat_timeout=15_000` (a silent worker counts as dead after 15 s, not 60 s), "
        "`maintenance_chance=100_000` (one command of ten looks for dead workers, not one of a "
        "thousand)",
    ),
    Settings("celery", "redis", False, "none"),
    Settings(
        "celery",
        "redis",
        True,
        "`task_acks_late`, `task_reject_on_worker_lost`, `worker_prefetch_multiplier=1`, "
        "`worker_cancel_long_running_tasks_on_connection_loss`; transport options "
        "`visibility_timeout=15` (not one hour), `unacked_restore_interval=1`, "
        "`unacked_restore_throttle=1`, `unacked_mutex_expire=5`",
    ),
    Settings("dramatiq", "rabbitmq", True, "`confirm_delivery=True`; its durable classic queues"),
    Settings(
        "celery",
        "rabbitmq",
        True,
        "`task_acks_late`, `task_reject_on_worker_lost`, `worker_prefetch_multiplier=1`, "
        "`worker_cancel_long_running_tasks_on_connection_loss`, `confirm_publish`, "
        '`task_default_queue_type="quorum"`, `task_default_exchange_type="topic"` (retries wait in '
        "the broker)",
    ),
)
