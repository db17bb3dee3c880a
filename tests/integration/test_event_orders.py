"""Producers' events in any order, any number of times, with scans in between: one end state, and
each stage told as often as a plain model says, which is at most once.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import func, select

from tests.product import NOW, contact, opened, partner
from workers.app import App
from workers.store.tables import events, notifications, occurrences

REFS = ("R1", "R2")
STATUSES = {
    "payment": ("付款申请审核通过", "已取消", "付款成功"),
    "statement": ("PENDING", "CONFIRMED"),
}
CLOSED = {"已取消", "付款成功", "CONFIRMED"}
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Said:
    """One event as a producer sends it."""

    kind: str
    ref: str
    version: int
    status: str
    number: str

    @property
    def event(self) -> dict[str, Any]:
        """As JSON."""
        data: dict[str, Any] = {"ref": self.ref, "partner": "P1", "version": self.version}
        data["amount_incl_tax"] = f"{100 + self.version}.00"
        if self.kind == "payment":
            data |= {
                "programme": "FH",
                "status": self.status,
                "approved_at": (NOW - DAY).isoformat(),
                "buyer_title": "Example Cloud",
                "buyer_tax_no": "91520900MA6J6CBN9Q",
                "lines": [
                    {
                        "line": 1,
                        "item_name": "Consulting",
                        "tax_rate": "6%",
                        "amount_incl_tax": f"{100 + self.version}.00",
                    }
                ],
            }
        else:
            data |= {
                "statement_kind": "INCENTIVE",
                "generated_at": (NOW - 5 * DAY).isoformat(),
                "confirm_by": "2026-11-26",
                "status": self.status,
            }
        return {
            "specversion": "1.0",
            "id": self.number,
            "source": "billing",
            "type": f"duewatch.{self.kind}.updated.v1",
            "data": data,
        }


@dataclass(slots=True)
class Model:
    """What must come of the events: of each record the newest version that was taken counts."""

    taken: dict[str, Said] = field(default_factory=dict)
    newest: dict[tuple[str, str], Said] = field(default_factory=dict)

    def take(self, said: Said) -> str:
        """What the answer must be."""
        if before := self.taken.get(said.number):
            return "repeat" if before == said else "conflict"
        self.taken[said.number] = said
        key = (said.kind, said.ref)
        last = self.newest.get(key)
        if last is None or said.version > last.version:
            self.newest[key] = said
        return "taken"


class Orders(RuleBasedStateMachine):
    """Events, scans and deliveries in an order of chance, beside the model."""

    said = Bundle("said")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        self.folder = tempfile.TemporaryDirectory()
        self.now = NOW
        self.model = Model()
        self.told_when_closed: dict[tuple[str, str], int] = {}
        self.app = self._do(self._open())

    def _do(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    async def _open(self) -> App:
        url = f"sqlite:///{Path(self.folder.name) / 'd.db'}"
        return await self.stack.enter_async_context(opened(url, lambda: self.now))

    def teardown(self) -> None:
        """Closes the product; the ledger must add up."""
        try:
            self._do(self.app.delivery.drain())
            self._do(self.stack.aclose())
        finally:
            self.loop.close()
            self.folder.cleanup()

    @initialize()
    def people(self) -> None:
        """Somebody to tell."""
        self._do(self.app.intake.take([partner(), contact()]))

    @rule(
        target=said,
        kind=st.sampled_from(sorted(STATUSES)),
        ref=st.sampled_from(REFS),
        version=st.integers(1, 4),
        data=st.data(),
    )
    def a_new_event(self, kind: str, ref: str, version: int, data: st.DataObject) -> Said:
        """Whatever came before, of the same or an earlier version."""
        status = data.draw(st.sampled_from(STATUSES[kind]))
        # The same version is the same content: a producer doesn't count otherwise.
        for known in self.model.taken.values():
            if (known.kind, known.ref, known.version) == (kind, ref, version):
                status = known.status
        said = Said(kind, ref, version, status, f"e{len(self.model.taken) + 1}")
        self._send(said)
        return said

    @rule(said=said)
    def the_same_again(self, said: Said) -> None:
        """A producer that had no answer sends it again."""
        self._send(said)

    @rule(said=consumes(said))
    def the_same_id_with_other_content(self, said: Said) -> None:
        """Which is a mistake of the producer's."""
        other = Said(said.kind, said.ref, said.version + 10, said.status, said.number)
        self._send(other)

    @rule(said=st.lists(said, min_size=1, max_size=4))
    def a_batch_of_known_ones(self, said: list[Said]) -> None:
        """In one request."""
        results = self._do(self.app.events.take([one.event for one in said]))
        assert [one.status for one in results] == ["repeat"] * len(said)

    @rule(hours=st.integers(1, 60))
    def time_passes(self, hours: int) -> None:
        """And the scans run."""
        self.now += timedelta(hours=hours)
        for kind in STATUSES:
            self._do(self.app.scan.run(kind))

    @rule()
    def messages_go_out(self) -> None:
        """All that are due."""
        self._do(self.app.delivery.drain())

    def _send(self, said: Said) -> None:
        text = json.loads(json.dumps(said.event))
        (result,) = self._do(self.app.events.take([text]))
        assert result.status == self.model.take(said), (said, result)

    @invariant()
    def each_record_is_as_its_newest_version_says(self) -> None:
        """Whatever the order was."""
        for (kind, ref), newest in self.model.newest.items():
            (row,) = self._do(self.app.store.records.find(ref, kind))
            assert row.version == newest.version
            assert (row.state == "closed") == (newest.status in CLOSED), (newest, row.state)

    @invariant()
    def each_event_is_stored_once(self) -> None:
        """And nothing of one that was refused."""

        async def count() -> int:
            async with self.app.store.database.read() as connection:
                return int((await connection.execute(select(func.count(events.c.id)))).scalar_one())

        assert self._do(count()) == len(self.model.taken)

    @invariant()
    def no_stage_is_told_twice_and_none_of_a_closed_record_is_begun(self) -> None:
        """By the order in which things were committed."""

        async def told() -> list[Any]:
            async with self.app.store.database.read() as connection:
                rows = await connection.execute(
                    select(
                        occurrences.c.record_id,
                        occurrences.c.ladder,
                        occurrences.c.stage,
                        notifications.c.state,
                    )
                    .join(notifications, notifications.c.id == occurrences.c.notification_id)
                    .where(occurrences.c.dropped.is_(None))
                )
                return list(rows)

        times: dict[tuple[int, str, str], int] = defaultdict(int)
        for row in self._do(told()):
            times[row.record_id, row.ladder, row.stage] += 1
        assert all(count == 1 for count in times.values()), dict(times)
        self._check_closed()

    def _check_closed(self) -> None:
        for (kind, ref), newest in self.model.newest.items():
            if newest.status not in CLOSED:
                self.told_when_closed.pop((kind, ref), None)
                continue
            (row,) = self._do(self.app.store.records.find(ref, kind))
            sent = self._do(self._sent(row.id))
            assert self.told_when_closed.setdefault((kind, ref), sent) == sent, newest

    async def _sent(self, record_id: int) -> int:
        async with self.app.store.database.read() as connection:
            found = await connection.execute(
                select(func.count())
                .select_from(occurrences)
                .join(notifications, notifications.c.id == occurrences.c.notification_id)
                .where(
                    occurrences.c.record_id == record_id,
                    occurrences.c.dropped.is_(None),
                    notifications.c.accepted_at.is_not(None),
                )
            )
            return int(found.scalar_one())


def test_any_order_of_events_and_scans_gives_what_the_model_says() -> None:
    run_state_machine_as_test(
        Orders,
        settings=settings(
            max_examples=15,
            stateful_step_count=20,
            phases=[Phase.generate],
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
