"""What statements and incentives share: finance has a bill to act on before a day.

A payment that names the bill goes on in its stead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from schedules.calendar import WorkingCalendar
from schedules.rule import (
    Assessment,
    Deadline,
    Related,
    Rule,
    State,
    Tell,
    end_of_day,
    stage,
)
from schedules.rules.payment import stands_for_its_bills

WORKING_DAYS: Mapping[str, int] = {"FH": 14, "ACTIVITY": 40}
"""Within how many working days of generation a bill must be acted on, by what it is for; those of
staff and activities lapse then.
"""

_FINANCE = Tell("finance")
_FINANCE_SMS = Tell("finance", ("mail", "sms"))
_ADMINISTRATOR = Tell("administrator")

AROUND_THE_DEADLINE = (
    stage("T-5", "due - 5 working days", _FINANCE),
    stage("T-2", "due - 2 working days", _FINANCE_SMS),
    stage("T-0", "due - 0 working days", _FINANCE_SMS, _ADMINISTRATOR, urgent=True, required=True),
    # A mail at midnight, when the day ends, helps nobody: the next working morning does.
    stage(
        "ended",
        "due + 1 working day",
        Tell("finance", message="ended"),
        Tell("administrator", message="ended"),
        after_deadline=True,
    ),
)
"""The stages of a bill that has a deadline."""

WITHOUT_A_DEADLINE = (
    stage("+3", "opened + 3 working days", _FINANCE),
    stage("+7", "opened + 7 working days, then every 5 working days", _FINANCE, _ADMINISTRATOR),
)
"""The stages of a bill that has none."""


class Bill(Rule):
    """A bill that finance acts on, or a payment does."""

    def counted(
        self, what_for: str, generated_at: datetime, effect: str, calendar: WorkingCalendar
    ) -> Deadline | None:
        """The end of the last working day for a bill of a kind that lapses; None for the others."""
        count = WORKING_DAYS.get(what_for)
        if count is None:
            return None
        last = calendar.after(generated_at.astimezone(self.zone).date(), count)
        return Deadline(end_of_day(last.day, self.zone), effect, last.provisional)

    def in_light_of(
        self, data: Any, related: Sequence[Related], assessment: Assessment, deadline: Deadline
    ) -> tuple[Assessment, Deadline]:
        """Closed by a payment that is past its review and names it."""
        payments = sorted(one.ref for one in related if stands_for_its_bills(one))
        if payments and assessment.state is not State.CLOSED:
            assessment = Assessment(State.CLOSED, f"payment {payments[0]} bills it")
        return assessment, deadline
