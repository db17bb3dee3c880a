"""The real product on a database of a test's own, and made-up things to put into it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select

from schedules.rule import ContactData, PartnerData
from schedules.rules import load_rules
from workers.app import App, open_app
from workers.deliver import Delivery
from workers.intake import Incoming
from workers.render import Renderer
from workers.settings import Settings
from workers.store.tables import attempts

RULES = load_rules()
NOW = datetime(2026, 11, 24, 1, 0, tzinfo=UTC)
"""Tuesday 09:00 in Beijing, a working day: where the `clock` fixture stands."""


@asynccontextmanager
async def opened(url: str, clock: Callable[[], datetime], **settings: Any) -> AsyncIterator[App]:
    """The product with default settings except those given; the ledger must add up at the end."""
    async with open_app(Settings(database_url=url, **settings), clock=clock) as app:
        yield app
        broken = [(what, count) for what, count, _ in await app.store.operations.verify() if count]
        assert broken == []


def smtp(port: int, **more: Any) -> dict[str, Any]:
    """Settings that send mail to a relay on this machine."""
    relay = {"host": "127.0.0.1", "port": port, "tls": "none", "timeout_s": 10, **more}
    return {
        "mail": {"providers": ["smtp"], "sender": "desk@example.com"},
        "providers": {"smtp": relay},
    }


def partner(ref: str = "P1", **more: Any) -> Incoming:
    """A partner."""
    return Incoming(PartnerData.model_validate({"ref": ref, "name": f"Partner {ref}", **more}))


def contact(ref: str | None = "C1", role: str = "finance", **more: Any) -> Incoming:
    """A person of partner P1 with a mail address of their own, who wishes mail only."""
    data = {
        "partner": "P1",
        "ref": ref,
        "role": role,
        "name": ref,
        "mail": f"{ref}@example.com".lower(),
        "channels": "mail",
        "language": "en",
        **more,
    }
    return Incoming(ContactData.model_validate(data))


def record(kind: str, data: Mapping[str, Any]) -> Incoming:
    """A record of a kind from its raw fields."""
    return Incoming(RULES[kind].Data.model_validate(dict(data)), kind)


def statement(ref: str = "S1", **more: Any) -> Incoming:
    """A statement of P1 to be confirmed by Thursday 26 November, so that T-2 is due at NOW."""
    data = {
        "ref": ref,
        "partner": "P1",
        "statement_kind": "INCENTIVE",
        "generated_at": NOW - timedelta(days=5),
        "confirm_by": "2026-11-26",
        "amount_incl_tax": "100.00",
        **more,
    }
    return record("statement", data)


def invitation(ref: str = "I1", **more: Any) -> Incoming:
    """An invitation of P1 that the system mailed, dead in 60 hours, so that T-72h is due at NOW."""
    data = {
        "ref": ref,
        "partner": "P1",
        "customer_name": "Northwind",
        "customer_mail": f"{ref.lower()}@customer.example",
        "customer_language": "en",
        "origin": "ONLINE",
        "sent_at": NOW - timedelta(days=7) + timedelta(hours=60),
        **more,
    }
    return record("invitation", data)


def payment(ref: str = "F1", amount: str = "106.00", **more: Any) -> Incoming:
    """A payment of P1, approved yesterday, so that its first stage is due at NOW."""
    data = {
        "ref": ref,
        "partner": "P1",
        "programme": "FH",
        "status": "付款申请审核通过",
        "approved_at": NOW - timedelta(days=1),
        "amount_incl_tax": amount,
        "buyer_title": "Example Cloud",
        "buyer_tax_no": "91520900MA6J6CBN9Q",
        **more,
    }
    return record("payment", data)


def line(ref: str = "F1", number: int = 1, amount: str = "106.00", **more: Any) -> Incoming:
    """A line of a payment's invoice list at 6 %."""
    data = {
        "payment": ref,
        "line": number,
        "item_name": "Consulting",
        "tax_rate": "6%",
        "amount_incl_tax": amount,
        **more,
    }
    model = RULES["payment"].Line
    assert model is not None
    return Incoming(model.model_validate(data), "payment")


async def states(app: App) -> dict[str, str]:
    """Each notification's state by its recipient's address (the newest where there are several)."""
    rows = await app.store.operations.notifications(limit=5000)
    return {row.address: row.state for row in reversed(rows)}


async def inbox(app: App) -> list[str]:
    """Who was sent something, as the local inbox keeps it, in order."""
    return [row.recipient for row in reversed(await app.store.operations.kept(limit=5000))]


async def planned(app: App, *things: Any, kind: str = "statement") -> None:
    """Takes the things in and scans a rule."""
    await app.intake.take(things)
    await app.scan.run(kind)


async def reasons(app: App) -> dict[str, str]:
    """Why each notification stands where it does, by its recipient's address."""
    rows = await app.store.operations.notifications(limit=5000)
    return {row.address: row.reason for row in rows}


async def outcomes(app: App) -> list[str]:
    """What came of all attempts, in order."""
    async with app.store.database.read() as connection:
        found = await connection.execute(select(attempts.c.outcome).order_by(attempts.c.id))
        return list(found.scalars())


def another(app: App, renderer: Renderer | None = None) -> Delivery:
    """A second worker on the same database."""
    return Delivery(
        app.store,
        app.registry,
        renderer or app.renderer,
        app.providers,
        app.links,
        app.settings,
        app.clock,
    )
