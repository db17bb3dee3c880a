"""The demo's data set: about 40 partners, 200 contacts and 700 records around one "now".

The same seed and the same now make the same files. Everything is made up: domains end in .example
or example.com (RFC 2606), places are on no map. What is broken is broken on purpose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

from schedules.calendar import WorkingCalendar
from schedules.fields import BEIJING
from schedules.people import CustomerData, SpendData
from schedules.rule import ContactData, PartnerData, Rule
from schedules.rules import load_rules
from schedules.rules.invitation import InvitationData
from schedules.rules.payment import InvoiceLine, PaymentData
from schedules.rules.statement import StatementData
from workers.demo.kinds import pending_registrations, watched_kinds
from workers.demo.payments import MadePayment, payments, refused_payments
from workers.demo.people import (
    MadePartner,
    Numbers,
    customer,
    make_contacts,
    make_partners,
    refused_contacts,
)
from workers.demo.tables import File, Row, Table
from workers.demo.watched import (
    invitations,
    refused_invitations,
    refused_statements,
    statements,
)

SEED = 20261124
Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class DemoData:
    """What comes in: files first, then `events`; `late_events` after the scans, before sending."""

    files: tuple[File, ...]
    events: tuple[Event, ...]
    late_events: tuple[Event, ...]

    def write(self, folder: Path) -> list[Path]:
        """Writes the files into a folder that is there."""
        return [file.write(folder) for file in self.files]


def make_data(now: datetime, calendar: WorkingCalendar, seed: int = SEED) -> DemoData:
    """The data set around `now` (aware), which should be a working morning of Beijing."""
    rng = Random(seed)  # noqa: S311 - nothing here is secret
    now = now.astimezone(BEIJING).replace(microsecond=0)
    partners = make_partners(rng)
    numbers = Numbers()
    contacts = make_contacts(rng, partners, numbers)
    invited = [*invitations(rng, now, partners, numbers)]
    stated = [*statements(rng, now, partners, calendar)]
    made = [*payments(rng, now, partners, calendar)]
    others = watched_kinds(rng, now, _others(), partners, contacts, numbers, calendar)
    others["pre_registration"] += pending_registrations(rng, now, partners)
    return DemoData(
        files=(
            File("partners.csv", (Table.of("", PartnerData, _plain(partners), False),)),
            *_contact_files(contacts),
            *_invitation_files(invited, now),
            _statement_file(stated, now),
            *_payment_files(made, now),
            *_other_files(others),
            *_customer_files(rng, now, partners),
        ),
        events=_events(now, partners),
        late_events=_late_events(now, stated),
    )


def _plain(partners: Sequence[MadePartner]) -> list[Row]:
    return [partner.row for partner in partners]


def _contact_files(contacts: Sequence[Row]) -> tuple[File, File]:
    chinese = [row for row in contacts if row["language"] == "zh-CN"]
    others = [row for row in contacts if row["language"] != "zh-CN"]
    return (
        File("联系人.csv", (Table.of("", ContactData, [*chinese, *refused_contacts()], True),)),
        File("contacts-international.csv", (Table.of("", ContactData, others, False),)),
    )


def _invitation_files(made: Sequence[tuple[MadePartner, Row]], now: datetime) -> tuple[File, File]:
    chinese = [*_of(made, True), *refused_invitations(now)]
    return (
        # As the partner centre exports it.
        File("邀请记录.csv", (Table.of("", InvitationData, chinese, True),), "gb18030"),
        File(
            "invitations-international.csv",
            (Table.of("", InvitationData, _of(made, False), False),),
        ),
    )


def _statement_file(made: Sequence[tuple[MadePartner, Row]], now: datetime) -> File:
    chinese = [*_of(made, True), *refused_statements(now)]
    return File(
        "对账单-statements.xlsx",
        (
            Table.of("对账单", StatementData, chinese, True),
            Table.of("Statements", StatementData, _of(made, False), False),
            Table("填写说明", ("说明",), (("本页不是数据：导入时会被略过。",),)),
        ),
    )


def _of(made: Sequence[tuple[MadePartner, Row]], chinese: bool) -> list[Row]:
    return [row for partner, row in made if partner.chinese is chinese]


def _payment_files(made: Sequence[MadePayment], now: datetime) -> tuple[File, File]:
    chinese = [one for one in made if one.partner.chinese]
    others = [one for one in made if not one.partner.chinese]
    rows = [*(one.row for one in chinese), *refused_payments(now)]
    return (
        File(
            "申付单-开票清单.xlsx",
            (
                Table.of("申付单", PaymentData, rows, True),
                Table.of("开票清单", InvoiceLine, _all_lines(chinese), True),
            ),
        ),
        File(
            "payments-international.xlsx",
            (
                Table.of("Payments", PaymentData, [one.row for one in others], False),
                Table.of("Invoice lines", InvoiceLine, _all_lines(others), False),
            ),
        ),
    )


def _others() -> dict[str, Rule]:
    """The rules whose records are told of by files only, without data of their own here."""
    own = {"invitation", "statement", "payment"}
    rules = load_rules().items()
    return {kind: rule for kind, rule in rules if kind not in own and not rule.made_here}


def _other_files(made: Mapping[str, Sequence[tuple[MadePartner, Row]]]) -> Iterator[File]:
    """A workbook a language, with a sheet a kind that is called as the kind is."""
    rules = _others()
    for chinese, name in ((True, "其他事项.xlsx"), (False, "other-kinds-international.xlsx")):
        yield File(
            name,
            tuple(
                Table.of(
                    rules[kind].title["zh-CN"] if chinese else kind,
                    rules[kind].Data,
                    _of(rows, chinese),
                    chinese,
                )
                for kind, rows in made.items()
            ),
        )


MONTHS = 12
CUSTOMERS_EACH = (64, 23, 41)
"""Customers of the partners that have any here: what the operations digest counts."""


def _customer_files(
    rng: Random, now: datetime, partners: Sequence[MadePartner]
) -> tuple[File, File]:
    """Customers of some partners since 2022, and what they spent in the last twelve months."""
    chosen = [one for one in partners if one.chinese][4:7] + [
        one for one in partners if not one.chinese
    ][2:4]
    customers: list[Row] = []
    spends: list[Row] = []
    months = [_months_back(now, back) for back in range(MONTHS, 0, -1)]
    for at, partner in enumerate(chosen):
        for number in range(CUSTOMERS_EACH[at % len(CUSTOMERS_EACH)]):
            name, _ = customer(rng, partner.chinese, number)
            ref = f"KH-{partner.ref[2:]}-{number:03}"
            # More of late than at first, as it is with a partner that grows.
            age = timedelta(days=int(1700 * rng.random() ** 1.6) + 3)
            customers.append(
                {
                    "ref": ref,
                    "partner": partner.ref,
                    "name": name,
                    "association_type": "RESALE" if rng.random() < 0.35 else "REFERRAL",
                    "associated_on": now - age,
                    "left_on": now - age / 3 if rng.random() < 0.06 else None,
                    "account_manager": partner.sales,
                }
            )
            spends += [
                {
                    "customer": ref,
                    "partner": partner.ref,
                    "month": month,
                    "cash": Decimal(rng.randint(20_000, 9_000_000)) / 100,
                    "other": Decimal(rng.randint(0, 400_000)) / 100,
                    "currency": "CNY",
                }
                for month in months
                if rng.random() < 0.55 and now - age < now - timedelta(days=31)
            ]
    return (
        File("customers.csv", (Table.of("", CustomerData, customers, False),)),
        File("客户消费.csv", (Table.of("", SpendData, spends, True),)),
    )


def _months_back(now: datetime, count: int) -> str:
    year, month = divmod(now.year * 12 + now.month - 1 - count, 12)
    return f"{year}-{month + 1:02}"


def _all_lines(made: Sequence[MadePayment]) -> list[Row]:
    return [line for one in made for line in one.lines]


# --- what producers send ------------------------------------------------------------------


def _event(number: int, kind: str, verb: str, now: datetime, data: Row) -> Event:
    return {
        "specversion": "1.0",
        "id": f"demo-{number:04}",
        "source": "https://billing.vendor.example",
        "type": f"duewatch.{kind}.{verb}.v1",
        "time": now.isoformat(),
        "datacontenttype": "application/json",
        "data": data,
    }


def _events(now: datetime, partners: Sequence[MadePartner]) -> tuple[Event, ...]:
    """A payment with its list, an invitation, one that comes twice, and two that are refused."""
    english = next(partner for partner in partners if partner.time_zone == "Asia/Singapore")
    month = f"{now:%Y%m}"
    payment = {
        "ref": f"PAY{month}-7001",
        "partner": english.ref,
        "programme": "MDF",
        "status": "APPROVED",
        "approved_at": (now - timedelta(days=4)).isoformat(),
        "amount_incl_tax": "3392.00",
        "currency": "USD",
        "post_mailbox": "invoices@vendor.example",
        "buyer_title": "Example Cloud Computing Ltd",
        "lines": [
            {"item_name": "Joint webinar", "amount_incl_tax": "2120.00", "tax_rate": "6%"},
            {"item_name": "Printed guides", "amount_incl_tax": "1272.00", "tax_rate": "6%"},
        ],
    }
    invitation = {
        "ref": f"INV-{month}-7002",
        "partner": english.ref,
        "customer_name": "Saltmarsh Bicycle Co.",
        "customer_mail": "office@saltmarsh.example",
        "customer_mobile": "+8613800009001",
        "customer_language": "en",
        "customer_time_zone": "Asia/Singapore",
        "origin": "ONLINE",
        "sent_at": (now - timedelta(days=6, hours=8)).isoformat(),
        "url": f"https://partner.example.com/i/inv-{month}-7002",
    }
    first = _event(1, "payment", "opened", now, payment)
    wrong = {**payment, "ref": f"PAY{month}-7003", "amount_incl_tax": "3.392,00"}
    return (
        first,
        _event(2, "invitation", "opened", now, invitation),
        first,  # a producer that wasn't sure sends again
        _event(3, "payment", "opened", now, wrong),
        _event(4, "rebate", "opened", now, {"ref": "R-1"}),
    )


def _late_events(now: datetime, stated: Sequence[tuple[MadePartner, Row]]) -> tuple[Event, ...]:
    """A statement whose last day is today, confirmed just before its reminder would have left."""
    today = now.date()
    due = next(row for _, row in stated if row["confirm_by"] == today)
    data = {
        "ref": due["ref"],
        "partner": due["partner"],
        "statement_kind": due["statement_kind"],
        "generated_at": due["generated_at"].isoformat(),
        "confirm_by": today.isoformat(),
        "amount_incl_tax": str(due["amount_incl_tax"]),
        "currency": due["currency"],
        "status": "CONFIRMED",
    }
    return (_event(5, "statement", "closed", now, data),)
