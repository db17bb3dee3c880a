"""Defects in what is kept: leases, keys, replies, letters."""

from __future__ import annotations

from tests.faults.suite.mutants import Change, Mutant

ATTEMPTS = "workers/store/attempts.py"
AFTERMATH = "workers/store/aftermath.py"
DELIVER = "workers/deliver.py"
TASKS = "workers/tasks/__init__.py"

MUTANTS = [
    Mutant(
        "local-clock",
        "leases go by each worker's own clock",
        (
            Change(
                AFTERMATH,
                "literal_column(f\"(clock_timestamp() + interval '{seconds:.3f} seconds')\", "
                "Instant)",
                "literal_column(f\"'{(datetime.now().astimezone() + plus).isoformat()}'"
                '::timestamptz", Instant)',
            ),
        ),
        caught_by="F18",
        n=120,
    ),
    Mutant(
        "no-renewal",
        "leases aren't renewed while an answer is waited for",
        (
            Change(
                DELIVER,
                "await self.store.outbox.renew(list(self._held.values()), self._lease)",
                "await asyncio.sleep(0)",
            ),
        ),
        caught_by="F15-slow",
        n=24,
    ),
    Mutant(
        "early-acknowledgement",
        "an event is acknowledged before it is committed",
        (
            Change(
                TASKS,
                "self._on_loop(self._see_to(letter, self._ears))",
                "asyncio.run_coroutine_threadsafe(\n"
                "                self._see_to(letter, self._ears), self._loop\n"
                "            )",
            ),
        ),
        caught_by="F1c-redis",
        n=200,
    ),
    Mutant(
        "lost-letters",
        "what can't be taken isn't kept in quarantine",
        (
            Change(
                TASKS,
                "await ears.letters.keep(letter.queue, reason, letter.body, ears.clock())",
                "await asyncio.sleep(0)",
            ),
        ),
        caught_by="F21-redis",
        n=60,
    ),
    Mutant(
        "forgotten-events",
        "it isn't remembered which events were taken",
        (
            Change(
                "workers/events.py",
                '"event_id": event.id,',
                '"event_id": event.id + self.clock().isoformat(),',
            ),
        ),
        caught_by="F3",
        n=40,
    ),
    Mutant(
        "no-reply",
        "what came of an attempt isn't written into it",
        (
            Change(
                ATTEMPTS,
                ".values(ended_at=now, outcome=ended.c.outcome, reply=ended.c.reply)",
                ".values(ended_at=now)",
            ),
        ),
        caught_by="F13",
        n=100,
    ),
]
