"""Whom to write to, decided before anything runs by an oracle that shares no code with the product.

A message is one statement of a partner of its own with one person of finance, so that a message is
one recipient: its key is the local part of the mail address (`n0001234@t.example`), or the end of
the mobile number. Statements that are confirmed already, disputed, or whose only person is inactive
are among them: nobody may be told of those.
"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

MOOT_SHARE = 0.05
"""As many more as must be sent: they are there to be left alone."""
NUMBER_BASE = 13_800_000_000
OPENED_BEFORE_S = 7200
STAGE = "now"
CADENCE: dict[str, object] = {
    "scan_every_s": 10,
    "stages": {
        **{name: {"off": True} for name in ("T-5", "T-2", "T-0", "ended", "waiting")},
        **{name: {"off": True} for name in ("+1", "+3", "+7")},
        STAGE: {
            "when": "opened + 1 hour",
            "tell": [{"role": "finance", "by": ["mail", "sms"]}],
        },
    },
}
"""One stage that is due an hour after the statement was made: at once, at whatever time it runs."""


@dataclass(frozen=True, slots=True)
class Expected:
    """One message as the oracle wants it. `due` is in epoch seconds.

    `repeat`: what follows when nobody knows whether it was taken, `resend` or `park`.
    """

    key: str
    channel: str
    must_send: bool
    why: str
    repeat: str
    due: float


def populate(
    folder: Path, count: int, rng: random.Random, *, sms_share: float = 0.0, first: int = 0
) -> list[Expected]:
    """Writes expected.jsonl, contacts.csv and statements.csv; `count` must be sent, and more not.

    `first` is where numbering begins, for those who load in parts; expected.jsonl is appended to.
    """
    now = datetime.now(UTC).timestamp()
    expected: list[Expected] = []
    sent = 0
    while sent < count:
        number = first + len(expected)
        channel = "sms" if rng.random() < sms_share else "mail"
        why = rng.choice(MOOT) if rng.random() < MOOT_SHARE else "open"
        must = why == "open"
        sent += must
        repeat = "resend" if channel == "mail" else "park"
        expected.append(
            Expected(key_of(number, channel), channel, must, why, repeat, round(now, 3))
        )
    with (folder / "expected.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(one)) + "\n" for one in expected)
    opened = datetime.fromtimestamp(now - OPENED_BEFORE_S, UTC).isoformat()
    _write(folder / "contacts.csv", CONTACT, _contacts(expected))
    _write(folder / "statements.csv", STATEMENT, _statements(expected, opened))
    return expected


MOOT = ("confirmed", "disputed", "inactive")
CONTACT = ("partner", "ref", "role", "name", "mail", "mobile", "language", "channels", "active")
STATEMENT = ("ref", "partner", "statement_kind", "generated_at", "amount_incl_tax", "status")


def key_of(number: int, channel: str) -> str:
    """The key of a message: `n0001234` by mail, `s0001234` by SMS."""
    return f"{'s' if channel == 'sms' else 'n'}{number:07d}"


def key_of_mobile(mobile: str) -> str:
    """The key that a mobile number carries."""
    return key_of(int(mobile.lstrip("+").removeprefix("86")) - NUMBER_BASE, "sms")


def _contacts(expected: Sequence[Expected]) -> Iterator[Sequence[object]]:
    for one in expected:
        number = int(one.key[1:])
        mail = f"{one.key}@t.example" if one.channel == "mail" else ""
        mobile = f"+86{NUMBER_BASE + number}" if one.channel == "sms" else ""
        active = "no" if one.why == "inactive" else "yes"
        who = (f"P-{one.key}", f"C-{one.key}", "finance", f"Name {number}", mail, mobile)
        yield (*who, "en", one.channel, active)


def _statements(expected: Sequence[Expected], opened: str) -> Iterator[Sequence[object]]:
    status = {"confirmed": "CONFIRMED", "disputed": "DISPUTED"}
    for one in expected:
        amount = f"{100 + int(one.key[1:]) % 900}.00"
        stands = status.get(one.why, "PENDING")
        yield (f"S-{one.key}", f"P-{one.key}", "KOOGALLERY", opened, amount, stands)


def _write(path: Path, head: Sequence[str], rows: Iterator[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)
