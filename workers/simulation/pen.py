"""What all made-up histories are written with: chance, moments of an office, and what goes wrong
on the way: events that come late, twice, or after newer ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from random import Random
from typing import Any

from workers.simulation import names
from workers.simulation.days import BEIJING, DAY, earlier, here, later, working
from workers.simulation.events import Event

# The partner centre's exports come twice a day; a minute past nine and half past are between what
# is planned then and its delivery.
HANDED_ON = (time(8, 50), time(9, 1), time(9, 31), time(14, 15))
# What a producer may leave out of a later event: it keeps its value then.
MAY_BE_LEFT_OUT = [
    "url",
    "period",
    "solution",
    "progress",
    "discount",
    "path",
    "expected_amount",
    "link_label",
    "owner",
    "inviter",
    "lead",
]


@dataclass(slots=True)
class Pen:
    """Writes one partner's year. `start` and `end` are aware UTC; `chinese` is how it is named.

    `busy` is how much happens, 1 for a usual year.
    """

    chance: Random
    start: datetime
    end: datetime
    partner: str
    chinese: bool = True
    busy: float = 1.0
    contacts: dict[str, list[str]] = field(default_factory=dict)
    _numbers: dict[str, int] = field(default_factory=dict)

    # --- chance ---------------------------------------------------------------------------

    def maybe(self, likely: float) -> bool:
        """True with this likelihood."""
        return self.chance.random() < likely

    def happens(self, likely: float) -> bool:
        """As `maybe`, more often in a busy life."""
        return self.maybe(min(1.0, self.busy * likely))

    def times(self, rate: float) -> int:
        """How often something of a rate per year happens in the span, at random."""
        mean = self.busy * rate * (self.end - self.start) / (365 * DAY)
        count, left = 0, 1.0
        limit = 2.718281828459045 ** -min(mean, 500)
        while (left := left * self.chance.random()) > limit:
            count += 1
        return count

    def amount(self, least: int, most: int) -> str:
        """Money to the cent, small sums more often than large ones."""
        return f"{least + (most - least) * self.chance.random() ** 3:.2f}"

    # --- moments --------------------------------------------------------------------------

    def moment(self, day: date) -> datetime:
        """When the partner centre hands something on: some times a day, in Beijing."""
        at = self.chance.choices(HANDED_ON, (10, 2, 1, 10))[0]
        return datetime.combine(day, at, BEIJING).astimezone(UTC)

    def day(self, first: date, last: date) -> date:
        """A day of a span, nearly always a working one."""
        day = first + self.chance.randint(0, max(0, (last - first).days)) * DAY
        return day if self.maybe(0.05) or working(day) else later(day, 1)

    def some_time(self) -> datetime:
        """Any moment of the span; some things began before it."""
        return self.moment(self.day(here(self.start) - 10 * DAY, here(self.end)))

    def after(self, at: datetime, least: int, most: int) -> datetime:
        """A moment `least` to `most` days after another."""
        return self.moment(self.day(here(at) + least * DAY, here(at) + most * DAY))

    def later(self, at: datetime, days: int) -> datetime:
        """The same instant or a moment up to so many days after it."""
        return max(at, self.after(at, 0, days))

    def months(self) -> Iterator[date]:
        """The first day of each month that the span touches."""
        day = here(self.start).replace(day=1)
        while day < here(self.end):
            yield day
            day = (day + 32 * DAY).replace(day=1)

    def month_end(self, day: date) -> datetime:
        """A moment on the last working day of a day's month."""
        last = (day.replace(day=1) + 32 * DAY).replace(day=1) - DAY
        return self.moment(earlier(last, 0))

    # --- names ----------------------------------------------------------------------------

    def ref(self, prefix: str) -> str:
        """The next number of a series of this partner."""
        number = self._numbers[prefix] = self._numbers.get(prefix, 0) + 1
        return f"{prefix}-{self.partner}-{number:03}"

    def someone(self, role: str, likely: float = 0.6) -> str | None:
        """The ref of a contact of a role, of nobody known, or none at all."""
        if not self.maybe(likely):
            return None
        theirs = self.contacts.get(role)
        return (
            self.chance.choice(theirs) if theirs and self.maybe(0.9) else f"C-gone-{self.partner}"
        )

    def customer(self) -> dict[str, Any]:
        """A customer who stands in the record; some can't be reached by one way or the other."""
        number = self.chance.randrange(10_000)
        mail = f"it{number}@{self.partner.lower()}-customer.example"
        zone = "Asia/Shanghai" if self.maybe(0.9) else "Europe/Berlin"
        return {
            "customer_name": names.customer(self.chance, self.chinese),
            "customer_mail": self.chance.choice((mail,) * 8 + ("i***@customer.example", None)),
            "customer_mobile": self.chance.choice((f"+8613911{number:06}",) * 8 + (None,)),
            "customer_language": "zh-CN" if self.chinese else "en",
            "customer_time_zone": zone,
        }


class History:
    """The events of one record. What a producer sends may be late, repeated or overtaken."""

    def __init__(self, pen: Pen, kind: str, data: dict[str, Any]) -> None:
        self.pen = pen
        self.kind = kind
        self.data = {"partner": pen.partner, **data}
        self.data["url"] = f"https://partner.example.com/{kind}/{data['ref']}"
        self.order = pen.chance.choices(("version", "updated_at", ""), (5, 3, 2))[0]
        self.events: list[Event] = []
        self._count = 0

    def at(self, at: datetime, **changed: Any) -> datetime:
        """Something happened to it at an instant, which is returned."""
        chance, pen = self.pen.chance, self.pen
        self._count += 1
        self.data = {**self.data, **changed}
        if self.order == "version":
            self.data["version"] = self._count
        elif self.order == "updated_at":
            self.data["updated_at"] = at
        sent = dict(self.data)
        if self._count > 1 and pen.maybe(0.3):
            for name in chance.sample(MAY_BE_LEFT_OUT, 5):
                if name not in changed:
                    sent.pop(name, None)
        came = max(at, pen.start)
        if pen.maybe(0.05):
            came = pen.later(came, 3)
        self.events.append(Event(came, self.kind, sent))
        if pen.maybe(0.06):
            self.events.append(Event(pen.later(came, 2), self.kind, sent))
        return at
